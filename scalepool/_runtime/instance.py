"""An actor's object inside its worker: making it, and finding its methods."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NoReturn

from scalepool._base.qualified import imported, lookup
from scalepool._base.tuples import NamedTuple
from scalepool._runtime.session import WorkerSession, existing
from scalepool._wire.actors import EndActor, EndMode
from scalepool.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scalepool._runtime.slots import Slot

__all__ = [
    "ActorExit", "Creation", "Method", "Plan", "actor_class", "actor_id", "actor_meta", "actor_name", "check_wait",
    "exit_actor", "let_go", "note_own_call", "was_restarted",
]  # fmt: skip


_ALL: Final = 1 << 40
_CALLS_MAX: Final = 1000
MARK: Final = "__scalepool_method__"
"""Attribute of methods that have options of their own: what these are."""
LOOP_NAME: Final = "actor-loop"
"""Of the thread that runs an actor's event loop."""


class ActorExit(SystemExit):
    """Raised by ``exit_actor`` to leave the method; nobody ever sees it."""


class Plan(NamedTuple):
    """How an actor runs its calls.

    Attributes
    ----------
    is_async
        They run on an event loop, in one thread.
    limits
        How many of each concurrency group may run at once; that of most methods has an empty name.
    memory_bytes
        What it may have beside what its process has before the object is made; 0: as much as it likes.
    name
        The actor's own name; empty: it has none.
    meta
        What makes a handle of it, see ``ActorMeta``.
    """

    is_async: bool
    limits: Mapping[str, int]
    memory_bytes: int = 0
    name: str = ""
    meta: bytes = b""

    @property
    def concurrency(self) -> int:
        """How many calls the process should have at hand: with groups all, as only it knows which of them may run."""
        return self.limits[""] if len(self.limits) == 1 else _ALL

    @property
    def is_plain(self) -> bool:
        """Whether one call runs after the other, in the main thread, as tasks do."""
        return not self.is_async and sum(self.limits.values()) == 1


class _Own:
    """What is an actor in this process."""

    __slots__ = (
        "calls", "cls", "exited", "instance", "is_async", "is_plain", "is_there", "meta", "name", "number", "starts",
    )  # fmt: skip

    def __init__(self) -> None:
        self.instance: Any = None
        self.is_there = False
        self.exited = False
        self.is_plain = True
        self.is_async = False
        self.number = 0
        self.cls = ""
        self.name = ""
        self.meta = b""
        self.starts = 0
        self.calls: dict[int, Slot] = {}
        """Calls that it has made of itself."""


_own = _Own()


class Creation:
    """The function of the task that makes an actor: calls the class, and keeps what it returns."""

    def __init__(self, cls: type[Any], plan: Plan) -> None:
        self.fn = cls
        self.plan = plan

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Make the object."""
        session = existing()
        assert isinstance(session, WorkerSession)
        _own.number = session.parent_group
        _own.is_plain, _own.is_async = self.plan.is_plain, self.plan.is_async
        item = session.station.executor.item
        _own.cls, _own.meta = self.fn.__qualname__, self.plan.meta
        _own.name, _own.starts = self.plan.name, 1 if item is None else item.attempt
        if self.plan.memory_bytes:
            from scalepool._runtime.allowance import allow

            allow(self.plan.memory_bytes)
        if self.plan.is_plain:
            _own.instance = self.fn(*args, **kwargs)
        else:
            from scalepool._runtime.concurrency import Concurrency

            concurrency = Concurrency(session.station, session.client, self.plan)
            _own.instance = concurrency.call(self.fn, args, kwargs)
            session.station.concurrency = concurrency
        _own.is_there = True

    def __reduce__(self) -> tuple[Any, ...]:
        module, qualname = self.fn.__module__, self.fn.__qualname__
        if is_found_by_name(self.fn):
            return _restore, (module, qualname, tuple(self.plan))
        return _make, (self.fn, tuple(self.plan))


class Method:
    """The function of a call: the method ``name`` of this process's actor; ``cls`` is for people.

    ``way`` says what becomes of its result; see ``Returning``. It is tried again up to ``times`` times when it raises
    one of ``kinds``, or with ``None`` one of those that the class says.
    """

    def __init__(
        self,
        cls: str,
        name: str,
        group: str = "",
        way: str = "",
        kinds: tuple[type[BaseException], ...] | None = (),
        times: int = 0,
    ) -> None:
        self.way = way
        self.times = times
        self._kinds = kinds
        self.__qualname__ = f"{cls}.{name}"
        self.cls = cls
        self.name = name
        self.group = group

    def bound(self) -> Callable[..., Any]:
        """Return the method itself; raises AttributeError where there is none."""
        if not _own.is_there or _own.exited:
            raise ActorExit  # the hub has ended this call already
        method: Callable[..., Any] = getattr(_own.instance, self.name)
        return method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.bound()(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Method, (self.cls, self.name, self.group, self.way, self._kinds, self.times)

    @property
    def kinds(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which it is tried again."""
        if self._kinds is None:
            from scalepool._runtime.returning import checked_kinds, kinds_of

            marked = getattr(getattr(_own.instance, self.name), MARK, {})
            self._kinds = kinds_of(checked_kinds(marked.get("retry_exceptions", False)))
        return self._kinds


