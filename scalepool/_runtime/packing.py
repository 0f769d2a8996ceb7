"""Values to what travels, and back: small ones inside the message, large buffers through the store.

Each large buffer is an object of its own: of an argument, so that other tasks can carry it too (see ``stored``); of a
result, so that its memory is free when the reader drops this array, whatever else came with it. Smaller parts share one
object.
"""

from __future__ import annotations

# Where hashlib has it from; that would load OpenSSL (3 ms, 1 MB) into every driver and worker.
from _blake2 import blake2b

from scalepool._base.tuples import NamedTuple
from scalepool._runtime.parts import IN_MESSAGE, Packed, Parts, read_table
from scalepool._store.files import SegmentLost
from scalepool._wire import payload as codec
from scalepool._wire.pickling.exceptions import encode_result
from scalepool._wire.records import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final

    from scalepool._runtime.stored import Snapshot, StoredBuffers
    from scalepool._store.files import SegmentRef
    from scalepool._store.mapping import ViewMode, Views
    from scalepool._store.segments import SegmentStore
    from scalepool._wire.pickling.pickler import Reducers

__all__ = ["Packed", "PackedFunction", "Packer", "part_of", "pickle_of"]

_PICKLE: Final = 0x80
_SEGMENTS_MAX: Final = 128  # a result record counts its objects in one byte


