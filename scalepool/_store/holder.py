"""Whoever keeps segments open: how others get at them, and how an object moves to the disk while that goes on.

A move has three steps. `SegmentHolder.begin_spill` hands out a descriptor of its own; from that a copy is made on the
disk, in whichever thread, for however long (`copy_to_disk`); and `SegmentHolder.end_spill` puts the copy in the place
of the segment, under the same number and in one step, unless the object was freed meanwhile.
"""

from __future__ import annotations

import os
import threading

from scalepool._base.tuples import NamedTuple
from scalepool._store.files import copy_file, unlinked_file
from scalepool._store.layout import STAMP_BYTES, capacity_for, pages, stamp_offset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._store.budget import Budget

__all__ = ["DiskCopy", "SegmentHolder", "Source", "Unwanted", "copy_to_disk", "file_on_disk"]


class Source(NamedTuple):
    """What is to be copied: the first ``size_bytes`` of a file, whose descriptor is the holder's of this."""

    fd: int
    size_bytes: int


class DiskCopy(NamedTuple):
    """A copy on the disk: a descriptor of it, and the bytes of disk that the budget counts for it."""

    fd: int
    charged_bytes: int

    def drop(self, budget: Budget) -> None:
        """Let go of it: nobody wants it."""
        os.close(self.fd)
        budget.give(disk_bytes=self.charged_bytes)


class Unwanted(Exception):
    """Nobody wants the copy any more."""


class SegmentHolder:
    """Descriptors of objects' segments, by object; the tables are the subclass's."""

    def __init__(self) -> None:
        # Guards the tables; never held while bytes are copied. Reentrant: the collector may run user code in between.
        self._lock = threading.RLock()

    def _held(self, object_id: int) -> tuple[int, int] | None:
        """Return the descriptor and the size in bytes of an object; ``None`` when it is not here (any more)."""
        raise NotImplementedError

    def holds(self, object_id: int) -> bool:
        """Whether an object is here (still)."""
        with self._lock:
            return self._held(object_id) is not None

    def find(self, object_id: int) -> int | None:
        """Return a new descriptor of an object's segment; ``None`` when the object is not here (any more).

        Raises
        ------
        OSError
            No descriptor is left.
        """
        with self._lock:
            held = self._held(object_id)
            return None if held is None else os.dup(held[0])

    def begin_spill(self, object_id: int) -> Source | None:
        """Return what has to be copied to move an object to the disk; ``None`` when it is there already.

        Raises
        ------
        KeyError
            It is not here (any more).
        OSError
            No descriptor is left.
        """
        with self._lock:
            if self.is_on_disk(object_id):
                return None
            held = self._held(object_id)
            assert held is not None  # else the above had raised
            return Source(os.dup(held[0]), stamp_offset(held[1]) + STAMP_BYTES)

    def is_on_disk(self, object_id: int) -> bool:
        """Whether an object is on the disk.

        Raises
        ------
        KeyError
            It is not here (any more).
        """
        raise NotImplementedError

    def end_spill(self, object_id: int, copy: DiskCopy) -> bool:
        """Let a copy be the object from now on; False, and the copy is dropped, when it is not here any more."""
        raise NotImplementedError


def copy_to_disk(budget: Budget, source: Source, is_wanted: Callable[[], bool] = lambda: True) -> DiskCopy:
    """Copy a segment into a nameless file on the disk.

    Parameters
    ----------
    is_wanted
        Asked now and then; when it says no, the copy is given up.

    Raises
    ------
    ObjectStoreFullError
        The disk, or what the budget allows of it, is full.
    Unwanted
        It was given up.
    """
    cost = pages(source.size_bytes)
    if not budget.take_disk(cost):
        raise budget.full(source.size_bytes)
    try:
        fd = file_on_disk(budget, source.size_bytes)
        try:
            for _ in copy_file(source.fd, fd, source.size_bytes):
                if not is_wanted():
                    raise Unwanted
        except OSError as error:
            os.close(fd)
            raise budget.full(source.size_bytes, str(error)) from error
        except BaseException:
            os.close(fd)
            raise
    except BaseException:
        budget.give(disk_bytes=cost)
        raise
    return DiskCopy(fd, cost)


def file_on_disk(budget: Budget, need_bytes: int) -> int:
    """Open a nameless file on the disk that may grow to *need_bytes*, all holes.

    Raises
    ------
    ObjectStoreFullError
        There is no room, or no place, for it.
    """
    try:
        fd = unlinked_file(budget.limits.folder)
    except OSError as error:
        raise budget.full(need_bytes, str(error)) from error
    try:
        # A hole up to the end of its class costs nothing, and readers map few different lengths.
        os.ftruncate(fd, capacity_for(need_bytes))
    except OSError as error:
        os.close(fd)
        raise budget.full(need_bytes, str(error)) from error
    return fd
