"""Objects that come from another host, bit by bit: their segments while they are being filled."""

from __future__ import annotations

import os
import threading

from scalepool._store.budget import Usage
from scalepool._store.files import SegmentRef, anonymous_file, unlinked_file, write_buffers
from scalepool._store.layout import STAMP_BYTES, pack_stamp, pages, stamp_offset
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scalepool._store.allocator import SegmentFiles
    from scalepool._store.budget import Budget

__all__ = ["Filled", "IncomingSegment"]


class Filled:
    """How many bytes of an object there are from its start, for whoever passes them on meanwhile. Thread-safe.

    Parameters
    ----------
    fd
        The segment; a descriptor of its own.
    size_bytes
        How many there will be.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self.size_bytes = size_bytes
        self._there_bytes = 0
        self._over = False
        self._changed = threading.Condition(threading.Lock())

    @property
    def there_bytes(self) -> int:
        """Bytes that are there."""
        return self._there_bytes

    def write(self, offset: int, data: memoryview) -> bool:
        """Write what follows on what is there; False when nobody wants it any more.

        Raises
        ------
        OSError
            Memory or disk is exhausted.
        """
        with self._changed:
            if self._over or offset != self._there_bytes or offset + len(data) > self.size_bytes:
                return False
            # Under the lock, so that nobody closes the descriptor meanwhile; a chunk takes a fraction of a millisecond.
            write_buffers(self._fd, [(offset, data)])
            self._there_bytes = offset + len(data)
            self._changed.notify_all()
        return True

    def open(self) -> int:
        """Return a new descriptor of the segment; -1 when it is given up.

        Raises
        ------
        OSError
            No descriptor is left.
        """
        with self._changed:
            return -1 if self._fd < 0 else os.dup(self._fd)

    def wait_beyond(self, offset: int, timeout_s: float) -> int:
        """Wait for more than ``offset`` bytes, or the end; return how many are there, -1 when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._there_bytes > offset, timeout_s)
            return -1 if self._over and self._there_bytes <= offset else self._there_bytes

    def end(self) -> None:
        """No more will be written here."""
        with self._changed:
            self._over = True
            fd, self._fd = self._fd, -1
            self._changed.notify_all()
        if fd >= 0:
            os.close(fd)


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

    def filled(self) -> Filled:
        """Return what another thread is to write the object through, from its start on.

        Raises
        ------
        StoreError
            No descriptor is left.
        """
        try:
            return Filled(os.dup(self._fd), self._size_bytes)
        except OSError as error:
            raise StoreError(f"no descriptor for an object of {self._size_bytes} bytes: {error}") from error

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
