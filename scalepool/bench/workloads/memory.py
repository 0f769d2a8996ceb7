"""What large objects cost in memory, however many tasks and workers see them and however long it goes on."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import block_of, row_of
from scalepool.bench.tree import members

if TYPE_CHECKING:
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_COLUMNS = 1024
_WARM_UP = 10
"""A soak's first tenth is its warm-up."""


def _anonymous_bytes(pid: int) -> int:
    """Return the memory that is a process's own: neither of files nor shared, but for pages it has written."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0  # it has ended
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return next(found, 0)


def _matrix(size_bytes: int) -> Any:
    import numpy as np

    matrix = np.ones((max(1, size_bytes // 8 // _COLUMNS), _COLUMNS))
    matrix[:, 0] = np.arange(len(matrix))
    return matrix


def _many_tasks(run: Run) -> None:
    number, workers = run.sizes["tasks"], run.sizes["workers"]
    matrix = _matrix(run.sizes["array_bytes"])
    expected = [row_of(matrix, index) for index in range(number)]
    with run.open(workers) as driver:
        driver.starmap(row_of, [(matrix[:1].copy(), 0)] * (4 * workers))  # numpy is no part of what is measured
        run.mark_baseline(matrix.nbytes)
        before = _anonymous_bytes(os.getpid())
        with run.timed(number) as section:
            results = driver.starmap(row_of, [(matrix, index) for index in range(number)])
        run.expect(results, expected, "sums of rows")
        run.record(hub=(_anonymous_bytes(os.getpid()) - before) / 1e6, time=section.wall_s / number * 1e3)


def _total(array: Any) -> float:
    return float(array[0] + array[-1])


def _there_and_back(run: Run) -> None:
    size_bytes = run.sizes["array_bytes"]
    matrix = _matrix(size_bytes).ravel()
    with run.open() as driver:
        with run.timed(1, main=False) as there:
            result = driver.call(_total, matrix)
        run.expect(result, float(matrix[0] + matrix[-1]), "sum of an argument's ends")
        del matrix
        with run.timed(1) as back:
            array = driver.call(partial(block_of, fresh=True), 7, size_bytes)
            first = float(array[::512].sum())
        run.expect((first, array.nbytes), (7.0, size_bytes // 8 * 8), "a result")
    run.record(argument=there.wall_s, result=back.wall_s)


def _soak(run: Run) -> None:
    number, size_bytes = run.sizes["tasks"], run.sizes["array_bytes"]
    task = partial(block_of, size_bytes=size_bytes, fresh=True)
    begun = max(1, number // _WARM_UP)
    before: dict[int, int] = {}
    growth = done = total = 0
    with run.open() as driver, run.timed(number) as section:
        for array in driver.stream(task, range(number)):
            done += 1
            total += int(array[0])
            if done == begun:
                before = _own_memory()
        run.expect((done, total), (number, number * (number - 1) // 2), "results")
        after = _settled_memory(before)
        shared = [pid for pid in before if pid in after]
        run.expect(bool(shared), True, "processes that were there all the time")
        growth = max(after[pid] - before[pid] for pid in shared)
        worst = max((after[pid] - before[pid]) / before[pid] for pid in shared)
    run.record(growth=worst * 100, bytes=growth / 1e6, rate=number / section.wall_s)


def _own_memory() -> dict[int, int]:
    return {process.pid: size for process in members(os.getpid()) if (size := _anonymous_bytes(process.pid))}


def _settled_memory(before: dict[int, int]) -> dict[int, int]:
    """Return the least of several looks: what is on its way at one moment is no growth."""
    least: dict[int, int] = {}
    for _ in range(20):
        for pid, size in _own_memory().items():
            if pid in before:
                least[pid] = min(size, least.get(pid, size))
        time.sleep(0.05)
    return least


_EACH = ("scalepool", "multiprocessing.Pool", "ProcessPoolExecutor", "joblib", "ray")
_NUMPY = ("numpy",)

WORKLOADS = (
    Workload(
        name="array-many-tasks",
        what="a large array (full size: 1 GB) as a plain argument of 1000 tasks on 8 workers",
        metrics=(
            Metric("extra", "x the array", "lower", "memory of all processes beyond what they had before"),
            Metric("hub", "MB", "lower", "what the caller's own memory has grown by"),
            Metric("time", "ms/task", "lower"),
        ),
        adapters=on(("scalepool", "joblib", "ray"), _many_tasks),
        full={"tasks": 1000, "workers": 8, "array_bytes": 1_000_000_000},
        quick={"tasks": 100, "workers": 8, "array_bytes": 100_000_000},
        fewer={"ray": 50},
        targets=(Target("extra", 1.3), Target("hub", 50.0)),
        needs=_NUMPY,
        watch_memory=True,
    ),
    Workload(
        name="array-there-and-back",
        what="one very large array (full size: 3 GB) as an argument, then as a result",
        metrics=(Metric("argument", "s"), Metric("result", "s", "lower", "made, sent, and read by the caller")),
        adapters=on(_EACH, _there_and_back),
        full={"array_bytes": 3_000_000_000},
        quick={"array_bytes": 200_000_000},
        targets=(Target("argument", 1.0, against=("multiprocessing.Pool", "ProcessPoolExecutor")),),
        needs=_NUMPY,
    ),
    Workload(
        name="soak",
        what="100 000 tasks with results of 1 MB, one after the other is read and dropped",
        metrics=(
            Metric("growth", "%", "lower", "of the process that grew most, after the first tenth of the tasks"),
            Metric("bytes", "MB", "lower", "the most that a process grew by"),
            Metric("rate", "tasks/s", "higher"),
        ),
        adapters=on(("scalepool", "multiprocessing.Pool", "ProcessPoolExecutor"), _soak),
        full={"tasks": 100_000, "array_bytes": 1_000_000},
        quick={"tasks": 5_000, "array_bytes": 1_000_000},
        fewer={"multiprocessing.Pool": 10, "ProcessPoolExecutor": 20},
        targets=(Target("growth", 5.0),),
        needs=_NUMPY,
    ),
)
