"""``progress=`` of the joblib backend: items of finished batches, told in the threads that tell joblib of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from scalepool._shims.progress import ProgressMeter, Reporter, progress_sink

__all__ = ["BatchProgress"]


class BatchProgress:
    """Counts the items of one call of joblib's.

    Parameters
    ----------
    progress
        As the user gave it; something.
    parallel
        The ``joblib.Parallel`` that the call is made with; it knows when it has read all of its input.
    """

    def __init__(self, progress: Any, parallel: Any) -> None:
        sink = progress_sink(progress)
        assert sink is not None
        self._reporter = Reporter(sink, lambda delivery: delivery(True))
        self._parallel = parallel
        self._meter = ProgressMeter(None, time.monotonic)
        self._lock = threading.Lock()
        self._finished = False

    def watch(self, func: Any, callback: Callable[[Future[Any]], object]) -> Callable[[Future[Any]], object]:
        """Return what is to be called with the batch when it is finished, and calls ``callback``."""
        items = _items_in(func)

        def told(batch: Future[Any]) -> None:
            if not batch.cancelled():
                # Which item of a failed batch it was is not known, and the others of it are lost.
                failed = batch.exception() is not None
                self._advance(1 if failed else items, int(failed))
            callback(batch)

        return told

    def _advance(self, items: int, failed: int) -> None:
        with self._lock:  # held while the report is shown: a bar is no thread's own
            if self._finished:
                return
            if getattr(self._parallel, "_original_iterator", self) is None:
                self._meter.total = getattr(self._parallel, "n_dispatched_tasks", None)
            report = self._meter.advance(items, failed)
            if report is not None:
                self._reporter.post(report)

    def finish(self) -> None:
        """The call is over: show the last report, and close the bar."""
        with self._lock:
            if not self._finished:
                self._finished = True
                self._reporter.finish(self._meter.finish() if self._meter.done else None)


def _items_in(func: Any) -> int:
    try:
        return len(func)  # joblib's BatchedCalls
    except TypeError:
        return 1
