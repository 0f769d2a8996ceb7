"""Calls of an actor, beside the same calls of a remote function."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import Stepper, add_one
from scalepool.bench.workloads.graphs import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]


def _latency(run: Run) -> None:
    """One call after the other, of a function and of an actor in turns: what the machine does hits both."""
    engine = open_engine(run)
    stepper = engine.engage(Stepper)
    step = engine.remote(add_one)
    count = run.sizes["tasks"]

    def median_s(submit: Callable[..., Any]) -> float:
        times = []
        for number in range(count):
            began = time.perf_counter()
            result = engine.get(submit(number))
            times.append(time.perf_counter() - began)
            run.expect(result, number + 1, "result")
        return statistics.median(times)

    median_s(stepper.step.remote)
    pairs = []
    with run.timed(2 * count * run.sizes["rounds"]):
        for _ in range(run.sizes["rounds"]):
            pairs.append((median_s(stepper.step.remote), median_s(step)))
    engine.close()
    run.record(us=min(own for own, _ in pairs) * 1e6, ratio=statistics.median(own / task for own, task in pairs))


def _throughput(run: Run) -> None:
    engine = open_engine(run)
    stepper = engine.engage(Stepper)
    step = engine.remote(add_one)
    count = run.sizes["tasks"]

    def per_s(submit: Callable[..., Any]) -> float:
        began = time.perf_counter()
        results = engine.get([submit(number) for number in range(count)])
        taken_s = time.perf_counter() - began
        run.expect(results[-1], count, "last result")
        return count / taken_s

    per_s(stepper.step.remote)
    pairs = []
    with run.timed(2 * count * run.sizes["rounds"]):
        for _ in range(run.sizes["rounds"]):
            pairs.append((per_s(stepper.step.remote), per_s(step)))
    run.expect(engine.get(stepper.counted.remote()), count * (run.sizes["rounds"] + 1), "calls")
    engine.close()
    run.record(rate=max(own for own, _ in pairs), ratio=statistics.median(own / task for own, task in pairs))


_BOTH = ("scalepool", "ray")

WORKLOADS = (
    Workload(
        name="actor-latency",
        what="a no-op call of an actor and its result, one after the other",
        metrics=(
            Metric("us", "us", "lower", "per call"),
            Metric("ratio", "", "lower", "to the same with a task"),
        ),
        adapters=on(_BOTH, _latency),
        full={"tasks": 2000, "rounds": 5},
        quick={"tasks": 300, "rounds": 3},
        fewer={"ray": 4},
        targets=(Target("ratio", 1.1), Target("us", 1 / 7, against=("ray",))),
    ),
    Workload(
        name="actor-throughput",
        what="no-op calls of one actor, submitted at once",
        metrics=(
            Metric("rate", "calls/s", "higher", "from the first submission to the last result"),
            Metric("ratio", "", "higher", "to the same with tasks on all workers"),
        ),
        adapters=on(_BOTH, _throughput),
        full={"tasks": 20_000, "rounds": 5},
        quick={"tasks": 5000, "rounds": 3},
        fewer={"ray": 10},
        targets=(Target("ratio", 0.8), Target("rate", 50.0, against=("ray",))),
    ),
)
