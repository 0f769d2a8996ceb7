"""Tasks that take time: equal ones of four lengths, and very unequal ones."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import busy

if TYPE_CHECKING:
    from scalepool.bench.model import Adapter
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS", "durations"]

_SINGLES = (
    "scalepool", "scalepool.Executor", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "mpire", "dask", "ray",
)  # fmt: skip
_MAPS = (
    "scalepool", "scalepool.Executor", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "joblib", "mpire", "dask",
    "ray",
)  # fmt: skip


def durations(number: int, mean_s: float, seed: int = 20) -> list[float]:
    """Return lognormal durations in seconds: most are short, a few take ten times the mean."""
    chance = random.Random(seed)
    drawn = [chance.lognormvariate(0.0, 1.2) for _ in range(number)]
    scale = mean_s * number / sum(drawn)
    return [one * scale for one in drawn]


def _skewed(*, ascending: bool) -> Adapter:
    def adapter(run: Run) -> None:
        seconds = durations(run.sizes["tasks"], run.sizes["mean_us"] * 1e-6)
        if ascending:
            seconds.sort()
        with run.open(warm_by="map") as driver, run.timed(len(seconds)) as section:
            results = driver.map(busy, seconds)
        run.expect(results, seconds, "results")
        run.record(makespan=section.wall_s / max(sum(seconds) / run.workers, *seconds))

    return adapter


def _efficiency(length_s: float) -> Adapter:
    def adapter(run: Run) -> None:
        seconds = [length_s] * run.sizes["tasks"]
        with run.open() as driver, run.timed(len(seconds)) as section:
            results = driver.singles(busy, seconds)
        run.expect(results, seconds, "results")
        run.record(efficiency=sum(seconds) / run.workers / section.wall_s)

    return adapter


def _of_length(label: str, length_s: float, full: int, goal: float, fewer: dict[str, int]) -> Workload:
    words = label.replace("us", " us").replace("ms", " ms")
    return Workload(
        name=f"efficiency-{label}",
        what=f"calls of {words} submitted one by one: ideal time / time taken",
        metrics=(Metric("efficiency", "", "higher"),),
        adapters=on(_SINGLES, _efficiency(length_s)),
        full={"tasks": full},
        quick={"tasks": full // 5},
        fewer=fewer,
        targets=(Target("efficiency", goal),),
    )


_MAKESPAN = (Metric("makespan", "", "lower", "time taken / ideal time"),)

WORKLOADS = (
    Workload(
        name="skewed",
        what="map over lognormal durations (mean 5 ms) in random order",
        metrics=_MAKESPAN,
        adapters=on(_MAPS, _skewed(ascending=False)),
        full={"tasks": 400, "mean_us": 5000},
        quick={"tasks": 200, "mean_us": 2500},
        targets=(Target("makespan", 1.03),),
    ),
    Workload(
        name="skewed-ascending",
        what="the same durations from short to long, the worst order for chunks",
        metrics=_MAKESPAN,
        adapters=on(_MAPS, _skewed(ascending=True)),
        full={"tasks": 400, "mean_us": 5000},
        quick={"tasks": 200, "mean_us": 2500},
        targets=(Target("makespan", 1.05),),
    ),
    _of_length("10us", 1e-5, 40_000, 0.5, {"ray": 10, "dask": 20}),
    _of_length("100us", 1e-4, 8000, 0.85, {"ray": 4, "dask": 8}),
    _of_length("1ms", 1e-3, 1500, 0.95, {"dask": 2}),
    _of_length("10ms", 1e-2, 200, 0.98, {}),
)
