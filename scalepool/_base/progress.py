"""Counting items as they are done, and showing that: at most ten times a second and once at the end.

`ProgressMeter` counts and decides when a report is due; it calls nothing. `progress_sink` turns the user's
``progress=`` argument into the function that shows a report.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ProgressMeter", "Report", "Sink", "progress_sink"]

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
