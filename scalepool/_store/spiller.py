"""Copies objects to the disk in a thread of its own: a disk takes seconds for what memory takes milliseconds for.

The thread lives while there is something to copy. What it has copied waits here until it is taken: whoever does the
books puts it in its place.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from scalepool._base.tuples import NamedTuple
from scalepool._store.holder import Unwanted, copy_to_disk
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._store.budget import Budget
    from scalepool._store.holder import DiskCopy, SegmentHolder, Source

__all__ = ["Spiller", "Written"]


class Written(NamedTuple):
    """What became of an order: a copy, or ``None`` where there was no room for one, or no need of one any more."""

    holder: SegmentHolder
    object_id: int
    copy: DiskCopy | None


class _Order(NamedTuple):
    holder: SegmentHolder
    object_id: int
    source: Source


class Spiller:
    """Makes copies on the disk, one after the other. Thread-safe.

    Parameters
    ----------
    budget
        What all processes of the session may use.
    on_written
        Called in the spiller's thread whenever there is something new to be taken.
    """

    def __init__(self, budget: Budget, on_written: Callable[[], None]) -> None:
        self._budget = budget
        self._on_written = on_written
        self._lock = threading.Lock()
        self._orders: deque[_Order] = deque()
        self.written: deque[Written] = deque()
        """What has come to its end and was not taken yet."""
        self._is_running = False
        self._closed = False

    def order(self, holder: SegmentHolder, object_id: int, source: Source) -> None:
        """Have an object copied that *holder* has; *source* is closed here."""
        with self._lock:
            if self._closed:
                os.close(source.fd)
                return
            self._orders.append(_Order(holder, object_id, source))
            if self._is_running:
                return
            self._is_running = True
        try:
            threading.Thread(target=self._run, name="scalepool-spill", daemon=True).start()
        except RuntimeError:  # no thread can be had: then whoever asks does it
            self._run()

    def take(self) -> list[Written]:
        """Return what has come to its end since the last time."""
        return [self.written.popleft() for _ in range(len(self.written))]

    def close(self) -> None:
        """Copy nothing any more, and drop what nobody has taken."""
        with self._lock:
            self._closed = True
        for written in self.take():
            if written.copy is not None:
                written.copy.drop(self._budget)

    def _run(self) -> None:
        while (order := self._next()) is not None:
            written = Written(order.holder, order.object_id, self._copy(order))
            with self._lock:
                is_late = self._closed
                if not is_late:
                    self.written.append(written)
            if not is_late:
                self._on_written()
            elif written.copy is not None:
                written.copy.drop(self._budget)

    def _next(self) -> _Order | None:
        with self._lock:
            if self._orders:
                return self._orders.popleft()
            self._is_running = False
            return None

    def _copy(self, order: _Order) -> DiskCopy | None:
        def is_wanted() -> bool:
            return not self._closed and order.holder.holds(order.object_id)

        try:
            return copy_to_disk(self._budget, order.source, is_wanted) if is_wanted() else None
        except (StoreError, OSError, Unwanted):  # there is no room, or no need
            return None
        finally:
            os.close(order.source.fd)
