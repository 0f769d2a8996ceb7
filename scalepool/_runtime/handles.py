"""Handles of actors, and their methods, in whatever process has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from scalepool._base.tuples import NamedTuple
from scalepool._core.task import PLAIN
from scalepool._runtime.group import terms_of
from scalepool._runtime.instance import Method, actor_id, actor_meta, note_own_call
from scalepool._runtime.options import FOR_EVER, changed, check_count
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.returning import Returning, check_ahead, check_returns, checked_kinds, kinds_of
from scalepool._runtime.session import current
from scalepool._runtime.values import values_of
from scalepool._wire.actors import EndActor, EndMode
from scalepool._wire.payload import dumps_inline, loads_inline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._core.task import Terms
    from scalepool._runtime.functions import Function
    from scalepool._runtime.refs import ObjectRef

__all__ = ["ActorHandle", "ActorMeta", "ActorMethod", "MethodOptions"]

_RETRIES: Final = 3
"""How often a call with ``retry_exceptions`` is tried again where nothing is said, as with remote functions."""
_MARKED: Final = "marked"
"""In place of exceptions: those that the class says."""


class MethodOptions(NamedTuple):
    """How the calls of a method run; see ``scalepool.method`` for what each means."""

    num_returns: int | str | None = None
    timeout_s: float | None = None
    concurrency_group: str = ""
    max_task_retries: int | None = None
    name: str | None = None
    generator_backpressure: int | None = None
    retry_exceptions: bool | str | tuple[type[BaseException], ...] = False

    def updated(self, changes: Mapping[str, Any]) -> MethodOptions:
        """Return these options with some others.

        Raises
        ------
        TypeError, ValueError
            When one of them does not exist, or has a value that makes no sense.
        """
        options = changed(self, changes, "a method")
        given: tuple[Any, ...] = options  # whatever the caller has written
        returns, timeout_s, group, retries, name, ahead, kinds = given
        check_returns(returns)
        check_ahead(ahead)
        check_count("max_task_retries", retries, none=True)
        if not isinstance(group, str) or (name is not None and not isinstance(name, str)):
            raise TypeError("concurrency_group and name must be a str")
        terms_of(timeout_s, 0)
        return options if "retry_exceptions" not in changes else options._replace(retry_exceptions=checked_kinds(kinds))

    @property
    def kinds(self) -> tuple[type[BaseException], ...] | None:
        """The exceptions after which a call is tried again; ``None``: only the class knows them."""
        kinds = self.retry_exceptions
        return None if isinstance(kinds, str) else kinds_of(kinds)

    def travelling(self) -> MethodOptions:
        """Return the same for a handle in another process, which may not have the class's exceptions."""
        return self._replace(retry_exceptions=_MARKED) if isinstance(self.retry_exceptions, tuple) else self

    def terms(self, retries: int) -> Terms:
        """The same for the hub; ``retries`` is what the actor says."""
        own = self.max_task_retries if self.max_task_retries is not None else retries
        if self.retry_exceptions and self.max_task_retries is None and not retries:
            own = _RETRIES
        return terms_of(self.timeout_s, FOR_EVER if own < 0 else own) if own or self.timeout_s else PLAIN


class ActorMeta(NamedTuple):
    """What a handle knows of its actor's class.

    Attributes
    ----------
    cls
        Its name.
    name
        The actor's own name, empty for none.
    methods
        The options of each method.
    others
        Attributes that are no methods, and why: what a direct access says.
    groups
        Concurrency groups.
    max_task_retries
        For methods that say nothing else.
    is_gate
        Whether the handle is one of a cluster's detached actor, in a program; see `detached`.
    """

    cls: str
    name: str
    methods: Mapping[str, MethodOptions]
    others: Mapping[str, str]
    groups: tuple[str, ...]
    max_task_retries: int
    is_gate: bool = False

    def packed(self) -> bytes:
        """Return it as bytes."""
        plain = {name: tuple(options.travelling()) for name, options in self.methods.items()}
        rest = dict(self.others), self.groups, self.max_task_retries, self.is_gate
        return dumps_inline((self.cls, self.name, plain, *rest))


_metas: dict[bytes, ActorMeta] = {}


def meta_of(packed: bytes) -> ActorMeta:
    """Return what was packed; the same object for the same bytes."""
    found = _metas.get(packed)
    if found is None:
        cls, name, methods, *rest = loads_inline(packed)
        methods = {name: MethodOptions(*options) for name, options in methods.items()}
        found = ActorMeta(cls, name, methods, *rest)
        while len(_metas) > 1000:
            _metas.pop(next(iter(_metas)), None)
        _metas[packed] = found
    return found


