"""Objects of other processes that are kept alive here: by a descriptor of their segments, whoever dies."""

from __future__ import annotations

import os

from scalepool._base.ids import peer_of
from scalepool._store.budget import Usage
from scalepool._store.files import SegmentRef, in_memory, open_segment
from scalepool._store.holder import SegmentHolder
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._store.budget import Budget
    from scalepool._store.holder import DiskCopy

__all__ = ["AdoptedSegments"]

_BLOCK_BYTES = 512  # what st_blocks counts, whatever the file system uses
_NOTHING = Usage(0, 0)


class AdoptedSegments(SegmentHolder):
    """Segments that others wrote. Thread-safe.

    Their memory is counted by who wrote it, until that process is gone or the object has been spilled from here.

    Parameters
    ----------
    budget
        What all processes of the session may use; ``None``: nothing is counted, and nothing spilled.
    opener
        Returns a new descriptor of an object's segment.
    """

    def __init__(self, budget: Budget | None = None, opener: Callable[[SegmentRef], int] = open_segment) -> None:
        super().__init__()
        self._budget = budget
        self._open = opener
        self._pid = os.getpid()
        self._refs: dict[int, SegmentRef] = {}
        self._charged: dict[int, Usage] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._refs)

    def adopt(self, ref: SegmentRef) -> SegmentRef:
        """Hold a descriptor of an object's segment, and say where it is now.

        Adopting what is held already returns where it is.

        Raises
        ------
        StoreError
            The process that held it is gone, or the segment holds something else by now.
        """
        with self._lock:
            held = self._refs.get(ref.object_id)
            if held is not None:
                return held
        fd = self._open(ref)
        own = SegmentRef(ref.object_id, self._pid, fd, ref.size_bytes)
        with self._lock:
            held = self._refs.get(ref.object_id)
            if held is None and not self._closed:
                self._refs[ref.object_id] = own
                return own
        os.close(fd)
        if held is not None:  # another thread was faster
            return held
        raise StoreError("the segment store is closed")

    def take_in(self, ref: SegmentRef, usage: Usage) -> None:
        """Hold an object that was written in this process for somebody else, and is counted as this."""
        with self._lock:
            if not self._closed and ref.object_id not in self._refs:
                self._refs[ref.object_id] = ref
                self._charged[ref.object_id] = usage
                return
        os.close(ref.fd)
        if self._budget is not None:
            self._budget.give(*usage)

    def held(self, object_id: int) -> SegmentRef | None:
        """Return where an object is that is held here."""
        return self._refs.get(object_id)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._refs

    def drop(self, object_id: int) -> None:
        """Let go of an object; views on it stay valid.

        Raises
        ------
        KeyError
            It is not held here.
        """
        with self._lock:
            ref = self._refs.pop(object_id)
            charged = self._charged.pop(object_id, _NOTHING)
            os.close(ref.fd)
        if self._budget is not None:
            self._budget.give(*charged)

    def end_spill(self, object_id: int, copy: DiskCopy) -> bool:
        """Let a copy be the object from now on; its maker still has it in memory. See `SegmentHolder`."""
        assert self._budget is not None  # where nothing is counted nothing is spilled
        with self._lock:
            ref = self._refs.get(object_id)
            charged = self._charged.get(object_id, _NOTHING)
            if ref is None or charged.disk_bytes:
                copy.drop(self._budget)
                return ref is not None
            os.dup2(copy.fd, ref.fd, inheritable=False)
            self._charged[object_id] = Usage(0, copy.charged_bytes)
        os.close(copy.fd)
        self._budget.give(memory_bytes=charged.memory_bytes)  # of a maker that is gone
        return True

    def _held(self, object_id: int) -> tuple[int, int] | None:
        ref = self._refs.get(object_id)
        return None if ref is None else (ref.fd, ref.size_bytes)

    def is_on_disk(self, object_id: int) -> bool:
        """Whether an object is on the disk; from then on it is counted here. See `SegmentHolder`."""
        with self._lock:
            ref = self._refs[object_id]
            if self._charged.get(object_id, _NOTHING).disk_bytes:
                return True
            if in_memory(ref.fd):
                return False
            if self._budget is not None:
                self._charged[object_id] = self._charge(ref)  # it was made there, as there was no memory
            return True

    def take_over(self, peer: int) -> None:
        """Count here what a process leaves behind that is gone, and no longer there."""
        if self._budget is None:
            return
        with self._lock:
            left = [ref for ref in self._refs.values() if peer_of(ref.object_id) == peer]
            for ref in left:
                if ref.object_id not in self._charged:
                    self._charged[ref.object_id] = self._charge(ref)
        self._budget.bury(peer)

    def _charge(self, ref: SegmentRef) -> Usage:
        assert self._budget is not None
        size_bytes = os.fstat(ref.fd).st_blocks * _BLOCK_BYTES
        if in_memory(ref.fd):
            self._budget.take_memory(size_bytes, by_force=True)
            return Usage(size_bytes, 0)
        self._budget.take_disk(size_bytes, by_force=True)
        return Usage(0, size_bytes)

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._closed = True
            held = list(self._refs)
        for object_id in held:
            self.drop(object_id)
