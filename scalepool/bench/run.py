"""What an adapter has at hand inside the fresh interpreter: sizes, a driver, timed sections, a place for figures."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Literal

from scalepool.bench.drivers import load
from scalepool.bench.tree import MemoryMeter, cpu_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scalepool.bench.drivers import Driver

__all__ = ["Run", "Section", "WrongResultError"]


class WrongResultError(Exception):
    """A candidate returned something else than it should have: its figures mean nothing."""


class Section:
    """A stretch of a run that is measured; its figures are there when it is over.

    Attributes
    ----------
    wall_s, cpu_s
        Seconds by the clock; CPU seconds of the whole tree of processes.
    begin, end
        On the machine's monotonic clock, which other processes can read as well.
    """

    __slots__ = ("begin", "cpu_s", "end")

    def __init__(self) -> None:
        self.begin = self.end = self.cpu_s = 0.0

    @property
    def wall_s(self) -> float:
        """How long it took."""
        return self.end - self.begin


class Run:
    """One run of one workload by one candidate.

    Parameters
    ----------
    candidate
        Who does it.
    workers
        Number of worker processes.
    sizes
        The workload's sizes.
    """

    def __init__(self, candidate: str, workers: int, sizes: Mapping[str, int]) -> None:
        self.candidate = candidate
        self.workers = workers
        self.sizes = sizes
        self.values: dict[str, float] = {}
        self.tasks = 0
        self.section: Section | None = None
        self.baseline_bytes = 0
        self.extra_unit_bytes = 0
        self.memory_bytes = 0
        self._memory = MemoryMeter(os.getpid())

    def open(self, workers: int | None = None, *, warm_by: Literal["singles", "map"] | None = "singles") -> Driver:
        """Open the candidate's pool, to be used in a ``with`` statement.

        Parameters
        ----------
        workers
            Number of workers if not the run's.
        warm_by
            The operation to be measured: every worker starts and runs something by it. ``None``: nothing is started.
        """
        driver = load(self.candidate)(workers or self.workers)
        if warm_by is not None:
            driver.warm_up(warm_by)
        return driver

    @contextlib.contextmanager
    def timed(self, tasks: int, *, main: bool = True, memory: bool = True) -> Iterator[Section]:
        """Measure a section.

        Parameters
        ----------
        tasks
            How many tasks are done in it.
        main
            Whether its CPU time and memory are shown as the run's; of several the last one's are.
        memory
            Whether the tree's memory at its end says something.
        """
        section = Section()
        before = cpu_s()
        section.begin = time.monotonic()
        yield section
        section.end = time.monotonic()
        section.cpu_s = cpu_s() - before
        if not main:
            return
        self.section, self.tasks = section, tasks
        # Once and outside of what is timed: sampling would disturb most of what is measured here.
        if memory:
            self.memory_bytes = self._memory.read_bytes()

    def mark_baseline(self, unit_bytes: int) -> None:
        """Have the figure ``extra`` recorded: the peak of the tree's memory above what it is now, in this unit."""
        self.extra_unit_bytes = unit_bytes
        self.baseline_bytes = self._memory.read_bytes()

    def record(self, **values: float) -> None:
        """Record figures by the names of the workload's metrics."""
        self.values.update(values)

    def expect(self, actual: Any, expected: Any, what: str) -> None:
        """Compare a result.

        Raises
        ------
        WrongResultError
            When it is another one.
        """
        if actual != expected:
            raise WrongResultError(f"{what}: {_short(actual)} instead of {_short(expected)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
