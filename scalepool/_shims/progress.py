"""Progress of a map: counts per item, shown at most ten times a second and once at the end.

`ProgressMeter` counts and decides when a report is due; it calls nothing. `progress_sink` turns the user's
``progress=`` argument into the function that shows a report.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ProgressMeter", "Report", "Reporter", "Sink", "progress_sink"]

Report = tuple[int, "int | None", int]
"""Items done (failed ones too), items in all (``None``: not known yet), items failed."""

Sink = Callable[[int, "int | None", int], object]

INTERVAL_S = 0.1


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

    def show(self, report: Report) -> None:
        """Show `report` here and now; the caller is the callback thread."""
        self._sink(*report)

    def post(self, report: Report) -> None:
        """Have `report` shown soon."""

        def deliver(run_user_code: bool) -> None:
            if run_user_code:
                self._sink(*report)

        self._post(deliver)


class _TqdmSink:
    """Shows reports as a tqdm bar."""

    def __init__(self, bar_type: Callable[..., Any]) -> None:
        self._bar_type = bar_type
        self._bar: Any = None

    def __call__(self, done: int, total: int | None, failed: int) -> None:
        if self._bar is None:
            self._bar = self._bar_type(total=total)
        self._bar.total = total
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _show_line(done: int, total: int | None, failed: int) -> None:
    end = "\n" if done == total else ""
    suffix = f", {failed} failed" if failed else ""
    sys.stderr.write(f"\r{done}/{'?' if total is None else total}{suffix}{end}")
    sys.stderr.flush()


def progress_sink(progress: bool | Sink | None) -> Sink | None:
    """Return the function that shows reports; ``None`` when the user wants none.

    Parameters
    ----------
    progress
        ``True``: a tqdm bar when tqdm is installed, else one line on stderr. A callable is called with
        ``(done, total, failed)``.

    Raises
    ------
    TypeError
        When it is neither.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        try:
            return _TqdmSink(importlib.import_module("tqdm").tqdm)
        except ImportError:
            return _show_line
    if not callable(progress):
        raise TypeError("progress must be True, a callable or None")
    return progress
