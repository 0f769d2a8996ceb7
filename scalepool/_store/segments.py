"""The shared memory that one process writes: a segment for each large object, read in place by every process.

Guarantees: running out of memory is a `StoreError`, never SIGBUS: pages are allocated by ``pwrite``, which reports,
and only pages that exist are ever written through a mapping. A segment vanishes with its last descriptor and mapping,
whoever is killed.

Where the budget of memory is spent, an object goes into a nameless file on a disk instead: the same thing to whoever
reads it, only slower. One that was in memory may be moved there, see ``holder``. Its descriptor keeps its number, so
nobody needs to be told where it is now; and its memory is given up, not written again, so whoever is just opening or
reading it goes on with what was there.

Assumption: `SegmentStore.free` is called only when nobody can read the object any more. A segment is written again
after that, and a view that were left would see the new bytes. Who may still read is known to the hub, not here. As a
net, every segment carries the stamp of its object, erased by ``free``: a late *open* fails instead of showing strange
bytes.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from scalepool._base.tuples import NamedTuple
from scalepool._store.allocator import Allocator, SegmentFiles
from scalepool._store.budget import Patience
from scalepool._store.files import SegmentRef, default_max_fds
from scalepool._store.holder import SegmentHolder
from scalepool._store.layout import STAMP_BYTES, pack_stamp, place, stamp_offset
from scalepool._store.recycle import RecycleLimits, Segment
from scalepool._store.writing import unmap, window
from scalepool.errors import ObjectStoreFullError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from scalepool._store.budget import Budget
    from scalepool._store.handover import Deposits
    from scalepool._store.holder import DiskCopy

__all__ = ["RecycleLimits", "SegmentFiles", "SegmentRef", "SegmentStore", "StoreStatistics"]

_NO_STAMP = bytes(STAMP_BYTES)
_RETRY_S = 0.01


class StoreStatistics(NamedTuple):
    """A snapshot of a `SegmentStore`; sizes in bytes.

    Attributes
    ----------
    objects, object_bytes
        Objects created here and not yet freed.
    idle, idle_bytes
        Segments that wait to be written again, and their allocated memory.
    open_fds, max_fds
        Descriptors held for all of these, and the budget for those in use.
    created, recycled
        Objects created so far, and how many of them went into a segment that existed.
    spilled
        How many of `objects` are on a disk.
    """

    objects: int
    object_bytes: int
    idle: int
    idle_bytes: int
    open_fds: int
    max_fds: int
    created: int
    recycled: int
    spilled: int


class SegmentStore(SegmentHolder):
    """The segments of this process. Thread-safe; a child that inherits it by fork cannot write to it.

    Parameters
    ----------
    max_fds
        Descriptors that objects may use before `has_capacity` says no; default a quarter of the soft limit.
        Idle segments do not count: they are closed when their descriptors are needed.
    limits
        What is kept for recycling; default ``RecycleLimits()``.
    files
        What segments are; default memfds where the system has them.
    budget
        What all stores of the session may use; default no limit, and no spilling.
    """

    def __init__(
        self,
        *,
        max_fds: int | None = None,
        limits: RecycleLimits | None = None,
        files: SegmentFiles | None = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self._max_fds = default_max_fds() if max_fds is None else max_fds
        self._pid = os.getpid()
        self._mapping_lock = threading.Lock()  # for `content` and spilling: mapping a large segment takes long
        self._allocator = Allocator(files or SegmentFiles(), limits or RecycleLimits(), budget)
        self._segments: dict[int, Segment] = {}
        self._writing: set[int] = set()
        self._closed = False
        self._created = 0
        self._patience = Patience(self._allocator.budget)
        self.made_on_disk: deque[int] = deque()
        """Objects that found no room in memory, for whoever keeps the books; a few are enough."""
        self.handover: Deposits | None = None
        """Where descriptors of objects are deposited; ``None``: who wants one opens it through /proc, or asks here."""
        self.wait: Callable[[float], bool] | None = None
        """Lets some seconds pass in which others may free memory; False where one may not wait."""

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
        ObjectStoreFullError
            The budgets of memory and of disk are spent, or the system has neither.
        StoreError
            Descriptors or a limit is exhausted; or the store is closed, or inherited through a fork.
        ValueError
            The object exists already.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        layout = place(len(view) for view in views)
        end = stamp_offset(layout.size_bytes)
        parts = [*zip(layout.offsets, views, strict=True), (end, memoryview(pack_stamp(object_id, layout.size_bytes)))]
        self._begin(object_id)
        try:
            segment = self._write(end + STAMP_BYTES, parts)
        finally:
            with self._lock:
                self._writing.discard(object_id)
        segment.size_bytes = layout.size_bytes
        if self.handover is not None:
            self._deposit(object_id, segment)
        if segment.on_disk:
            self.made_on_disk.append(object_id)
        with self._lock:
            if not self._closed:
                self._segments[object_id] = segment
                self._created += 1
                return SegmentRef(object_id, self._pid, segment.fd, layout.size_bytes)
        self._allocator.close_all([segment])
        raise StoreError("the segment store is closed")

    # ... and goes

    def free(self, object_id: int) -> None:
        """Hand a created object's segment to the next one; only when no process can read it any more (see above).

        Raises
        ------
        KeyError
            No such object was created here, or it is freed already.
        """
        segment = self._pop(object_id)
        if segment is None:
            return
        if not segment.on_disk:
            try:
                os.pwrite(segment.fd, _NO_STAMP, stamp_offset(segment.size_bytes))
            except OSError:  # a file on a disk whose every overwrite allocates, and that is full
                self._allocator.close_all([segment])
                return
        self._allocator.recycle(segment)

    def discard(self, object_id: int) -> None:
        """Give up the memory of an object that is kept elsewhere by now; those who are reading it go on.

        Raises
        ------
        KeyError
            As `free`.
        """
        segment = self._pop(object_id)
        if segment is not None:
            self._allocator.close_all([segment])

    def end_spill(self, object_id: int, copy: DiskCopy) -> bool:
        """Let a copy be the object from now on; its descriptor keeps its number. See `SegmentHolder`."""
        budget = self._allocator.budget
        with self._lock:
            segment = self._segments.get(object_id)
            if segment is None or segment.on_disk:
                copy.drop(budget)
                return segment is not None
            os.dup2(copy.fd, segment.fd, inheritable=False)
            charged, segment.charged_bytes, segment.on_disk = segment.charged_bytes, copy.charged_bytes, True
            segment.written_bytes = stamp_offset(segment.size_bytes) + STAMP_BYTES
        os.close(copy.fd)
        with self._mapping_lock:
            unmap(segment)
        budget.give(memory_bytes=charged)
        return True

    def expire(self, now: float) -> None:
        """Give memory back that has been idle for ``limits.idle_s``; to be called every few seconds.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        self._allocator.expire(now)

    def trim(self) -> None:
        """Give back all memory that is idle."""
        self._allocator.trim()

    def close(self) -> None:
        """Let go of everything. Views in any process stay valid; what nobody else holds can no longer be opened."""
        with self._lock:
            self._closed = True
            segments = list(self._segments.values())
            self._segments.clear()
        self._allocator.close()
        self._allocator.close_all(segments)

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
            memory = window(segment)
        return None if memory is None else memory[: segment.size_bytes].toreadonly()

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
                idle=self._allocator.idle,
                idle_bytes=self._allocator.idle_bytes,
                open_fds=self._fds_in_use() + self._allocator.idle_fds,
                max_fds=self._max_fds,
                created=self._created,
                recycled=self._allocator.recycled,
                spilled=sum(segment.on_disk for segment in self._segments.values()),
            )

    def _held(self, object_id: int) -> tuple[int, int] | None:
        segment = self._segments.get(object_id)
        return None if segment is None else (segment.fd, segment.size_bytes)

    def is_on_disk(self, object_id: int) -> bool:
        """Whether an object is on the disk. See `SegmentHolder`."""
        with self._lock:
            return self._segments[object_id].on_disk

    def _fds_in_use(self) -> int:
        return sum(segment.open_fds for segment in self._segments.values())

    def _deposit(self, object_id: int, segment: Segment) -> None:
        assert self.handover is not None
        try:
            self.handover.deposit(object_id, segment.fd)
        except BaseException:
            self._allocator.close_all([segment])
            raise

    def _begin(self, object_id: int) -> None:
        if os.getpid() != self._pid:
            # Its idle segments are the parent's too: both would write into the same memory.
            raise StoreError("this segment store belongs to the parent process")
        with self._lock:
            if self._closed:
                raise StoreError("the segment store is closed")
            if object_id in self._segments or object_id in self._writing:
                raise ValueError(f"object {object_id} exists already")
            self._writing.add(object_id)

    def _write(self, need_bytes: int, parts: Sequence[tuple[int, memoryview]]) -> Segment:
        """Write *parts*; while there is no room wait for others to free some, as long as they do."""
        while True:
            try:
                with self._lock:
                    spare_fds = self._max_fds - self._fds_in_use()
                segment = self._allocator.write(need_bytes, parts, spare_fds)
            except ObjectStoreFullError:
                if self.wait is None or not self._patience.lasts(need_bytes) or not self.wait(_RETRY_S):
                    raise
            else:
                self._patience.rewarded()
                return segment

    def _pop(self, object_id: int) -> Segment | None:
        with self._lock:
            segment = self._segments.pop(object_id, None)
            if segment is None and not self._closed:  # else a late word: nothing is kept any more
                raise KeyError(object_id)
        if self.handover is not None:
            self.handover.withdraw(object_id)
        return segment
