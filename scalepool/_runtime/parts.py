"""A packed value: a pickle and its large buffers, and in which object of the store, or where else, each of them lies.

A packed value is bytes in one of two forms, told apart by the first byte: a plain pickle (0x80, nothing large in it),
or a list of parts, the pickle and its buffers. Each part says in which object of the store it lies, where, and how long
it is. A part of object 0 is in the message itself: the pickle nearly always, and everything when the store has no
descriptor left. The first of the buffers may be pieces of the pickle itself; where in it is in the list, too.
"""

from __future__ import annotations

import struct

from scalepool._base.tuples import NamedTuple
from scalepool._runtime.stored import SHARED_BYTES
from scalepool._store.layout import place
from scalepool.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from scalepool._runtime.stored import StoredObject
    from scalepool._store.files import SegmentRef
    from scalepool._wire import payload as codec

__all__ = ["IN_MESSAGE", "Packed", "Parts", "has_arrays", "read_table", "renumbered", "table_objects"]

_PARTS: Final = b"\x01"
_COUNTS: Final = struct.Struct("<II")  # parts, gaps
_GAP: Final = struct.Struct("<q")
_PART: Final = struct.Struct("<qqq")  # object, offset, size

IN_MESSAGE: Final = 0
"""In place of an object, none of which has this id: the part is in the message itself."""


class Packed(NamedTuple):
    """A value ready to travel.

    Attributes
    ----------
    data
        What goes into the message.
    references
        Every object that it needs.
    segments
        Those of them that were made for this value alone; they live as long as a task or a result refers to them.
    size_bytes
        Length of `data` and `segments`.
    stored
        Those of them that others may carry, too; to be kept until this task has ended.
    stored_bytes
        How much of these was written for this value.
    """

    data: bytes
    references: tuple[int, ...]
    segments: tuple[SegmentRef, ...]
    size_bytes: int
    stored: tuple[StoredObject, ...] = ()
    stored_bytes: int = 0


class Parts:
    """A pickle and its buffers on their way to their places: in an object of the store, or in the message."""

    __slots__ = ("_gaps", "_references", "_stored", "places", "stored_bytes", "views", "waiting")

    def __init__(self, payload: codec.Payload, inline_limit_bytes: int) -> None:
        self.views = [memoryview(payload.data), *(memoryview(buffer).cast("B") for buffer in payload.buffers)]
        self.places = [(IN_MESSAGE, 0)] * len(self.views)
        self.waiting = [index for index, view in enumerate(self.views) if index or view.nbytes >= inline_limit_bytes]
        self.stored_bytes = 0
        self._gaps = payload.gaps
        self._references = payload.references
        self._stored: list[StoredObject] = []

    @property
    def large(self) -> list[int]:
        """Those that have no place yet and are worth an object of their own; a pickle is never met again."""
        return [index for index in self.waiting if index and self.views[index].nbytes >= SHARED_BYTES]

    def keep(self, stored: StoredObject) -> None:
        """Note an object that some part lies in."""
        self._stored.append(stored)

    def take_place(self, index: int, stored: StoredObject) -> None:
        """Let a part be all of an object."""
        self.places[index] = (stored.ref.object_id, 0)
        self.waiting.remove(index)
        self._stored.append(stored)

    def lie_in(self, object_id: int, indexes: Sequence[int]) -> None:
        """Let these parts lie in an object, one after the other."""
        layout = place(self.views[index].nbytes for index in indexes)
        for index, offset in zip(indexes, layout.offsets, strict=True):
            self.places[index] = (object_id, offset)
        self.waiting = [index for index in self.waiting if index not in indexes]

    def packed(self, segments: tuple[SegmentRef, ...]) -> Packed:
        """Return the value, packed."""
        head = [_PARTS, _COUNTS.pack(len(self.views), len(self._gaps)), *map(_GAP.pack, self._gaps)]
        inside = []
        for view, (object_id, offset) in zip(self.views, self.places, strict=True):
            head.append(_PART.pack(object_id, offset, view.nbytes))
            if object_id == IN_MESSAGE:
                inside.append(view)
        data = b"".join([*head, *inside])
        objects = [object_id for object_id, _ in self.places if object_id != IN_MESSAGE]
        references = tuple(dict.fromkeys([*self._references, *objects]))
        size_bytes = sum(segment.size_bytes for segment in segments) + len(data)
        return Packed(data, references, segments, size_bytes, tuple(self._stored), self.stored_bytes)


def has_arrays(data: bytes) -> bool:
    """Tell whether a packed value has large buffers beside its pickle, which it uses where they are mapped."""
    if data[:1] != _PARTS:
        return False
    count, gap_count = _COUNTS.unpack_from(data, 1)
    return bool(count > 1 + gap_count)


def table_objects(data: bytes) -> dict[int, int]:
    """Return the objects that something packed lies in, and how many bytes of each, from its beginning, it uses."""
    found: dict[int, int] = {}
    for object_id, offset, size in read_table(data)[0] if data[:1] == _PARTS else ():
        if object_id != IN_MESSAGE:
            found[object_id] = max(found.get(object_id, 0), offset + size)
    return found


def renumbered(data: bytes, numbers: Mapping[int, int]) -> bytes:
    """Return a packed value whose objects have other numbers; those that are not mentioned keep theirs."""
    if data[:1] != _PARTS or not numbers:
        return data
    table, _, end = read_table(data)
    places = [_PART.pack(numbers.get(object_id, object_id), offset, size) for object_id, offset, size in table]
    return b"".join([data[: end - len(places) * _PART.size], *places, data[end:]])


def read_table(data: bytes) -> tuple[list[tuple[int, int, int]], tuple[int, ...], int]:
    """Return (object, offset, size) of each part, the gaps, and where those parts begin that are in the message."""
    try:
        count, gap_count = _COUNTS.unpack_from(data, 1)
        first = 1 + _COUNTS.size
        start = first + gap_count * _GAP.size
        end = start + count * _PART.size
        gaps = tuple(gap for (gap,) in _GAP.iter_unpack(data[first:start]))
        table = list(_PART.iter_unpack(data[start:end]))
    except struct.error as error:
        raise ProtocolError("a packed value ends too early") from error
    inside = sum(size for object_id, _, size in table if object_id == IN_MESSAGE)
    if len(table) != count or len(gaps) != gap_count or len(data) != end + inside:
        raise ProtocolError(f"a packed value of {len(data)} bytes should have {end + inside}")
    return table, gaps, end
