"""Running a task whose results are kept: fill in the values that it needs, call it, pack what it made."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.instance import Method
from scalepool._runtime.packing import Packed, part_of
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_scalar
from scalepool._wire.records import PARTS, pack_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._runtime.executor import KeptItem
    from scalepool._runtime.packing import Packer

__all__ = ["Retrying", "call", "call_async", "pack"]

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


def call(item: KeptItem, packer: Packer) -> list[Any]:
    """Call the function of ``item`` and return the values that it made; raises what it raises."""
    fn: Any = item.slot.fn or item.slot.load(packer)
    if type(fn) is Method:
        args, kwargs = _arguments(item, packer)
        return _values(fn.bound()(*args, **kwargs), item.returns)
    left = 0
    kinds: tuple[type[BaseException], ...] = ()
    if type(fn) is Retrying:
        # What was lost to workers' deaths counts, too.
        fn, kinds, left = fn.fn, fn.kinds, fn.times - (item.attempt - 1)
    while True:
        try:
            args, kwargs = _arguments(item, packer)
            return _values(fn(*args, **kwargs), item.returns)
        except kinds:
            if left <= 0:
                raise
            left -= 1
        finally:
            args = kwargs = None


async def call_async(item: KeptItem, packer: Packer) -> list[Any]:
    """Do the same for a method of an actor that has an event loop; one that is no coroutine blocks the loop."""
    fn: Any = item.slot.fn or item.slot.load(packer)
    args, kwargs = _arguments(item, packer)
    result = fn.bound()(*args, **kwargs)
    return _values(await result if inspect.isawaitable(result) else result, item.returns)


def _arguments(item: KeptItem, packer: Packer) -> tuple[Any, Any]:
    loaded = packer.unpack(item.payload, item.places)
    if not item.inputs:
        return loaded  # type: ignore[no-any-return]
    given, kwargs, where = loaded
    args = list(given)
    for place, data in zip(where, item.inputs, strict=True):
        assert data is not None  # see Executor.lacks
        value = packer.unpack(data, item.places, "r")
        if isinstance(place, int):
            args[place] = value
        else:
            kwargs[place] = value
    return args, kwargs


def _values(result: Any, returns: int) -> list[Any]:
    if returns == 1:
        return [result]
    try:
        values = list(result)
    except TypeError as error:
        raise TypeError(
            f"a task with num_returns={returns} returned {type(result).__name__}, not a sequence"
        ) from error
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
