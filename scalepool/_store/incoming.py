"""Objects that come from another host, bit by bit: their segments while they are being filled."""

from __future__ import annotations

import os

from scalepool._store.budget import Usage
from scalepool._store.files import SegmentRef, anonymous_file, unlinked_file, write_buffers
from scalepool._store.layout import STAMP_BYTES, pack_stamp, pages, stamp_offset
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scalepool._store.allocator import SegmentFiles
    from scalepool._store.budget import Budget

__all__ = ["IncomingSegment"]


class IncomingSegment:
    """A segment that is written in parts; nobody can open it as its object before `finish`.

    Parameters
    ----------
    object_id, size_bytes
        What it will be.
    files
        What segments are here.
    budget
        Where its memory is counted, or its disk where there is no memory.

    Raises
    ------
    ObjectStoreFullError
        The budgets of memory and disk are spent.
    StoreError
        No descriptor is left.
    """

    __slots__ = ("_budget", "_fd", "_object_id", "_size_bytes", "_usage")

    def __init__(self, object_id: int, size_bytes: int, files: SegmentFiles, budget: Budget) -> None:
        self._object_id = object_id
        self._size_bytes = size_bytes
        self._budget = budget
        need_bytes = pages(stamp_offset(size_bytes) + STAMP_BYTES)
        if budget.take_memory(need_bytes):
            self._usage = Usage(need_bytes, 0)
        elif budget.limits.folder and budget.take_disk(need_bytes):
            self._usage = Usage(0, need_bytes)
        else:
            raise budget.full(size_bytes)
        try:
            if self._usage.memory_bytes:
                self._fd = anonymous_file(
                    f"scalepool-{object_id}", need_bytes, use_memfd=files.use_memfd, folder=files.folder
                )
            else:
                self._fd = _file_on_disk(budget.limits.folder)
        except BaseException:
            budget.give(*self._usage)
            raise

    def write(self, offset: int, data: bytes) -> None:
        """Write a part.

        Raises
        ------
        StoreError
            Memory or disk is exhausted.
        """
        try:
            write_buffers(self._fd, [(offset, memoryview(data))])
        except OSError as error:
            raise StoreError(f"no room for an object of {self._size_bytes} bytes: {error}") from error

    def finish(self) -> tuple[SegmentRef, Usage]:
        """All is written: return where the object is, and what it was counted as; both are the caller's now.

        Raises
        ------
        StoreError
            As `write`.
        """
        stamp = pack_stamp(self._object_id, self._size_bytes)
        self.write(stamp_offset(self._size_bytes), stamp)
        fd, self._fd = self._fd, -1
        return SegmentRef(self._object_id, os.getpid(), fd, self._size_bytes), self._usage

    def abandon(self) -> None:
        """Let go of it: it will not come to be."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._budget.give(*self._usage)


def _file_on_disk(folder: str) -> int:
    try:
        return unlinked_file(folder)
    except OSError as error:
        raise StoreError(f"no file for an object can be made in {folder!r}: {error}") from error
