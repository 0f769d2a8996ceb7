"""``progress=`` of ``Executor.map``: what becomes of its chunks, told in a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._shims.callbacks import CallbackThread
from scalepool._shims.chunks import ChunkOutcomes
from scalepool._shims.progress import Reporter, Sink, Tracker
from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.api import TaskFuture

__all__ = ["ChunkProgress"]


class ChunkProgress:
    """Counts the items of one ``map`` call.

    Parameters
    ----------
    sink
        Shows a report.
    total
        Number of items; ``None`` where nobody knows.
    """

    def __init__(self, sink: Sink, total: int | None) -> None:
        thread = CallbackThread("scalepool-progress")
        self._tracker = Tracker(Reporter(sink, thread.post), total, thread.stop)
        self.no_more = self._tracker.no_more
        self.wait = self._tracker.wait

    def watch(self, items: int, then: Callable[[TaskFuture], None] | None = None) -> Callable[[TaskFuture], None]:
        """Return what is to be called with the future of a chunk of so many items, and calls ``then``."""
        self._tracker.begin()

        def done(future: TaskFuture) -> None:
            if future.cancelled() or (items > 1 and _has_not_left(future)):
                self._tracker.end(0)  # in the latter case its items go one by one, and are counted then
            elif future.exception() is not None:
                self._tracker.end(items, items)
            else:
                self._tracker.end(items, _failed(future.result()))
            if then is not None:
                then(future)

        return done


def _has_not_left(future: TaskFuture) -> bool:
    return future.duration_s is None and isinstance(future.exception(), SerializationError)


def _failed(result: Any) -> int:
    return len(result.failures) if isinstance(result, ChunkOutcomes) else 0
