"""Tiny tasks: what one call costs alone, and what it costs among many."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import add_one

if TYPE_CHECKING:
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_OURS = ("scalepool", "scalepool.Executor")
_PEERS = ("multiprocessing.Pool", "ProcessPoolExecutor", "loky", "mpire", "dask", "ray")
_SLOW = {"ray": 20, "dask": 50}


def _latency(run: Run) -> None:
    rounds = run.sizes["tasks"]
    taken: list[float] = []
    with run.open() as driver:
        for number in range(rounds // 10):
            driver.call(add_one, number)
        call, clock = driver.call, time.perf_counter
        with run.timed(rounds):
            for number in range(rounds):
                begin = clock()
                answer = call(add_one, number)
                taken.append(clock() - begin)
                run.expect(answer, number + 1, "result")
    taken.sort()
    run.record(p50=statistics.median(taken) * 1e6, p99=taken[int(0.99 * len(taken))] * 1e6)


def _singles(run: Run) -> None:
    numbers = range(run.sizes["tasks"])
    with run.open() as driver, run.timed(len(numbers)) as section:
        results = driver.singles(add_one, numbers)
    run.expect(results, list(range(1, len(numbers) + 1)), "results")
    run.record(rate=len(numbers) / section.wall_s)


def _map(run: Run) -> None:
    numbers = range(run.sizes["tasks"])
    with run.open(warm_by="map") as driver, run.timed(len(numbers)) as section:
        results = driver.map(add_one, numbers)
    run.expect(results, list(range(1, len(numbers) + 1)), "results")
    run.record(rate=len(numbers) / section.wall_s)


def _unordered(run: Run) -> None:
    numbers = range(run.sizes["tasks"])
    with run.open(warm_by="map") as driver, run.timed(len(numbers)) as section:
        total = sum(driver.unordered(add_one, numbers))
    run.expect(total, sum(numbers) + len(numbers), "sum of the results")
    run.record(rate=len(numbers) / section.wall_s)


_LATENCY = (
    Metric("p50", "us", "lower", "median"),
    Metric("p99", "us", "lower", "99th percentile"),
)

WORKLOADS = (
    Workload(
        name="call-latency",
        what="one no-op call and its result, again and again, each waited for",
        metrics=_LATENCY,
        adapters=on((*_OURS, *_PEERS), _latency),
        full={"tasks": 3000},
        quick={"tasks": 500},
        fewer={"ray": 5, "dask": 20},
        targets=(Target("p50", 0.9, against=("multiprocessing.Pool",)),),
    ),
    Workload(
        name="call-latency-one-core",
        what="the same with all processes on one core",
        metrics=_LATENCY,
        adapters=on((*_OURS, *_PEERS), _latency),
        full={"tasks": 3000},
        quick={"tasks": 500},
        fewer={"ray": 5, "dask": 20},
        targets=(Target("p50", 1.6, against=("multiprocessing.Pool",)),),
        one_core=True,
    ),
    Workload(
        name="single-submissions",
        what="no-op calls submitted one by one (apply_async, submit), then all results read",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        adapters=on((*_OURS, *_PEERS), _singles),
        full={"tasks": 100_000},
        quick={"tasks": 10_000},
        fewer=_SLOW,
        targets=(
            Target("rate", 8.0, against=("multiprocessing.Pool",)),
            Target("rate", 15.0, ours="scalepool.Executor", against=("ProcessPoolExecutor",)),
            Target("rate", 100.0, against=("ray",)),
        ),
    ),
    Workload(
        name="map",
        what="Pool.map of a trivial function over a range, default chunks",
        metrics=(Metric("rate", "items/s", "higher"),),
        adapters=on(("scalepool", "multiprocessing.Pool", "joblib", "mpire", "ray", "dask", "serial"), _map),
        full={"tasks": 1_000_000},
        quick={"tasks": 200_000},
        fewer={"joblib": 4, "mpire": 4, "ray": 4, "dask": 500},
        targets=(Target("rate", 1.0, against=("multiprocessing.Pool",)),),
    ),
    Workload(
        name="executor-map",
        what="Executor.map of a trivial function over a range, default chunksize",
        metrics=(Metric("rate", "items/s", "higher"),),
        adapters=on(("scalepool.Executor", "ProcessPoolExecutor", "loky"), _map),
        full={"tasks": 200_000},
        quick={"tasks": 40_000},
        fewer={"ProcessPoolExecutor": 10, "loky": 10},
        targets=(Target("rate", 50.0, ours="scalepool.Executor", against=("ProcessPoolExecutor",)),),
    ),
    Workload(
        name="imap-unordered",
        what="imap_unordered(chunksize=1), or as_completed, over trivial calls",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        adapters=on((*_OURS, *_PEERS), _unordered),
        full={"tasks": 100_000},
        quick={"tasks": 10_000},
        fewer=_SLOW,
        targets=(Target("rate", 8.0, against=("multiprocessing.Pool",)),),
    ),
)