def note_own_call(slot: Slot) -> None:
    """The actor calls itself."""
    if len(_own.calls) > _CALLS_MAX:
        _own.calls = {task: own for task, own in _own.calls.items() if not own.is_over}
    _own.calls[slot.task] = slot


def check_wait(slots: Iterable[Slot]) -> None:
    """Raise DeadlockError where an actor would wait for itself, for ever; called in the thread that is to wait."""
    if not _own.calls:
        return
    # A thread that a method has started may outlive it.
    thread = threading.current_thread()
    if thread.name != LOOP_NAME and not (_own.is_plain and thread is threading.main_thread()):
        return
    for slot in slots:
        if slot.task in _own.calls and not slot.is_over:
            remedy = "await it" if _own.is_async else "call the method itself, or set max_concurrency"
            raise DeadlockError(f"{slot.name} cannot run before this method of the same actor has ended: {remedy}")


def actor_id() -> int:
    """Return the number of the actor that this process is; 0: none."""
    return _own.number


def actor_name() -> str:
    """Return the name of the actor that this process is; empty: it has none."""
    return _own.name


def actor_meta() -> bytes:
    """Return what makes a handle of the actor that this process is."""
    return _own.meta


def actor_class() -> str:
    """Return the name of the class of the actor that this process is; empty: it is none."""
    return _own.cls


def was_restarted() -> bool:
    """Whether this process's actor has been made before, in another process."""
    return _own.starts > 1


def exit_actor() -> NoReturn:
    """See ``scalepool.exit_actor``."""
    session = existing()
    if not _own.number or not isinstance(session, WorkerSession):
        raise RuntimeError("exit_actor() ends the actor whose method calls it; this is no actor")
    if not _own.is_there:
        raise RuntimeError("exit_actor() cannot be called in a constructor: raise an exception instead")
    _own.exited = True  # nothing that has been queued here may start any more
    session.station.flush()
    session.client.post(EndActor(_own.number, EndMode.EXIT), now=True)
    raise ActorExit


def let_go() -> None:
    """Drop the object, before the process ends: what it does in ``__del__`` is done."""
    _own.instance = None


def is_found_by_name(cls: type[Any]) -> bool:
    """Whether workers can import the class, or the actor class made of it."""
    from scalepool._wire.pickling.importable import by_value_modules

    module = getattr(cls, "__module__", None)
    if module is None or module in by_value_modules().names():
        return False
    return getattr(lookup(module, cls.__qualname__), "actor_class", None) is cls


def _restore(module: str, qualname: str, plan: tuple[Any, ...]) -> Creation:
    return Creation(imported(module, qualname).actor_class, Plan(*plan))


def _make(cls: type[Any], plan: tuple[Any, ...]) -> Creation:
    return Creation(cls, Plan(*plan))
