"""Self time of wrapped functions: each one's time without that of the wrapped functions it calls.

A wrapper costs about as much as a small stage. So its cost is measured beforehand and taken off: the part between its
two looks at the clock from the function's own time, the rest from the time of the wrapped function around it.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalepool.bench.profile.stages import Place

__all__ = ["Recorder", "install"]

_CALIBRATION_CALLS: Final = 20_000


class _Thread(threading.local):
    """What one thread has open: for each wrapped function it is in, the nanoseconds of the wrapped ones inside."""

    def __init__(self) -> None:
        self.open: list[int] = []


class Recorder:
    """Collects self times by stage. All threads of a process share one; a count lost between two of them is no loss."""

    def __init__(self) -> None:
        self._thread = _Thread()
        self._totals: dict[str, list[int]] = {}
        self.inner_ns = self.outer_ns = 0
        self._calibrate()

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its self time counted for ``stage``."""
        total = self._totals.setdefault(stage, [0, 0])
        thread, clock, outer_ns = self._thread, time.perf_counter_ns, self.outer_ns

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            opened = thread.open
            opened.append(0)
            begin = clock()
            try:
                return function(*args, **kwargs)
            finally:
                taken = clock() - begin
                total[0] += taken - opened.pop()
                total[1] += 1
                if opened:
                    opened[-1] += taken + outer_ns

        return timed

    def reset(self) -> None:
        """Forget what was counted."""
        for total in self._totals.values():
            total[:] = (0, 0)

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return (nanoseconds, calls) of each stage, the wrappers' own cost taken off."""
        return {
            stage: (max(0, spent_ns - calls * self.inner_ns), calls)
            for stage, (spent_ns, calls) in self._totals.items()
        }

    def _calibrate(self) -> None:
        def nothing() -> None:
            pass

        wrapped = self.wrap("calibration", nothing)
        best_inner, best_outer = 1 << 60, 1 << 60
        for _ in range(5):
            self.reset()
            plain_ns = _loop_ns(nothing)
            wrapped_ns = _loop_ns(wrapped)
            inner_ns = self._totals["calibration"][0] // _CALIBRATION_CALLS
            best_inner = min(best_inner, inner_ns)
            best_outer = min(best_outer, max(0, (wrapped_ns - plain_ns) // _CALIBRATION_CALLS - inner_ns))
        self.inner_ns, self.outer_ns = best_inner, best_outer
        del self._totals["calibration"]


def _loop_ns(function: Callable[[], object]) -> int:
    begin = time.perf_counter_ns()
    for _ in range(_CALIBRATION_CALLS):
        function()
    return time.perf_counter_ns() - begin


def install(recorder: Recorder, places: Iterable[tuple[str, Place]]) -> None:
    """Put wrappers in place for the rest of this process's life.

    A function of a module is replaced wherever a module of the package has imported it by name.
    """
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "scalepool"]
    for stage, place in places:
        wrapped = recorder.wrap(stage, place.function)
        if isinstance(place.owner, type):
            setattr(place.owner, place.name, wrapped)
            continue
        for module in modules:
            for name, value in list(vars(module).items()):
                if value is place.function:
                    setattr(module, name, wrapped)