class PackedFunction(NamedTuple):
    """A function ready to travel.

    Attributes
    ----------
    packed
        Its pickle and what belongs to it.
    digest
        Of a large pickle with nothing but bytes in it; empty for others: a small one is its own digest, and arrays are
        looked at each time.
    """

    packed: Packed
    digest: bytes


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
    stored
        The large buffers of arguments; ``None``: they are treated as those of results.
    """

    def __init__(
        self,
        store: SegmentStore,
        views: Views,
        new_object_id: Callable[[], int],
        inline_limit_bytes: int,
        stored: StoredBuffers | None = None,
    ) -> None:
        self._store = store
        self._views = views
        self._new_object_id = new_object_id
        self._inline_limit_bytes = inline_limit_bytes
        self._stored = stored
        self._apart = self._apart_result = False  # what there was once there is likely to be again

    def pack(self, value: object, label: str | tuple[str, ...] = "", snapshot: Snapshot | None = None) -> Packed:
        """Pickle a task's arguments and place their large parts.

        Parameters
        ----------
        value
            Anything.
        label
            Names it, or the items of a tuple, in errors.
        snapshot
            Given by who knows that all that is packed with it stays as it is meanwhile.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        payload = codec.dumps(value, oob_threshold=self._inline_limit_bytes, label=label, apart=self._apart)
        self._apart = payload.took_apart
        if not payload.buffers and len(payload.data) < self._inline_limit_bytes:
            return Packed(payload.data, payload.references, (), len(payload.data))
        parts = Parts(payload, self._inline_limit_bytes)
        if self._stored is None:
            return self._place_apart(parts)
        self._find(parts, self._stored, snapshot)
        if parts.large:
            self._stored.make_room()
            self._add(parts, self._stored, snapshot)
        return self._finish(parts)

    def pack_function(self, fn: object, before: PackedFunction | None = None) -> PackedFunction:
        """Pickle a function. All its large parts stay in the store for as long as the result is referred to.

        Parameters
        ----------
        fn
            The function.
        before
            What this returned for it the last time: returned again when nothing in it has changed.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        stored = self._stored
        if stored is None:
            payload = codec.dumps(fn, oob_threshold=self._inline_limit_bytes, label="function")
            return PackedFunction(self.place(payload), b"")
        with stored.one_look() as snapshot:
            payload = codec.dumps(fn, oob_threshold=self._inline_limit_bytes, label="function")
            digest = _digest(payload) if payload.buffers or len(payload.data) >= self._inline_limit_bytes else b""
            if before is not None and before.digest == digest != b"":
                return before
            return PackedFunction(self._place_shared(payload, stored, snapshot, retain=True), digest)

    def pack_initializer(
        self, called: object, label: str | tuple[str, ...] = "", reducers: Reducers | None = None
    ) -> Packed:
        """Pickle what a group's workers are to do when they start: so nothing of it may lie in a task's segments.

        Its large parts are written once, whatever the number of workers, and stay for as long as the result is
        referred to: nobody passes them again and again, so not any longer.

        Parameters
        ----------
        called
            The function and its arguments.
        label
            As in `pack`.
        reducers
            How objects of exactly these types are taken apart, if not in their own way.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        stored, limit_bytes = self._stored, self._inline_limit_bytes
        assert stored is not None  # a client's
        with stored.one_look() as snapshot:
            payload = codec.dumps(called, oob_threshold=limit_bytes, label=label, reducers=reducers)
            return self._place_shared(payload, stored, snapshot, retain=False)

    def _place_shared(
        self, payload: codec.Payload, stored: StoredBuffers, snapshot: Snapshot, *, retain: bool
    ) -> Packed:
        """Let all large parts lie in objects that any number of tasks and workers may read."""
        if not payload.buffers and len(payload.data) < self._inline_limit_bytes:
            return Packed(payload.data, payload.references, (), len(payload.data))
        parts = Parts(payload, self._inline_limit_bytes)
        self._find(parts, stored, snapshot, retain=retain)
        self._add(parts, stored, snapshot, retain=retain)
        if parts.waiting and self._store.has_capacity():
            rest = stored.put([parts.views[index] for index in parts.waiting])
            parts.lie_in(rest.ref.object_id, parts.waiting)
            parts.keep(rest)
        return self._finish(parts)

    def pack_result(self, value: object, reader: int) -> Packed:
        """Pickle what a task returned, for the peer with the sender number ``reader``, and place its large parts.

        Raises
        ------
        ResultEncodingError
            When it cannot be pickled.
        """
        payload = encode_result(value, oob_threshold=self._inline_limit_bytes, reader=reader, apart=self._apart_result)
        self._apart_result = payload.took_apart
        return self.place(payload)

    def pack_value(self, value: object, label: str = "result", limit_bytes: int | None = None) -> Packed:
        """Pickle a value that is read by any number of processes, any number of times.

        All its buffers stay outside of the pickle, so that an array is read-only for its readers at every size.

        Parameters
        ----------
        value
            Anything.
        label
            Names it in errors.
        limit_bytes
            What is at least so large in all goes into segments; default as for all.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        limit_bytes = min(self._inline_limit_bytes, limit_bytes or self._inline_limit_bytes)
        payload = codec.dumps(value, oob_threshold=1, label=label)
        if not payload.buffers and len(payload.data) < limit_bytes:
            return Packed(payload.data, payload.references, (), len(payload.data))
        parts = Parts(payload, limit_bytes)
        if sum(view.nbytes for view in parts.views) < limit_bytes:
            return parts.packed(())
        return self._place_apart(parts)

    def discard(self, packed: Sequence[Packed]) -> None:
        """Free what was made for values that go nowhere."""
        for one in packed:
            for segment in one.segments:
                self._store.free(segment.object_id)

    def objects_of(self, data: bytes) -> list[int]:
        """Return the objects that something packed lies in."""
        if data[0] == _PICKLE:
            return []
        return list(dict.fromkeys(object_id for object_id, _, _ in read_table(data)[0] if object_id != IN_MESSAGE))

    def place(self, payload: codec.Payload) -> Packed:
        """Place the large parts of something pickled already."""
        if not payload.buffers and len(payload.data) < self._inline_limit_bytes:
            return Packed(payload.data, payload.references, (), len(payload.data))
        parts = Parts(payload, self._inline_limit_bytes)
        return self._place_apart(parts)

    def _place_apart(self, parts: Parts) -> Packed:
        """Put large buffers into segments of their own."""
        segments: list[SegmentRef] = []
        try:
            for index in parts.large[:_SEGMENTS_MAX]:
                if self._store.has_capacity():
                    segments.append(self._lay(parts, [index]))
            return self._finish(parts, segments)
        except BaseException:
            for segment in segments:
                self._store.free(segment.object_id)
            raise

    def _find(self, parts: Parts, stored: StoredBuffers, snapshot: Snapshot | None, *, retain: bool = True) -> None:
        """Use the objects that hold large buffers already."""
        for index in parts.large:
            found = stored.find(parts.views[index], snapshot, retain=retain)
            if found is not None:
                parts.take_place(index, found)

    def _add(self, parts: Parts, stored: StoredBuffers, snapshot: Snapshot | None, *, retain: bool = True) -> None:
        """Make objects of the other large buffers."""
        for index in parts.large:
            if self._store.has_capacity() and stored.recurs(parts.views[index]):
                parts.take_place(index, stored.add(parts.views[index], snapshot, retain=retain))
                parts.stored_bytes += parts.views[index].nbytes

    def _finish(self, parts: Parts, segments: Sequence[SegmentRef] = ()) -> Packed:
        """Put what is left into a segment, or into the message where there is none."""
        if parts.waiting and self._store.has_capacity():
            segments = [*segments, self._lay(parts, parts.waiting)]
        return parts.packed(tuple(segments))

    def _lay(self, parts: Parts, indexes: Sequence[int]) -> SegmentRef:
        """Write some parts into a segment of this value's own."""
        segment = self._store.create(self._new_object_id(), [parts.views[index] for index in indexes])
        parts.lie_in(segment.object_id, indexes)
        return segment

    def unpack(self, data: bytes, places: Mapping[int, SegmentRef], mode: ViewMode = "c") -> Any:
        """Return the value. Large buffers are private, writable mappings that are copied only where written.

        Parameters
        ----------
        data
            What ``pack`` returned, possibly in another process.
        places
            Where the objects that it needs are.
        mode
            With ``"r"`` all buffers are read-only, and nothing is ever copied.
        """
        if data[0] == _PICKLE:
            return codec.loads(data, ())
        table, gaps, at = read_table(data)
        parts: list[memoryview] = []
        windows: dict[int, memoryview] = {}
        used: set[tuple[int, int]] = set()
        for object_id, offset, size in table:
            if object_id == IN_MESSAGE:
                # Writable like what is mapped: the code that gets an array must not see how it travelled.
                part = data[at : at + size]
                parts.append(memoryview(bytearray(part) if mode == "c" else part))
                at += size
                continue
            if object_id not in windows or (object_id, offset) in used:  # twice: two arrays that must not be one
                windows[object_id] = self._open(object_id, places, mode)
            used.add((object_id, offset))
            parts.append(windows[object_id][offset : offset + size])
        return codec.loads(parts[0], parts[1:], gaps)

    def _open(self, object_id: int, places: Mapping[int, SegmentRef], mode: ViewMode) -> memoryview:
        ref = places.get(object_id)
        if ref is None:
            raise SegmentLost(object_id, f"object {object_id} is gone: the process that made it has ended")
        return self._views.open(ref, mode)


def _digest(payload: codec.Payload) -> bytes:
    if len(payload.buffers) > len(payload.gaps):
        return b""
    digest = blake2b(payload.data, digest_size=16)
    for buffer in payload.buffers:
        digest.update(buffer)
    return digest.digest()


def pickle_of(data: bytes) -> bytes:
    """Return the pickle in a packed value, without its large buffers; empty when not all of it is in the message."""
    if not data or data[0] == _PICKLE:
        return data
    table, gaps, at = read_table(data)
    object_id, _, size = table[0]
    return data[at : at + size] if object_id == IN_MESSAGE and not gaps else b""


def part_of(packed: Packed) -> Part:
    """Return a value as a part of a record; what it refers to is what was not made for it alone."""
    made = {segment.object_id for segment in packed.segments}
    return Part(packed.data, len(made), [one for one in packed.references if one not in made])
