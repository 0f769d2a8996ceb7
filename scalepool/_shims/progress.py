"""Progress of a map: reports as of `_base.progress`, shown in the thread for user code."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from scalepool._base.progress import ProgressMeter, Report, Sink, progress_sink

__all__ = ["ProgressMeter", "Report", "Reporter", "Sink", "Tracker", "progress_sink"]

LAST_WORDS_S = 5.0
"""How long the reader of a last result waits for the last report."""


class Reporter:
    """Shows reports, which is user code, in the thread for user code.

    Parameters
    ----------
    sink
        Shows one.
    post
        Queues a delivery for the callback thread.
    """

    __slots__ = ("_post", "_sink")

    def __init__(self, sink: Sink, post: Callable[[Callable[[bool], None]], None]) -> None:
        self._sink = sink
        self._post = post

    def finish(self, report: Report | None, run_user_code: bool = True) -> None:
        """Show the last report here and now; the caller is the callback thread. A bar is closed in any case."""
        if report is not None and run_user_code:
            self._sink(*report)
        close = getattr(self._sink, "close", None)
        if close is not None:
            close()

    def post_last(self, report: Report | None, then: Callable[[], object] | None = None) -> None:
        """Have the last report shown soon, and `then` called."""

        def deliver(run_user_code: bool) -> None:
            try:
                self.finish(report, run_user_code)
            finally:
                if then is not None:
                    then()

        self._post(deliver)

    def post(self, report: Report) -> None:
        """Have `report` shown soon."""

        def deliver(run_user_code: bool) -> None:
            if run_user_code:
                self._sink(*report)

        self._post(deliver)


class Tracker:
    """Counts the items of a call whose tasks end in any thread, and knows when the last one has.

    Parameters
    ----------
    reporter
        Shows reports.
    total
        Number of items; ``None`` while it is not known.
    on_finished
        Called when the last report has been shown.
    """

    def __init__(self, reporter: Reporter, total: int | None, on_finished: Callable[[], object] | None = None) -> None:
        self._reporter = reporter
        self._meter = ProgressMeter(total, time.monotonic)
        self._on_finished = on_finished
        self._lock = threading.RLock()  # re-entrant: a collection inside may end another task
        self._open = 0
        self._ended = False
        self._finished = threading.Event()

    def begin(self) -> None:
        """A task was submitted."""
        with self._lock:
            self._open += 1

    def end(self, items: int, failed: int = 0) -> None:
        """A task ended that had so many items, of which some failed; 0 when it never ran."""
        with self._lock:
            self._open -= 1
            report = self._meter.advance(items, failed) if items else None
        if report is not None:
            self._reporter.post(report)
        self._look()

    def no_more(self) -> None:
        """Nothing more will be submitted."""
        self._ended = True
        self._look()

    def _look(self) -> None:
        if not self._ended:
            return
        with self._lock:
            if self._open or (report := self._meter.finish()) is None:
                return
        self._reporter.post_last(report, self._finish)

    def wait(self) -> None:
        """Wait until the last report has been shown; that is up to user code, so not for ever."""
        self._finished.wait(LAST_WORDS_S)

    def _finish(self) -> None:
        self._finished.set()
        if self._on_finished is not None:
            self._on_finished()
