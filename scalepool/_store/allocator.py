"""Where the memory of a new segment comes from: from what is idle, from the system, or from the disk.

In this order, as far as the session's budget allows. What is freed comes back here and is kept for some seconds.
"""

from __future__ import annotations

import errno
import os
import threading

from scalepool._base.tuples import NamedTuple
from scalepool._store.budget import Budget, BudgetLimits
from scalepool._store.files import HAS_MEMFD, anonymous_file
from scalepool._store.holder import file_on_disk
from scalepool._store.layout import capacity_for, pages
from scalepool._store.recycle import RecycleLimits, RecyclePool, Segment
from scalepool._store.writing import fill, unmap
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Allocator", "SegmentFiles"]

_EXHAUSTED = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG})
_BOUNDLESS = BudgetLimits(1 << 62)


class SegmentFiles(NamedTuple):
    """What segments are.

    Attributes
    ----------
    use_memfd
        ``False``: files that are unlinked at once, instead of memfds. They may lie on a disk whose every overwrite
        allocates, so they are never written through a mapping.
    folder
        Where these files are; empty: the directory for temporary files.
    """

    use_memfd: bool = HAS_MEMFD
    folder: str = ""


class Allocator:
    """Segments for one process to write. Thread-safe.

    Parameters
    ----------
    files
        What they are.
    limits
        What is kept for recycling.
    budget
        What all processes of the session may use; ``None``: no limit, and no spilling.
    """

    def __init__(self, files: SegmentFiles, limits: RecycleLimits, budget: Budget | None) -> None:
        self._files = files
        self.budget = Budget("", 0, _BOUNDLESS) if budget is None else budget
        # Reentrant: the collector may run user code in between.
        self._lock = threading.RLock()
        self._idle = RecyclePool(limits)
        self._closed = False
        self.recycled = 0
        """Segments that were written again."""

    @property
    def idle(self) -> int:
        """Segments that wait to be written again."""
        return len(self._idle)

    @property
    def idle_bytes(self) -> int:
        """Their allocated memory."""
        return self._idle.idle_bytes

    @property
    def idle_fds(self) -> int:
        """Descriptors held for them."""
        return self._idle.open_fds

    def write(self, need_bytes: int, parts: Sequence[tuple[int, memoryview]], spare_fds: int) -> Segment:
        """Write *parts* into memory, or onto the disk where there is none.

        Parameters
        ----------
        need_bytes
            Where the last part ends.
        spare_fds
            Descriptors that idle segments may go on using.

        Raises
        ------
        ObjectStoreFullError
            The budgets of memory and of disk are spent, or the system has neither.
        StoreError
            No descriptor is left, or a limit is reached.
        """
        reason = ""
        for on_disk in (False, True):
            segment = self._take(need_bytes, spare_fds, on_disk=on_disk)
            if segment is None:
                continue
            try:
                fill(segment, need_bytes, parts, may_map=self._files.use_memfd)
            except OSError as error:
                self.close_all([segment])
                if error.errno not in _EXHAUSTED:
                    raise StoreError(f"no shared memory for an object of {need_bytes} bytes: {error}") from error
                reason = str(error)
            except BaseException:
                self.close_all([segment])
                raise
            else:
                return segment
        raise self.budget.full(need_bytes, reason)

    def recycle(self, segment: Segment) -> None:
        """Keep a segment for the next object of its size, unless memory is short."""
        if segment.on_disk or self.budget.tight:
            self.close_all([segment])
            self.trim()
            return
        with self._lock:
            surplus = [segment] if self._closed else self._idle.put(segment)
        self.close_all(surplus)

    def expire(self, now: float) -> None:
        """Give memory back that has been idle for ``limits.idle_s``."""
        with self._lock:
            surplus = self._idle.expire(now)
        self.close_all(surplus)

    def trim(self) -> None:
        """Give back all memory that is idle."""
        with self._lock:
            surplus = self._idle.clear()
        self.close_all(surplus)

    def close(self) -> None:
        """Keep nothing, now and later."""
        self._closed = True
        self.trim()

    def close_all(self, segments: Iterable[Segment]) -> None:
        """Let go of segments."""
        for segment in segments:
            unmap(segment)
            os.close(segment.fd)
            charged = segment.charged_bytes
            self.budget.give(0 if segment.on_disk else charged, charged if segment.on_disk else 0)

    def _take(self, need_bytes: int, spare_fds: int, *, on_disk: bool) -> Segment | None:
        """Return a segment that may grow to *need_bytes*; ``None`` where the budget does not allow that."""
        cost = pages(need_bytes)
        if on_disk:
            self.close_all(self._idle_beyond(spare_fds))
            return self._new(need_bytes, on_disk=True) if self.budget.take_disk(cost) else None
        capacity = capacity_for(need_bytes)
        with self._lock:
            segment = self._idle.take(capacity)
        if segment is not None:
            growth = max(cost - segment.charged_bytes, 0)
            if not growth or self.budget.take_memory(growth):
                segment.charged_bytes += growth
                self.recycled += 1
                return segment
            self.close_all([segment])
        while not self.budget.take_memory(cost):
            with self._lock:
                oldest = self._idle.take_oldest()
            if oldest is None:
                return None
            self.close_all([oldest])
        self.close_all(self._idle_beyond(spare_fds))
        return self._new(need_bytes, on_disk=False)

    def _new(self, need_bytes: int, *, on_disk: bool) -> Segment | None:
        """Return a new segment, which is paid for."""
        cost = pages(need_bytes)
        try:
            capacity = capacity_for(need_bytes)
            if on_disk:
                fd = file_on_disk(self.budget, need_bytes)
            else:
                fd = anonymous_file("scalepool", capacity, use_memfd=self._files.use_memfd, folder=self._files.folder)
            segment = Segment(fd, capacity)
        except BaseException:
            self.budget.give(0 if on_disk else cost, cost if on_disk else 0)
            raise
        segment.charged_bytes, segment.on_disk = cost, on_disk
        return segment

    def _idle_beyond(self, spare_fds: int) -> list[Segment]:
        surplus = []
        with self._lock:
            while self._idle.open_fds >= spare_fds:
                oldest = self._idle.take_oldest()
                if oldest is None:
                    break
                surplus.append(oldest)
        return surplus
