"""Running a task whose results are kept: fill in the values that it needs, call it, pack what it made."""

from __future__ import annotations

import inspect
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from scalepool._runtime.functions import name_of
from scalepool._runtime.instance import ActorExit, Method
from scalepool._runtime.packing import Packed, part_of
from scalepool._runtime.recovery import NeedLost
from scalepool._runtime.session import WorkerSession, current
from scalepool._runtime.values import values_of
from scalepool._store.files import SegmentLost
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_scalar
from scalepool._wire.pickling.exceptions import encode_exception
from scalepool._wire.pickling.traceback_text import format_traceback
from scalepool._wire.records import PARTS, pack_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scalepool._runtime.executor import KeptItem
    from scalepool._runtime.generators import DynamicObjectRefGenerator
    from scalepool._runtime.packing import Packer
    from scalepool._runtime.producing import Producer
    from scalepool._runtime.refs import ObjectRef

__all__ = ["Collecting", "Dropping", "Retrying", "call", "call_async", "finished", "items_of", "pack"]

_Kinds: TypeAlias = "tuple[type[BaseException], ...]"
_FINAL: Final = (ActorExit, NeedLost)
"""Never a reason to try again, whatever exceptions are given as such: a wish that the task ends."""
_VALUE: Final = int(Status.VALUE)
_SCALAR_BYTES: Final = 4096
_RECORD_BYTES: Final = 256 << 10
"""What all values of a task may take in its record; what does not fit goes into segments."""


class Retrying:
    """A function that is called again, up to ``times`` times, when it raises one of ``kinds``."""

    __slots__ = ("fn", "kinds", "times")

    def __init__(self, fn: Callable[..., Any], kinds: tuple[type[BaseException], ...], times: int) -> None:
        self.fn = fn
        self.kinds = kinds
        self.times = times

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it once; see ``call``, which has fresh arguments for each further time."""
        return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Retrying, (self.fn, self.kinds, self.times)


class Dropping:
    """A function whose result nobody wants. What it raises goes to stderr, as nobody could ask for it."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Call it."""
        try:
            finished(self.fn(*args, **kwargs))
        except Exception:
            import sys
            import traceback

            sys.stderr.write(f"{name_of(self.fn)}, a task with num_returns=0, raised:\n{traceback.format_exc()}")
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return Dropping, (self.fn,)