class ActorMethod:
    """A method of an actor; ``remote`` calls it there."""

    __slots__ = ("_function", "_label", "_meta", "_name", "_options", "_ref", "_returning", "_terms")

    def __init__(self, ref: ObjectRef[Any], meta: ActorMeta, name: str, options: MethodOptions) -> None:
        self._ref = ref
        self._meta = meta
        self._name = name
        self._options = options
        self._returning = Returning(options.num_returns, options.generator_backpressure, _nothing)
        self._label = options.name or f"{meta.cls}.{name}"
        self._terms = options.terms(meta.max_task_retries)
        self._function: Function | None = None

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method in the actor's process; return an ObjectRef for the result, or with ``num_returns=n`` a list.

        A generator method's call returns an ObjectRefGenerator, one with ``num_returns=0`` ``None``.

        Calls that come from one task, or from the main program, start in the order in which they were made. So one that
        waits for an ObjectRef among its arguments holds up those behind it, as in Ray.

        Raises
        ------
        SerializationError
            When an argument cannot be pickled.
        SessionError
            When the session has ended, or a reference belongs to another one.
        """
        ref = self._ref
        values = ref._table()
        function = self._function or self._export()
        returning = self._returning
        # Of a detached actor's calls the terms are for another hub to keep, and travel with the function.
        terms = PLAIN if self._meta.is_gate else self._terms
        kept = KeptCall(self._label, returning.number, terms, current().kept_task)
        refs = values.enqueue(ref.id, function, values.pack((args, kwargs), kept), kept)
        if ref.id == actor_id():
            note_own_call(values.table[refs[0].id])
        return returning.of(refs)

    def options(self, **changes: Any) -> ActorMethod:
        """Return the same method with other options; takes what ``scalepool.method`` takes, and ``name``."""
        options = self._options.updated(changes)
        if options.concurrency_group and options.concurrency_group not in self._meta.groups:
            raise ValueError(_NO_GROUP.format(options.concurrency_group, self._meta.cls, list(self._meta.groups)))
        return ActorMethod(self._ref, self._meta, self._name, options)

    def _export(self) -> Function:
        client = self._ref._table().client
        options = self._options
        kinds = options.kinds
        times = 0 if kinds == () else self._terms.max_retries
        method = Method(self._meta.cls, self._name, options.concurrency_group, self._returning.way, kinds, times)
        self._function = client.exporter.export(method)
        if self._meta.is_gate:
            from scalepool._runtime.detached import through_gate

            self._function = through_gate(self._function, self._label, self._terms, self._returning)
        return self._function

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Methods of actors are not called directly."""
        raise TypeError(
            f"{self._meta.cls}.{self._name} is a method of an actor, which lives in another process: call it as "
            f"{self._name}.remote(...), and get() the result"
        )

    def __repr__(self) -> str:
        return f"<ActorMethod {self._label} of {self._ref.id}>"


def _nothing() -> None:
    """Stands for a method of which is known already whether it is a generator function."""


_NO_GROUP: Final = "there is no concurrency group {!r} in {}, only {}"


class ActorHandle:
    """Stands for an actor, wherever that is: ``handle.method.remote(...)`` calls a method.

    Handles are counted across processes as ObjectRefs are, also inside of arguments, results and other values. When the
    last one is gone the actor finishes what it was called for, and ends. Mirrors Ray's ``ActorHandle``.
    """

    _ref: ObjectRef[Any]
    _meta: ActorMeta

    def __init__(self, ref: ObjectRef[Any], meta: ActorMeta) -> None:
        self.__dict__.update(_ref=ref, _meta=meta)
        if ref._values is not None:
            ref._values.actors.add(ref.id)

    def __getattr__(self, name: str) -> ActorMethod:
        meta: ActorMeta = self.__dict__["_meta"]
        options = meta.methods.get(name)
        if options is None:
            why = meta.others.get(name)
            if why is not None:
                raise AttributeError(f"{meta.cls}.{name} is {why}: only methods can be reached through a handle")
            raise AttributeError(f"actor class {meta.cls} has no method {name!r}")
        # The method has the reference, not the handle: a cycle would keep the actor until the collector comes.
        method = self.__dict__[name] = ActorMethod(self.__dict__["_ref"], meta, name, options)
        return method

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name!r}: a handle is not the object, which lives in another process")

    def __dir__(self) -> list[str]:
        return sorted(self._meta.methods)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._ref == self._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __copy__(self) -> ActorHandle:
        return self

    def __deepcopy__(self, _: object) -> ActorHandle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._ref, self._meta.packed())

    def __repr__(self) -> str:
        name = f" named {self._meta.name!r}" if self._meta.name else ""
        return f"<ActorHandle {self._ref.id} of {self._meta.cls}{name}>"


def _rebuild(ref: ObjectRef[Any], packed: bytes) -> ActorHandle:
    return ActorHandle(ref, meta_of(packed))


def own_handle() -> ActorHandle:
    """Return a handle of the actor that this process is.

    Raises
    ------
    RuntimeError
        When it is none.
    """
    actor = actor_id()
    if not actor:
        raise RuntimeError("current_actor is a handle of the actor whose code asks for it; this is no actor")
    meta = meta_of(actor_meta())
    return ActorHandle(values_of(current().client).adopt(actor, actor, f"{meta.cls}()"), meta)


def end(handle: ActorHandle, mode: EndMode) -> None:
    """End an actor; returns when the hub has been told."""
    ref = handle._ref
    if handle._meta.is_gate:
        from scalepool._runtime.detached import end_detached

        end_detached(handle, mode)
        return
    ref._table().client.post(EndActor(ref.id, mode), now=True)
