"""Progress of a map: counts per item, shown at most ten times a second and once at the end.

`ProgressMeter` counts and decides when a report is due; it calls nothing. `progress_sink` turns the user's
``progress=`` argument into the function that shows a report.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["ProgressMeter", "Report", "Reporter", "Sink", "Tracker", "progress_sink"]

Report = tuple[int, "int | None", int]
"""Items done (failed ones too), items in all (``None``: not known yet), items failed."""

Sink = Callable[[int, "int | None", int], object]

INTERVAL_S = 0.1
LAST_WORDS_S = 5.0
"""How long the reader of a last result waits for the last report."""


class ProgressMeter:
    """Counts items and says when a report is due.

    Parameters
    ----------
    total
        Number of items; ``None`` while it is not known.
    clock
        Returns seconds that only grow.
    """

    __slots__ = ("_clock", "_due_s", "_finished", "done", "failed", "total")

    def __init__(self, total: int | None, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self._clock = clock
        self._due_s = clock()
        self._finished = False

    def advance(self, items: int, failed: int = 0) -> Report | None:
        """Count `items`, of which some failed; return a report when one is due.

        The last one is left to `finish`.
        """
        self.done += items
        self.failed += failed
        now = self._clock()
        if now < self._due_s or self.done == self.total:
            return None
        self._due_s = now + INTERVAL_S
        return self.done, self.total, self.failed

    def finish(self) -> Report | None:
        """Return the final report, once."""
        if self._finished:
            return None
        self._finished = True
        if self.total is None:
            self.total = self.done
        return self.done, self.total, self.failed


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


class _TqdmSink:
    """Shows reports as a bar of tqdm's.

    Parameters
    ----------
    bar_type
        Makes the bar, with the first report.
    bar
        One that the user has made, and closes.
    """

    def __init__(self, bar_type: Callable[..., Any], bar: Any = None) -> None:
        self._bar_type = bar_type
        self._bar = bar
        self._is_ours = bar is None
        self._begun_at = 0 if bar is None else bar.n

    def __call__(self, done: int, total: int | None, failed: int) -> None:
        if self._bar is None:
            self._bar = self._bar_type(total=total)
        if self._is_ours:
            self._bar.total = total
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.update(self._begun_at + done - self._bar.n)

    def close(self) -> None:
        """Nothing more comes."""
        if self._bar is not None and self._is_ours:
            self._bar.close()


class _LineSink:
    """Shows reports on one line of stderr."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, done: int, total: int | None, failed: int) -> None:
        self._begun = True
        suffix = f", {failed} failed" if failed else ""
        sys.stderr.write(f"\r{done}/{'?' if total is None else total}{suffix}")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing more comes."""
        if self._begun:
            sys.stderr.write("\n")
            sys.stderr.flush()


def progress_sink(progress: Any) -> Sink | None:
    """Return the function that shows reports; ``None`` when the user wants none.

    Parameters
    ----------
    progress
        ``True``: a tqdm bar when tqdm is installed, else one line on stderr. ``"tqdm"``: a bar. A class of tqdm's makes
        the bar, and a bar of the user's is moved on, and left open. A callable is called with
        ``(done, total, failed)``.

    Raises
    ------
    TypeError
        When it is none of these.
    ImportError
        For ``"tqdm"`` where it is not installed.
    """
    if progress is None or progress is False:
        return None
    if progress is True or progress == "tqdm":
        try:
            # The bar of notebooks loads much that a terminal's does not.
            name = "tqdm.auto" if "ipykernel" in sys.modules else "tqdm"
            return _TqdmSink(importlib.import_module(name).tqdm)
        except ImportError as error:
            if progress is True:
                return _LineSink()
            raise ImportError("progress='tqdm' needs tqdm: pip install 'scalepool[progress]'") from error
    if callable(getattr(progress, "update", None)) and callable(getattr(progress, "set_postfix", None)):
        # tqdm's own protocol: its classes and bars, in all their variants.
        return _TqdmSink(progress) if isinstance(progress, type) else _TqdmSink(type(progress), progress)
    if not callable(progress):
        raise TypeError("progress must be True, 'tqdm', a bar of tqdm's, a callable (done, total, failed) or None")
    sink: Sink = progress
    return sink
