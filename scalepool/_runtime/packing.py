"""Values to what travels, and back: small ones inside the message, large buffers as a segment of the store.

A packed value is bytes in one of three forms, told apart by the first byte: a plain pickle (0x80, nothing large in it),
a reference to a segment that holds the pickle and its buffers one after the other, or, when the store has no descriptor
left, pickle and buffers inline.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scalepool._store.layout import place
from scalepool._wire import payload as codec
from scalepool._wire.pickling.exceptions import encode_result
from scalepool.errors import ProtocolError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalepool._store.files import SegmentRef
    from scalepool._store.mapping import Views
    from scalepool._store.segments import SegmentStore
    from scalepool._wire.pickling.pickler import Reducers

__all__ = ["Packed", "Packer"]

_SEGMENT: Final = b"\x01"
_INLINE: Final = b"\x02"
_HEAD: Final = struct.Struct("<qI")
_SIZE: Final = struct.Struct("<q")


class Packed(NamedTuple):
    """A value ready to travel. ``references`` names every object it needs; ``segment`` is the one made for it."""

    data: bytes
    references: tuple[int, ...]
    segment: SegmentRef | None
    size_bytes: int


class Packer:
    """Packs and unpacks values for one process.

    Parameters
    ----------
    store
        Where segments are made.
    views
        Which tracks the mappings of segments in this process.
    new_object_id
        Returns a fresh object id.
    inline_limit_bytes
        What is at least so large goes into a segment.
    """

    def __init__(
        self, store: SegmentStore, views: Views, new_object_id: Callable[[], int], inline_limit_bytes: int
    ) -> None:
        self._store = store
        self._views = views
        self._new_object_id = new_object_id
        self._inline_limit_bytes = inline_limit_bytes

    def pack(self, value: object, label: str | tuple[str, ...] = "") -> Packed:
        """Pickle ``value`` and place its large parts; ``label`` names it, or the items of a tuple, in errors.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        return self.place(codec.dumps(value, oob_threshold=self._inline_limit_bytes, label=label))

    def pack_result(self, value: object, reader: int) -> Packed:
        """Pickle what a task returned, for the peer with the sender number ``reader``, and place its large parts.

        Raises
        ------
        ResultEncodingError
            When it cannot be pickled.
        """
        return self.place(encode_result(value, oob_threshold=self._inline_limit_bytes, reader=reader))

    def place(self, payload: codec.Payload) -> Packed:
        """Place the large parts of something pickled already."""
        data, buffers, references = payload.data, payload.buffers, payload.references
        if not buffers and len(data) < self._inline_limit_bytes:
            return Packed(data, references, None, len(data))
        parts = [memoryview(data), *(memoryview(buffer).cast("B") for buffer in buffers)]
        sizes = [part.nbytes for part in parts]
        segment = self._segment(parts)
        packed_sizes = b"".join(_SIZE.pack(size) for size in sizes)
        if segment is None:
            inline = b"".join([_INLINE, _HEAD.pack(0, len(parts)), packed_sizes, *parts])
            return Packed(inline, references, None, len(inline))
        head = b"".join([_SEGMENT, _HEAD.pack(segment.object_id, len(parts)), packed_sizes])
        return Packed(head, (*references, segment.object_id), segment, sum(sizes))

    def pack_inline(self, value: object, label: str | tuple[str, ...] = "", reducers: Reducers | None = None) -> bytes:
        """Pickle ``value`` into one run of bytes, however large: for what outlives any task."""
        payload = codec.dumps(value, oob_threshold=1 << 62, label=label, reducers=reducers)
        return payload.data

    def _segment(self, parts: Sequence[memoryview]) -> SegmentRef | None:
        if not self._store.has_capacity():
            return None
        return self._store.create(self._new_object_id(), parts)

    def unpack(self, data: bytes, places: Mapping[int, SegmentRef]) -> Any:
        """Return the value. Large buffers are private, writable mappings that are copied only where written.

        Parameters
        ----------
        data
            What ``pack`` returned, possibly in another process.
        places
            Where the objects that it needs are.
        """
        if data[:1] == b"\x80":
            return codec.loads(data, ())
        parts = self._inline_parts(data) if data[:1] == _INLINE else self._mapped_parts(data, places)
        return codec.loads(parts[0], parts[1:])

    def _mapped_parts(self, data: bytes, places: Mapping[int, SegmentRef]) -> list[memoryview]:
        object_id, sizes, _ = _read_head(data)
        ref = places.get(object_id)
        if ref is None:
            raise StoreError(f"object {object_id} is gone: the process that made it has ended")
        window = memoryview(self._views.open(ref, "c"))
        return [window[at : at + size] for at, size in zip(place(sizes).offsets, sizes, strict=True)]

    def _inline_parts(self, data: bytes) -> list[memoryview]:
        _, sizes, at = _read_head(data)
        # Writable like what is mapped: the code that gets an array must not see how it travelled.
        window = memoryview(bytearray(data[at:]))
        parts = []
        at = 0
        for size in sizes:
            parts.append(window[at : at + size])
            at += size
        return parts


def _read_head(data: bytes) -> tuple[int, list[int], int]:
    try:
        object_id, count = _HEAD.unpack_from(data, 1)
        at = 1 + _HEAD.size
        sizes = [_SIZE.unpack_from(data, at + index * _SIZE.size)[0] for index in range(count)]
    except struct.error as error:
        raise ProtocolError("a packed value ends too early") from error
    return object_id, sizes, at + count * _SIZE.size
