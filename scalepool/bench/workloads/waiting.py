"""Very many calls outstanding at once: what each costs while it waits."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import add_one, wait_for_file

if TYPE_CHECKING:
    from scalepool.bench.drivers import Driver
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_FEW = 1000


def _outstanding(run: Run) -> None:
    many = run.sizes["tasks"]
    with run.open() as driver, tempfile.TemporaryDirectory() as folder:
        few_us = min(_one_load(run, driver, _FEW, Path(folder, f"few-{turn}"))[0] for turn in range(3))
        many_us, bytes_per_task = _one_load(run, driver, many, Path(folder, "many"))
    run.record(bytes=bytes_per_task, many_us=many_us, growth=many_us / few_us)


def _one_load(run: Run, driver: Driver, number: int, gate: Path) -> tuple[float, float]:
    """Submit while all workers are held, open the gate, collect; return (us per task, bytes per task in here)."""
    me = psutil.Process()
    gc.collect()
    before = me.memory_info().rss
    submit = driver.submit
    held = [submit(wait_for_file, str(gate)) for _ in range(run.workers)]
    begin = time.perf_counter()
    handles = [submit(add_one, item) for item in range(number)]
    submitted_s = time.perf_counter() - begin
    grown = me.memory_info().rss - before
    with run.timed(number) as section:
        gate.touch()
        results = driver.collect(handles)
    run.expect(results, list(range(1, number + 1)), "results")
    run.expect(all(driver.collect(held)), True, "held workers")
    return (submitted_s + section.wall_s) / number * 1e6, grown / number


WORKLOADS = (
    Workload(
        name="outstanding",
        what="a million no-op calls submitted while all workers are held, then let go",
        metrics=(
            Metric("bytes", "B/task", "lower", "memory of the caller's process while they wait"),
            Metric("many_us", "us/task", "lower", "submitting and collecting"),
            Metric("growth", "", "lower", "the same / the same with a thousand calls"),
        ),
        adapters=on(
            ("scalepool", "scalepool.Executor", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "mpire", "dask",
             "ray"),
            _outstanding,
        ),
        full={"tasks": 1_000_000},
        quick={"tasks": 100_000},
        fewer={"multiprocessing.Pool": 5, "ProcessPoolExecutor": 10, "loky": 10, "mpire": 10, "ray": 20, "dask": 20},
        targets=(Target("bytes", 500.0), Target("growth", 1.3)),
    ),
)  # fmt: skip
