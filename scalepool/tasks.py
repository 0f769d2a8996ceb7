"""Remote functions and references to their results: what is under ``scalepool.remote``, ``scalepool.get`` and so on.

A remote call returns an ObjectRef at once. References go into further calls, which start when what they stand for is
there: the session sequences them by itself, wherever the caller is by then.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from scalepool._runtime import puts as _puts
from scalepool._runtime.actors import ActorClass, ActorOptions
from scalepool._runtime.completed import NO_TIME, Completed, slots_of
from scalepool._runtime.generators import DynamicObjectRefGenerator, ObjectRefGenerator
from scalepool._runtime.instance import check_wait
from scalepool._runtime.recovery import load
from scalepool._runtime.refs import ObjectRef
from scalepool._runtime.remote import Options, RemoteFunction
from scalepool._runtime.session import current
from scalepool._runtime.slots import Gathering
from scalepool._runtime.values import deadline_of, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType
    from typing import Literal

__all__ = [
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
    "as_completed",
    "cancel",
    "get",
    "put",
    "remote",
    "wait",
]

R = TypeVar("R")
T = TypeVar("T")

W = TypeVar("W", bound="ObjectRef[Any] | ObjectRefGenerator[Any]")

_NOTHING: Final = object()
_WAITABLE: Final = (ObjectRef, ObjectRefGenerator)
_CO_COROUTINE: Final = 0x80  # of inspect, which would have to be loaded for it
_warned: list[bool] = []


@overload
def remote(function: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]  # a class is a callable, too


@overload
def remote(function: Callable[..., R], /) -> RemoteFunction[R]: ...


@overload
def remote(**options: Any) -> Any: ...


def remote(function: Any = _NOTHING, /, **options: Any) -> Any:
    """Make a function remote, or a class: ``@scalepool.remote``, ``@scalepool.remote(...)`` or ``scalepool.remote(f)``.

    A class becomes an ActorClass: each object of it lives in a process of its own. Mirrors ``ray.remote``. Different:
    a task whose worker process died is not run again unless ``max_retries`` says so (Ray: three times); what the
    function raises is raised by ``get`` as it is, with the worker's traceback as its cause, not inside of a
    ``RayTaskError``.

    Parameters
    ----------
    function
        A function or another callable, or a class. Coroutine functions run in an event loop of their own, which Ray
        refuses.
    num_returns
        How many values a call makes; with more than one the function returns a sequence of so many, and ``remote()`` a
        list of references. 0: the function runs, and ``remote()`` returns ``None``; what it raises goes to stderr.
        ``"streaming"``, the default of generator functions: ``remote()`` returns an ObjectRefGenerator at once.
        ``"dynamic"``: one reference, whose value is a DynamicObjectRefGenerator of all that the function yields.
    generator_backpressure
        How many values a stream may be ahead of its reader; then it waits, and lends its worker's slot. -1: no limit.
        It also waits when those values, as far as they are large, are as many bytes as arguments may be under way.
        Default 1000; Ray has no limit unless ``_generator_backpressure_num_objects`` is given, which is understood.
    max_retries
        How often a task that had started may be started again: when its worker process died, or it raised one of
        ``retry_exceptions``. -1: any number of times. Default 0, and 3 with ``retry_exceptions``.
    retry_exceptions
        True: try again whatever exception it raises; or the classes after which to try again. Each try gets its
        arguments afresh.
    timeout_s
        How long each try of the task may take, in seconds from its start; then it is stopped, with its worker process,
        and ``get`` raises TaskTimeoutError. Ray has no such limit.
    name
        What errors and references call the task; default the function's name.
    num_cpus, num_gpus, resources
        What a call holds while it runs, and an actor while it lives: numbers, which may be fractions, and a dict of
        names and numbers. Default: one CPU for a call, nothing for an actor. What never fits raises ResourceError where
        the call is made; what does not fit now waits.
    memory
        Bytes, or a text such as ``"2 GB"``: reserved in the same way, and all the memory that it may have beside what
        its process has before; more is a MemoryError. Ray only reserves it.
    label_selector
        Labels and the values that its host must have: ``{"zone": "a"}``; see ``scalepool worker --labels``. Ray's
        operators (``in(...)``, ``!``) are not there.

    max_concurrency
        Of a class, as all that follow: how many calls of methods may run at once, each in a thread; 1 if it is not
        given. With ``async`` methods all run on one event loop, up to 1000 at once if it is not given.
    concurrency_groups
        Names and how many calls of each group may run at once, beside those without a group; see ``scalepool.method``.
    max_restarts
        How often the object is made anew, with the same arguments, when its process has died; -1: any number of times.
        Calls that ran fail with ActorUnavailableError, those that had not started run in the new one.
    max_task_retries
        How often a call that ran then is tried again instead; -1: any number of times.
    name, namespace
        With a name anybody in the session gets a handle by ``scalepool.get_actor``.
    get_if_exists
        With a name: ``remote()`` returns a handle of the actor that has it already, if there is one.
    lifetime
        ``"detached"``: it lives until ``scalepool.kill`` or the end of the session, not until the last handle is gone;
        on a cluster until that ends, also when its program is gone.

    Raises
    ------
    TypeError
        When it is no function or class, or an option is unknown.
    ValueError
        When an option makes no sense.
    """
    if function is not _NOTHING:
        if options:
            raise TypeError("give options to remote() alone: remote(num_returns=2)(function)")
        return ActorClass(function) if isinstance(function, type) else RemoteFunction(function)
    _check_options(options)

    def decorate(function: Any) -> Any:
        if isinstance(function, type):
            return ActorClass(function, ActorOptions().updated(options))
        return RemoteFunction(function, Options().updated(options))

    return decorate


def put(value: Any) -> ObjectRef[Any]:
    """Keep a value in the session, and return a reference to it: large arrays are copied once, into shared memory.

    Mirrors ``ray.put``.

    Raises
    ------
    TypeError
        When ``value`` is itself a reference, or a generator of references.
    SerializationError
        When it cannot be pickled.
    StoreError
        When there is no shared memory left.
    """
    if isinstance(value, _WAITABLE):
        raise TypeError(f"{value!r} is a reference already, or yields them; there is nothing to put")
    return _puts.put(values_of(current().client), value)


def get(refs: Any, *, timeout: float | None = None, copy: Literal["never", "private"] = "never") -> Any:
    """Wait for values, and return them.

    Mirrors ``ray.get``; lists, tuples and dicts of references may be nested, and come back in the same shape.

    Parameters
    ----------
    refs
        A reference, or a list, tuple or dict (of lists, tuples, dicts ...) of references.
    timeout
        Seconds to wait in all; ``None``: as long as it takes. Inside a task its slot is lent meanwhile.
    copy
        ``"never"``: the arrays in them are read-only, large ones lie in shared memory, all readers read the same bytes.
        ``"private"``: arrays are writable, and copied page by page where they are written.

    Raises
    ------
    TimeoutError
        When time was up first.
    TaskCancelledError, TaskTimeoutError, WorkerDiedError, ObjectLostError
        When a task was cancelled, took too long, its worker died, or nobody keeps the value any more.
    SessionError
        When the session has ended, or a reference belongs to another one.
    DeadlockError
        When an actor waits for a call that cannot start before the wait is over: one of its own, or of another actor
        that waits for this one. Ray hangs.
    Exception
        What the first task that failed, in the order of ``refs``, has raised; others may still run then.
    """
    if copy not in ("never", "private"):
        raise ValueError(f"copy must be 'never' or 'private', not {copy!r}")
    deadline = deadline_of(timeout)
    flat: list[ObjectRef[Any]] = []
    try:
        _flatten(refs, flat)
    except RecursionError:
        raise ValueError("get() takes no list that contains itself, or that is nested so deep") from None
    if not flat:
        return _fill(refs, iter(()))
    values = flat[0]._table()
    slots = values.slots(flat)
    mode: Literal["r", "c"] = "c" if copy == "private" else "r"
    if any(slot.status < 0 for slot in slots):
        _warn_in_event_loop()
        check_wait(slots)
        gathering = Gathering(values, slots)
        if not gathering.wait(deadline):
            missing = sum(not slot.is_over for slot in slots)
            raise TimeoutError(NO_TIME.format(missing, len(slots), timeout))
    for slot in slots:
        if slot.status > 0:
            values.load(slot, mode)  # raises
    loaded = iter([load(values, slot, mode, deadline) for slot in slots])
    return _fill(refs, loaded)


def wait(
    refs: Sequence[W],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,  # noqa: ARG001
) -> tuple[list[W], list[W]]:
    """Wait until ``num_returns`` of ``refs`` are over; return those, and the others, each in the order given.

    Mirrors ``ray.wait``: a task that failed counts as over, and the first list is never longer than ``num_returns``.

    Parameters
    ----------
    refs
        A list of references, each once. An ObjectRefGenerator counts as over when ``next`` would not wait. Of none
        two empty lists are returned, at once.
    num_returns
        How many to wait for.
    timeout
        Seconds; when they are over, what is over by then is returned. ``None``: as long as it takes.
    fetch_local
        Accepted as Ray has it, and without effect: values that are there can be read here.

    Raises
    ------
    TypeError
        When ``refs`` is not a list or tuple of references.
    ValueError
        When a reference is there twice, or there are fewer than ``num_returns``.
    """
    if not isinstance(refs, (list, tuple)) or not all(isinstance(ref, _WAITABLE) for ref in refs):
        raise TypeError("wait() takes a list of ObjectRefs")
    if len(set(refs)) != len(refs):
        raise ValueError("wait() takes each ObjectRef once")
    if not refs:
        return [], []
    if not 0 < num_returns <= len(refs):
        raise ValueError(f"num_returns must be from 1 to {len(refs)}, the number of references, not {num_returns}")
    values = refs[0]._table()
    deadline = deadline_of(timeout)
    slots = slots_of(values, refs)
    over = sum(slot.is_over for slot in slots)
    if over < num_returns:
        Gathering(values, slots, num_returns - over, eager=False).wait(deadline)
    ready = [ref for ref, slot in zip(refs, slots, strict=True) if slot.is_over][:num_returns]
    chosen = set(ready)
    return ready, [ref for ref in refs if ref not in chosen]


def as_completed(refs: Iterable[W], *, timeout: float | None = None) -> Completed[W]:
    """Iterate over references in the order in which their values are there, or have failed.

    Also asynchronously: ``async for ref in as_completed(refs)``. Mirrors ``concurrent.futures.as_completed``; Ray has
    only ``wait``.

    Parameters
    ----------
    refs
        References; one that is there twice is yielded once. An ObjectRefGenerator is yielded once, too, when its next
        value is there.
    timeout
        Seconds for all of them.

    Raises
    ------
    TypeError
        When there is something else in ``refs``.
    TimeoutError
        While iterating, when time is up and some are not over.
    """
    each = list(refs)
    for ref in each:
        if not isinstance(ref, _WAITABLE):
            raise TypeError(f"as_completed() takes ObjectRefs, not {ref!r}")
    return Completed(each[0]._table() if each else values_of(current().client), each, timeout)


def cancel(ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True) -> bool:
    """Cancel the task that makes this value; return whether it is cancelled now.

    Mirrors ``ray.cancel``. Different: a task that has started is not interrupted, only killed with ``force``. One that
    yields its values is closed at its next ``yield``, and cancelled then.

    Parameters
    ----------
    ref
        A reference to one of the task's values, or what it yields them to. Tasks that need it are cancelled with it.
    force
        Kill the worker process if it has started; other tasks that this one had queued run elsewhere. False where that
        process runs another task, too, which waits for this one.
    recursive
        Also cancel the tasks that it has submitted itself.
    """
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"cancel() takes an ObjectRef, not {ref!r}")
    return ref._table().cancel(ref, force=force, recursive=recursive)


def _check_options(options: dict[str, Any]) -> None:
    """Raise what is wrong with options before it is known what they are for."""
    unknown = [key for key in options if key not in Options._fields and key not in ActorOptions._fields]
    if unknown:
        known = ", ".join(dict.fromkeys((*Options._fields, *ActorOptions._fields)))
        raise TypeError(f"unknown option {unknown[0]!r}; there are {known}")
    if all(key in Options._fields for key in options):
        Options().updated(options)
    elif all(key in ActorOptions._fields for key in options):
        ActorOptions().updated(options)


def _warn_in_event_loop() -> None:
    """Say once that this holds up all other coroutines of the thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and not _warned and asyncio._get_running_loop() is not None and not _is_in_a_cell():
        _warned.append(True)
        text = "get() waits, and with it the whole event loop; await the reference, or asyncio.gather() several"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _is_in_a_cell() -> bool:
    """Tell whether this is a notebook's cell, which its kernel runs inside of a loop where everybody may wait."""
    if "IPython" not in sys.modules:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_flags & _CO_COROUTINE:
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("IPython.")


def _flatten(refs: Any, flat: list[ObjectRef[Any]]) -> None:
    if isinstance(refs, ObjectRef):
        flat.append(refs)
    elif isinstance(refs, dict):
        for each in refs.values():
            _flatten(each, flat)
    elif isinstance(refs, (list, tuple)):
        for each in refs:
            _flatten(each, flat)
    elif isinstance(refs, ObjectRefGenerator):
        raise TypeError(
            f"get() does not take {refs!r}, but what that yields: get(list(gen)), or for ref in gen: get(ref)"
        )
    else:
        raise TypeError(f"get() takes ObjectRefs, and lists, tuples and dicts of them, not {refs!r}")


def _fill(refs: Any, loaded: Iterator[Any]) -> Any:
    if isinstance(refs, ObjectRef):
        return next(loaded)
    if isinstance(refs, dict):
        return {key: _fill(each, loaded) for key, each in refs.items()}
    if isinstance(refs, tuple):
        return tuple(_fill(each, loaded) for each in refs)
    return [_fill(each, loaded) for each in refs]
