"""Inputs from a generator: how far ahead it is read, and what piles up behind a slow consumer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import busy, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_NAMES = (
    "scalepool", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "joblib", "mpire", "dask", "ray",
)  # fmt: skip
_TASK_S = 0.001
_CONSUMER_S = 0.0005


def _lookahead(run: Run) -> None:
    total = run.sizes["tasks"]
    pulled = 0

    def inputs() -> Iterator[float]:
        nonlocal pulled
        for _ in range(total):
            pulled += 1
            yield _TASK_S

    with run.open(warm_by="map") as driver, run.timed(total):
        results = iter(driver.stream(busy, inputs()))
        first = next(results)
        run.record(pulled=pulled)
        run.expect(first + sum(results), sum([_TASK_S] * total), "sum of the results")
    run.expect(pulled, total, "number of inputs read")


def _slow_consumer(run: Run) -> None:
    total = run.sizes["tasks"]
    with run.open(warm_by="map") as driver:
        run.mark_baseline(unit_bytes=1_000_000)
        with run.timed(total):
            for number, text in enumerate(driver.stream(text_of, iter(range(total)))):
                run.expect(int.from_bytes(text[:8], "little"), number, "result")
                time.sleep(_CONSUMER_S)  # as somebody does who writes them to a file


WORKLOADS = (
    Workload(
        name="generator-lookahead",
        what="inputs read from a generator when the first result is out, tasks of 1 ms",
        metrics=(Metric("pulled", "inputs", "lower"),),
        adapters=on(_NAMES, _lookahead),
        full={"tasks": 600},
        quick={"tasks": 600},
        targets=(Target("pulled", 64),),
    ),
    Workload(
        name="generator-memory",
        what="growth while a consumer of 0.5 ms reads results of 50 kB from a generator",
        metrics=(Metric("extra", "MB", "lower", "above what the tree had before"),),
        adapters=on(_NAMES, _slow_consumer),
        full={"tasks": 5000},
        quick={"tasks": 1500},
        targets=(Target("extra", 20.0),),
        watch_memory=True,
    ),
)
