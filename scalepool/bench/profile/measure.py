"""Profiles of two kinds of work, each in a fresh interpreter: many single submissions, and calls one after the other.

Each is also run without wrappers: what the profile does not disturb is the CPU time and the rate of that run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from scalepool.bench.launch import Order, carry_out
from scalepool.bench.model import Metric, Workload
from scalepool.bench.profile.selftime import Recorder, install
from scalepool.bench.profile.stages import STAGES, Side, locate
from scalepool.bench.tasks import add_one, meet
from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepool.bench.run import Run

__all__ = ["KINDS", "WORKLOADS", "Profile", "ProfileError", "measure"]

_CANDIDATE: Final = "scalepool"
KINDS: Final = {"submissions": 100_000, "calls": 3000}
"""What is profiled, and with how many tasks."""


class ProfileError(ScalepoolError):
    """A profile did not come about."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found of one kind of work. Times are microseconds per task.

    Attributes
    ----------
    stages
        For each (side, stage) the time and the number of calls per task.
    cpu
        CPU time of each side, without wrappers.
    wall, profiled_wall
        Time from the first to the last, divided by the number of tasks; for calls, the median of one. Without wrappers,
        and with them.
    """

    kind: str
    tasks: int
    workers: int
    stages: Mapping[tuple[str, str], tuple[float, float]]
    cpu: Mapping[str, float]
    wall: float
    profiled_wall: float

    def busy_us(self, side: str) -> float:
        """Return the time of all stages of a side that are work, at most its CPU time."""
        return self.scale(side) * self._spent_us(side)

    def scale(self, side: str) -> float:
        """Return by what a side's times are to be multiplied, so that they do not exceed its CPU time."""
        spent_us = self._spent_us(side)
        return min(1.0, self.cpu[side] / spent_us) if spent_us else 1.0

    def _spent_us(self, side: str) -> float:
        return sum(self.stages[side, stage.name][0] for stage in STAGES if stage.side == side and not stage.idle)


def measure(workers: int, *, quick: bool = False, timeout_s: float = 120.0) -> list[Profile]:
    """Profile all kinds.

    Raises
    ------
    ProfileError
        When a run fails; the text says why.
    """
    return [_measure(kind, tasks // 10 if quick else tasks, workers, timeout_s) for kind, tasks in KINDS.items()]


def _measure(kind: str, tasks: int, workers: int, timeout_s: float) -> Profile:
    plain = _carry_out(f"{kind}-plain", tasks, workers, timeout_s)
    profiled = _carry_out(kind, tasks, workers, timeout_s)
    stages: dict[tuple[str, str], tuple[float, float]] = {
        (stage.side, stage.name): (
            profiled.get(f"{stage.side} {stage.name} us", 0.0), profiled.get(f"{stage.side} {stage.name} calls", 0.0)
        )
        for stage in STAGES
    }  # fmt: skip
    cpu = {side: plain[f"{side} cpu"] for side in ("driver", "worker")}
    return Profile(kind, tasks, workers, stages, cpu, plain["wall"], profiled["wall"])


def _carry_out(workload: str, tasks: int, workers: int, timeout_s: float) -> Mapping[str, float]:
    order = Order(workload, _CANDIDATE, workers, {"tasks": tasks}, timeout_s, catalogue=f"{__name__}:WORKLOADS")
    outcome = carry_out(order)
    if outcome.problem is not None:
        raise ProfileError(f"the run that was to be profiled failed: {outcome.problem}")
    return outcome.values


# ---- inside the fresh interpreter ----

_recorder: Recorder | None = None


def _install(side: Side) -> None:
    """Wrap one side's functions; in a worker this is the pool's initializer."""
    global _recorder  # noqa: PLW0603 - the wrappers stay for the rest of the process's life, and so does this
    _recorder = Recorder()
    install(
        _recorder,
        [(stage.name, locate(function)) for stage in STAGES if stage.side == side for function in stage.functions],
    )


def _install_nothing() -> None:
    """Be the initializer of a run without wrappers: the pool then has workers of its own in both cases."""


def _reset(folder: str, workers: int) -> int:
    pid = meet(folder, workers)
    if _recorder is not None:
        _recorder.reset()
    return pid


def _collect(folder: str, workers: int) -> dict[str, tuple[int, int]]:
    totals = _recorder.totals() if _recorder is not None else {}
    meet(folder, workers)
    return totals


def _in_all(pool: Any, workers: int, task: Callable[[str, int], Any]) -> list[Any]:
    """Run a task in every worker at once."""
    with tempfile.TemporaryDirectory() as folder:
        return [handle.get() for handle in [pool.apply_async(task, (folder, workers)) for _ in range(workers)]]


def _profile(run: Run, work: Callable[[Any, int], float], *, wrapped: bool) -> None:
    from scalepool.multiprocessing import Pool

    tasks, workers = run.sizes["tasks"], run.workers
    if wrapped:
        _install("driver")
    options: dict[str, Any] = {"initializer": _install, "initargs": ("worker",)} if wrapped else {
        "initializer": _install_nothing
    }  # fmt: skip
    with Pool(workers, **options) as pool:
        work(pool, tasks // 10)
        _in_all(pool, workers, _reset)
        if _recorder is not None:
            _recorder.reset()
        begin_s = time.process_time()
        with run.timed(tasks) as section:
            wall_us = work(pool, tasks)
            driver_cpu_s = time.process_time() - begin_s
            driver = _recorder.totals() if _recorder is not None else {}
        run.record(**{"wall": wall_us, "driver cpu": driver_cpu_s / tasks * 1e6})
        run.record(**{"worker cpu": (section.cpu_s - driver_cpu_s) / tasks * 1e6})
        _record(run, "driver", [driver], tasks)
        _record(run, "worker", _in_all(pool, workers, _collect), tasks)


def _record(run: Run, side: str, all_totals: list[dict[str, tuple[int, int]]], tasks: int) -> None:
    for stage in {stage for totals in all_totals for stage in totals}:
        spent = [totals.get(stage, (0, 0)) for totals in all_totals]
        run.record(**{f"{side} {stage} us": sum(ns for ns, _ in spent) / 1e3 / tasks})
        run.record(**{f"{side} {stage} calls": sum(calls for _, calls in spent) / tasks})


def _submissions(pool: Any, tasks: int) -> float:
    begin = time.perf_counter()
    submit = pool.apply_async
    for handle in [submit(add_one, (number,)) for number in range(tasks)]:
        handle.get()
    return (time.perf_counter() - begin) / tasks * 1e6


def _calls(pool: Any, tasks: int) -> float:
    taken = []
    for number in range(tasks):
        begin = time.perf_counter()
        pool.apply(add_one, (number,))
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6


def _workload(name: str, work: Callable[[Any, int], float], *, wrapped: bool) -> Workload:
    def adapter(run: Run) -> None:
        _profile(run, work, wrapped=wrapped)

    sizes = {"tasks": 1000}
    return Workload(name, "a profile", (Metric("wall", "us"),), {_CANDIDATE: adapter}, sizes, sizes)


WORKLOADS: Final[Mapping[str, Workload]] = {
    "submissions": _workload("submissions", _submissions, wrapped=True),
    "submissions-plain": _workload("submissions-plain", _submissions, wrapped=False),
    "calls": _workload("calls", _calls, wrapped=True),
    "calls-plain": _workload("calls-plain", _calls, wrapped=False),
}