class Collecting:
    """A generator function whose items are kept as values: it returns references to them.

    When it raises something that is none of ``kinds``, a reference that raises it is the last one.
    """

    __slots__ = ("fn", "kinds")

    def __init__(self, fn: Callable[..., Any], kinds: tuple[type[BaseException], ...]) -> None:
        self.fn = fn
        self.kinds = kinds

    def __call__(self, *args: Any, **kwargs: Any) -> DynamicObjectRefGenerator[Any]:
        """Call it."""
        from scalepool._runtime.generators import DynamicObjectRefGenerator
        from scalepool._runtime.puts import Origin, put, put_error

        session = current()
        values = values_of(session.client)
        item = session.item if isinstance(session, WorkerSession) else None
        task = (item.task, item.attempt) if item is not None else (0, 0)
        name = name_of(self.fn)
        refs: list[ObjectRef[Any]] = []
        try:
            for value in items_of(self.fn(*args, **kwargs)):
                refs.append(put(values, value, Origin(name, *task, len(refs))))
        except self.kinds:
            raise
        except Exception as error:  # noqa: BLE001 - it is the last item
            record = encode_exception(error, format_traceback(error))
            refs.append(put_error(values, record, Origin(name, *task, len(refs))))
        return DynamicObjectRefGenerator(refs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Collecting, (self.fn, self.kinds)


def call(item: KeptItem, packer: Packer) -> list[Any]:
    """Call the function of ``item`` and return the values that it made; raises what it raises."""
    fn: Any = item.slot.fn or item.slot.load(packer)
    left = 0
    kinds: tuple[type[BaseException], ...] = ()
    if type(fn) is Method:
        bound = fn.bound()
        if fn.times:
            kinds, left = fn.kinds, fn.times - (item.attempt - 1)
        fn = _with_way(fn.way, bound, kinds)
    elif type(fn) is Retrying:
        # What was lost to workers' deaths counts, too.
        fn, kinds, left = fn.fn, fn.kinds, fn.times - (item.attempt - 1)
    producer = _producer(item) if item.returns < 0 else None
    while True:
        try:
            args, kwargs = _arguments(item, packer)
            if producer is not None:
                producer.run(items_of(fn(*args, **kwargs)))
                return [None]
            return _values(finished(fn(*args, **kwargs)), item.returns)
        except kinds as error:
            if left <= 0 or isinstance(error, _FINAL):
                raise
            left -= 1
        finally:
            args = kwargs = None
            if producer is not None:
                item.sent = producer.sent


async def call_async(item: KeptItem, packer: Packer) -> list[Any]:
    """Do the same for a method of an actor that has an event loop; one that is no coroutine blocks the loop."""
    method: Any = item.slot.fn or item.slot.load(packer)
    bound = method.bound()
    kinds, left = (method.kinds, method.times - (item.attempt - 1)) if method.times else ((), 0)
    import asyncio  # here is an event loop: it is there

    producer = _producer(item) if item.returns < 0 else None
    while True:
        try:
            return await _once_async(item, packer, producer, (method.way, bound, kinds))
        except kinds as error:
            if left <= 0 or isinstance(error, (*_FINAL, asyncio.CancelledError)):
                raise
            left -= 1


async def _once_async(
    item: KeptItem, packer: Packer, producer: Producer | None, called: tuple[str, Callable[..., Any], _Kinds]
) -> list[Any]:
    way, bound, kinds = called
    args, kwargs = _arguments(item, packer)
    if producer is not None:
        try:
            await producer.run_async(await _awaited(bound(*args, **kwargs)))
        finally:
            item.sent = producer.sent
        return [None]
    if not way:
        result = await _awaited(bound(*args, **kwargs))
        if item.returns > 1 and hasattr(result, "__aiter__"):
            result = [value async for value in result]
        return _values(result, item.returns)
    ended = await _ended(bound(*args, **kwargs))
    return _values(_with_way(way, ended, kinds)(), item.returns)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _ended(result: Any) -> Callable[[], Any]:
    """Let a coroutine, or an asynchronous generator, come to its end; return what repeats that."""
    made: list[Any] = []
    try:
        result = await _awaited(result)
        if not hasattr(result, "__aiter__"):
            return lambda: result
        async for value in result:
            made.append(value)
    except Exception as error:  # noqa: BLE001 - raised again by what is returned
        return partial(_replay, made, error)
    return partial(_replay, made, None)


def _replay(made: list[Any], error: Exception | None) -> Iterator[Any]:
    yield from made
    if error is not None:
        raise error


def _with_way(way: str, fn: Callable[..., Any], kinds: _Kinds) -> Callable[..., Any]:
    if not way:
        return fn
    return Dropping(fn) if way == "none" else Collecting(fn, kinds)


def _arguments(item: KeptItem, packer: Packer) -> tuple[Any, Any]:
    loaded = packer.unpack(item.payload, item.places)
    if not item.inputs:
        return loaded  # type: ignore[no-any-return]
    given, kwargs, where = loaded
    args = list(given)
    for place, need, data in zip(where, item.needs, item.inputs, strict=True):
        assert data is not None  # see Executor.lacks
        try:
            value = packer.unpack(data, item.places, "r")
        except SegmentLost as error:
            raise NeedLost(need, error.object_id) from error
        if isinstance(place, int):
            args[place] = value
        else:
            kwargs[place] = value
    return args, kwargs


def _producer(item: KeptItem) -> Producer:
    from scalepool._runtime.producing import Producer

    return Producer(values_of(current().client), item.task, item.attempt, -item.returns)


def finished(result: Any) -> Any:
    """Return what a function has returned; a coroutine runs to its end first, in an event loop of its own."""
    if type(result) is not CoroutineType:
        return result
    import asyncio

    return asyncio.run(result)


def items_of(result: Any) -> Iterable[Any]:
    """Return what a generator function, be it asynchronous, has returned, as something that can be iterated over."""
    result = finished(result)
    if hasattr(result, "__aiter__"):
        from scalepool._runtime.producing import in_turn

        return in_turn(result)
    if not hasattr(result, "__iter__"):
        raise TypeError(
            f"a task with num_returns='streaming' or 'dynamic' returned {type(result).__name__}: it should yield "
            "its values, or return something to iterate over"
        )
    return result  # type: ignore[no-any-return]


def _values(result: Any, returns: int) -> list[Any]:
    if returns == 1:
        return [result]
    if not hasattr(result, "__iter__") and not hasattr(result, "__aiter__"):
        raise TypeError(f"a task with num_returns={returns} returned {type(result).__name__}, not a sequence")
    values = list(items_of(result))
    if len(values) != returns:
        raise ValueError(f"a task with num_returns={returns} returned {len(values)} values")
    return values


def pack(values: list[Any], packer: Packer) -> tuple[int, bytes, Packed | None]:
    """Return status and payload of a record, and what was packed for it if that is more."""
    if len(values) == 1:
        scalar = dumps_scalar(values[0], _SCALAR_BYTES)
        if scalar is not None:
            return _VALUE, scalar, None
        packed = packer.pack_value(values[0])
        part = part_of(packed)
        if not part.references:
            return _VALUE, packed.data, packed
        return PARTS, pack_parts([part]), packed._replace(references=tuple(part.references))
    made: list[Packed] = []
    try:
        for value in values:
            made.append(packer.pack_value(value, limit_bytes=max(512, _RECORD_BYTES // len(values))))
    except BaseException:
        packer.discard(made)
        raise
    segments = tuple(segment for one in made for segment in one.segments)
    parts = [part_of(one) for one in made]
    references = tuple(reference for part in parts for reference in part.references)
    whole = Packed(b"", references, segments, sum(one.size_bytes for one in made))
    return PARTS, pack_parts(parts), whole
