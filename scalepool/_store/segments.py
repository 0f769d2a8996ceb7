"""The shared memory that one process holds: segments it wrote, and segments of others that it keeps alive.

Purpose: a large object is written once into a segment of its own and read in place by every process of the host.

Guarantees: running out of memory is a `StoreError`, never SIGBUS: pages are allocated by ``pwrite``, which reports,
and only pages that exist are ever written through a mapping. A segment vanishes with its last descriptor and mapping,
whoever is killed.

Assumption: `SegmentStore.free` is called only when nobody can read the object any more. A segment is written again
after that, and a view that were left would see the new bytes. Who may still read is known to the hub, not here. As a
net, every segment carries the stamp of its object, erased by ``free``: a late *open* fails instead of showing strange
bytes.

Writing, by measurement (100 MiB, two cores; a memcpy into touched memory takes 8-9 ms):

* fresh pages: pwrite 41-52 ms, through a new mapping 80 ms, posix_fallocate and pwrite 48 ms: hence pwrite;
* first reuse: pwrite 20 ms, mapping with MAP_POPULATE and copy 20 ms, mapping without 38 ms: hence the mapping,
* every later reuse is a copy into the mapping that was kept: 8-9 ms.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading

from scalepool._base.tuples import NamedTuple
from scalepool._store.files import (
    HAS_MEMFD,
    SegmentRef,
    anonymous_file,
    default_max_fds,
    map_file,
    open_segment,
    write_buffers,
)
from scalepool._store.layout import STAMP_BYTES, capacity_for, pack_stamp, place, stamp_offset
from scalepool._store.recycle import RecycleLimits, RecyclePool, Segment
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

__all__ = ["RecycleLimits", "SegmentRef", "SegmentStore", "StoreStatistics"]

# Bytes per slice assignment. A copy holds the GIL; between two of them (0.4 ms) other threads get their turn.
_COPY_BYTES = 4 << 20

_NO_STAMP = bytes(STAMP_BYTES)


class StoreStatistics(NamedTuple):
    """A snapshot of a `SegmentStore`; sizes in bytes.

    Attributes
    ----------
    objects, object_bytes
        Objects created here and not yet freed.
    idle, idle_bytes
        Segments that wait to be written again, and their allocated memory.
    adopted
        Objects of other processes that are kept alive here.
    open_fds, max_fds
        Descriptors held for all of these, and the budget for those in use.
    created, recycled
        Objects created so far, and how many of them went into a segment that existed.
    """

    objects: int
    object_bytes: int
    idle: int
    idle_bytes: int
    adopted: int
    open_fds: int
    max_fds: int
    created: int
    recycled: int


class SegmentStore:
    """The segments of this process. Thread-safe; a child that inherits it by fork cannot write to it.

    Parameters
    ----------
    max_fds
        Descriptors that objects may use before `has_capacity` says no; default a quarter of the soft limit.
        Idle segments do not count: they are closed when their descriptors are needed.
    limits
        What is kept for recycling; default ``RecycleLimits()``.
    use_memfd
        ``False``: temporary files, unlinked at once, instead of memfds. They may lie on a disk whose every overwrite
        allocates, so they are never written through a mapping.
    """

    def __init__(
        self, *, max_fds: int | None = None, limits: RecycleLimits | None = None, use_memfd: bool = HAS_MEMFD
    ) -> None:
        self._max_fds = default_max_fds() if max_fds is None else max_fds
        self._use_memfd = use_memfd
        self._pid = os.getpid()
        # Guards the tables; never held while bytes are copied. Reentrant: the collector may run user code in between.
        self._lock = threading.RLock()
        self._mapping_lock = threading.Lock()  # for `content` only: mapping a large segment takes long
        self._idle = RecyclePool(limits or RecycleLimits())
        self._segments: dict[int, Segment] = {}
        self._writing: set[int] = set()
        self._adopted: dict[int, SegmentRef] = {}
        self._closed = False
        self._created = 0
        self._recycled = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.statistics()}>"

    # An object comes...

    def create(self, object_id: int, buffers: Sequence[Buffer]) -> SegmentRef:
        """Store *buffers* one after the other, at the offsets that ``layout.place`` gives for their sizes.

        Parameters
        ----------
        object_id
            Unique in the session; a signed 64-bit number.
        buffers
            C-contiguous; anything that `memoryview` takes (of a `pickle.PickleBuffer`, pass ``raw()``).

        Raises
        ------
        StoreError
            Memory, descriptors or a limit is exhausted; or the store is closed, or inherited through a fork.
        ValueError
            The object exists already.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        layout = place(len(view) for view in views)
        end = stamp_offset(layout.size_bytes)
        parts = [*zip(layout.offsets, views, strict=True), (end, memoryview(pack_stamp(object_id, layout.size_bytes)))]
        segment = self._take_for(object_id, end + STAMP_BYTES)
        try:
            _fill(segment, end + STAMP_BYTES, parts, may_map=self._use_memfd)
        except OSError as error:
            self._give_up(object_id, segment)
            raise StoreError(f"no shared memory for an object of {layout.size_bytes} bytes: {error}") from error
        except BaseException:
            self._give_up(object_id, segment)
            raise
        segment.size_bytes = layout.size_bytes
        with self._lock:
            self._writing.discard(object_id)
            if not self._closed:
                self._segments[object_id] = segment
                self._created += 1
                return SegmentRef(object_id, self._pid, segment.fd, layout.size_bytes)
        _close([segment])
        raise StoreError("the segment store is closed")

    def adopt(self, ref: SegmentRef) -> SegmentRef:
        """Keep an object alive whose creator may go: hold a descriptor of its segment, and say where it is now.

        Adopting what is held already returns where it is.

        Raises
        ------
        StoreError
            The process that held it is gone, or the segment holds something else by now.
        """
        with self._lock:
            held = self._held(ref.object_id)
            if held is not None:
                return held
        fd = open_segment(ref)
        own = SegmentRef(ref.object_id, self._pid, fd, ref.size_bytes)
        with self._lock:
            held = self._held(ref.object_id)
            if held is None and not self._closed:
                self._adopted[ref.object_id] = own
                return own
        os.close(fd)
        if held is not None:  # another thread was faster
            return held
        raise StoreError("the segment store is closed")

    # ... and goes

    def free(self, object_id: int) -> None:
        """Hand a created object's segment to the next one; only when no process can read it any more (see above).

        Raises
        ------
        KeyError
            No such object was created here, or it is freed already.
        """
        with self._lock:
            segment = self._segments.pop(object_id, None)
            if segment is None:
                if self._closed:
                    return  # a late word: nothing is kept any more
                raise KeyError(object_id)
        try:
            os.pwrite(segment.fd, _NO_STAMP, stamp_offset(segment.size_bytes))
        except OSError:
            _close([segment])  # the page exists, so this cannot be; if it is, the segment is not fit to be used again
            raise
        with self._lock:
            surplus = [segment] if self._closed else self._idle.put(segment)
        _close(surplus)

    def drop(self, object_id: int) -> None:
        """Let go of an adopted object; views on it stay valid.

        Raises
        ------
        KeyError
            It is not adopted here.
        """
        with self._lock:
            ref = self._adopted.pop(object_id)
        os.close(ref.fd)

    def expire(self, now: float) -> None:
        """Give memory back that has been idle for ``limits.idle_s``; to be called every few seconds.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        with self._lock:
            surplus = self._idle.expire(now)
        _close(surplus)

    def close(self) -> None:
        """Let go of everything. Views in any process stay valid; what nobody else holds can no longer be opened."""
        with self._lock:
            self._closed = True
            segments = [*self._segments.values(), *self._idle.clear()]
            adopted = list(self._adopted.values())
            self._segments.clear()
            self._adopted.clear()
        _close(segments)
        for ref in adopted:
            os.close(ref.fd)

    # What is there

    def content(self, object_id: int) -> memoryview | None:
        """The bytes of an object that was created here, read-only.

        Valid until it is freed. ``None`` when it is not here (any more), or cannot be mapped.
        """
        with self._lock:
            segment = self._segments.get(object_id)
        if segment is None:
            return None
        with self._mapping_lock:
            window = _window(segment)
        return None if window is None else window[: segment.size_bytes].toreadonly()

    def has_capacity(self) -> bool:
        """Whether another object fits the budget of descriptors; if not, send it inside the message."""
        with self._lock:
            return self._fds_in_use() < self._max_fds

    def statistics(self) -> StoreStatistics:
        """A snapshot."""
        with self._lock:
            return StoreStatistics(
                objects=len(self._segments),
                object_bytes=sum(segment.size_bytes for segment in self._segments.values()),
                idle=len(self._idle),
                idle_bytes=self._idle.idle_bytes,
                adopted=len(self._adopted),
                open_fds=self._fds_in_use() + self._idle.open_fds,
                max_fds=self._max_fds,
                created=self._created,
                recycled=self._recycled,
            )

    def _fds_in_use(self) -> int:
        return len(self._adopted) + sum(segment.open_fds for segment in self._segments.values())

    def _held(self, object_id: int) -> SegmentRef | None:
        segment = self._segments.get(object_id)
        if segment is not None:
            return SegmentRef(object_id, self._pid, segment.fd, segment.size_bytes)
        return self._adopted.get(object_id)

    def _take_for(self, object_id: int, need_bytes: int) -> Segment:
        if os.getpid() != self._pid:
            # Its idle segments are the parent's too: both would write into the same memory.
            raise StoreError("this segment store belongs to the parent process")
        capacity = capacity_for(need_bytes)
        with self._lock:
            if self._closed:
                raise StoreError("the segment store is closed")
            if object_id in self._segments or object_id in self._writing:
                raise ValueError(f"object {object_id} exists already")
            segment = self._idle.take(capacity)
            surplus = [] if segment is not None else self._make_room_for_one()
            self._writing.add(object_id)
            self._recycled += segment is not None
        _close(surplus)
        if segment is not None:
            return segment
        try:
            return Segment(anonymous_file("scalepool", capacity, use_memfd=self._use_memfd), capacity)
        except BaseException:
            with self._lock:
                self._writing.discard(object_id)
            raise

    def _make_room_for_one(self) -> list[Segment]:
        surplus = []
        while self._fds_in_use() + self._idle.open_fds >= self._max_fds:
            oldest = self._idle.take_oldest()
            if oldest is None:
                break
            surplus.append(oldest)
        return surplus

    def _give_up(self, object_id: int, segment: Segment) -> None:
        with self._lock:
            self._writing.discard(object_id)
        _close([segment])


def _fill(segment: Segment, need_bytes: int, parts: Sequence[tuple[int, memoryview]], *, may_map: bool) -> None:
    """Write *parts*, the fastest way that cannot die of SIGBUS."""
    if need_bytes > segment.written_bytes:
        # Pages are missing. A mapping made before does not reach as far as the segment will: the next use makes a new
        # one.
        _unmap(segment)
        write_buffers(segment.fd, parts)
        segment.written_bytes = need_bytes
        return
    window = _window(segment) if may_map else None
    if window is None:
        write_buffers(segment.fd, parts)
        return
    for offset, view in parts:
        _copy(window, offset, view)


def _window(segment: Segment) -> memoryview | None:
    """The segment's memory; ``None`` where the system allows no more mappings: the file can still be written."""
    if segment.window is None:
        # MAP_POPULATE fills the page table at once, for half the price of one fault per page. Not beyond
        # written_bytes: it would allocate the holes there.
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        try:
            segment.mapping = map_file(
                segment.fd, segment.written_bytes, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        except StoreError:
            return None
        segment.window = memoryview(segment.mapping)
    return segment.window


def _copy(window: memoryview, offset: int, view: memoryview) -> None:
    size_bytes = len(view)
    if size_bytes <= _COPY_BYTES:
        window[offset : offset + size_bytes] = view
        return
    for start in range(0, size_bytes, _COPY_BYTES):
        chunk = view[start : start + _COPY_BYTES]
        window[offset + start : offset + start + len(chunk)] = chunk


def _unmap(segment: Segment) -> None:
    if segment.window is not None:
        segment.window.release()
        segment.window = None
    if segment.mapping is not None:
        # Somebody may compare with `content` while the store is closed: then it goes with the last reference.
        with contextlib.suppress(BufferError):
            segment.mapping.close()
        segment.mapping = None


def _close(segments: Iterable[Segment]) -> None:
    for segment in segments:
        _unmap(segment)
        os.close(segment.fd)
