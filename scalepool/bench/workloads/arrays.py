"""Large arrays as arguments and as results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import block_of, hold, row_of, row_of_global

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_COLUMNS = 1024
_COPYING = {"multiprocessing.Pool": 16, "ProcessPoolExecutor": 16, "loky": 16, "mpire": 16, "dask": 16, "ray": 8}
"""Those that pickle the array for each task, at seconds per gigabyte."""
_KEEP_RESULTS = ("dask", "joblib", "mpire")
"""Those whose workers keep a result after the task, for others to fetch, to send several at once, or in a thread."""


def _matrix(size_bytes: int) -> Any:
    import numpy as np

    matrix = np.ones((size_bytes // 8 // _COLUMNS, _COLUMNS))
    matrix[:, 0] = np.arange(len(matrix))
    return matrix


def _expected(matrix: Any, number: int) -> list[float]:
    return [row_of(matrix, index) for index in range(number)]


def _argument(run: Run) -> None:
    number = run.sizes["tasks"]
    matrix = _matrix(run.sizes["array_bytes"])
    expected = _expected(matrix, number)
    calls = [(matrix, index) for index in range(number)]
    with run.open() as driver:
        driver.starmap(row_of, [(matrix[:1].copy(), 0)] * (4 * run.workers))  # numpy is no part of what is measured
        run.mark_baseline(matrix.nbytes)
        for name in ("first", "steady"):
            with run.timed(number, main=name == "first") as section:
                results = driver.starmap(row_of, calls)
            run.expect(results, expected, "sums of rows")
            run.record(**{name: section.wall_s / number * 1e3})


# ---- the same as each library's users do it who know how ----


def _idiom(run: Run, prepare_and_call: Callable[[Any, int], Callable[[], list[float]]]) -> None:
    """Measure the second time; ``prepare_and_call`` returns what does all tasks once."""
    number = run.sizes["tasks"]
    matrix = _matrix(run.sizes["array_bytes"])
    expected = _expected(matrix, number)
    once = prepare_and_call(matrix, number)
    run.expect(once(), expected, "sums of rows")
    with run.timed(number) as section:
        results = once()
    run.expect(results, expected, "sums of rows")
    run.record(steady=section.wall_s / number * 1e3)


def _plain(run: Run) -> None:
    with run.open() as driver:
        _idiom(run, lambda matrix, number: lambda: driver.starmap(row_of, [(matrix, index) for index in range(number)]))


def _global_and_fork(run: Run) -> None:
    import multiprocessing

    def prepare(matrix: Any, number: int) -> Callable[[], list[float]]:
        hold(matrix)
        pool = multiprocessing.get_context("fork").Pool(run.workers)
        return lambda: pool.map(row_of_global, range(number), chunksize=1)

    _idiom(run, prepare)


def _initializer(run: Run) -> None:
    from concurrent.futures import ProcessPoolExecutor

    def prepare(matrix: Any, number: int) -> Callable[[], list[float]]:
        executor = ProcessPoolExecutor(run.workers, initializer=hold, initargs=(matrix,))
        return lambda: list(executor.map(row_of_global, range(number)))

    _idiom(run, prepare)


def _mpire_shared(run: Run) -> None:
    from mpire import WorkerPool

    def prepare(matrix: Any, number: int) -> Callable[[], list[float]]:
        pool = WorkerPool(n_jobs=run.workers, shared_objects=matrix, start_method="fork", keep_alive=True)
        return lambda: list(pool.map(row_of, range(number), chunk_size=1))

    _idiom(run, prepare)


def _ray_put(run: Run) -> None:
    import ray

    from scalepool.bench.drivers.ray_driver import start

    start(run.workers)
    remote = ray.remote(row_of)

    def prepare(matrix: Any, number: int) -> Callable[[], list[float]]:
        reference = ray.put(matrix)
        return lambda: list(ray.get([remote.remote(reference, index) for index in range(number)]))

    _idiom(run, prepare)


def _dask_scatter(run: Run) -> None:
    from scalepool.bench.drivers.dask_driver import DaskDriver

    with DaskDriver(run.workers) as driver:

        def prepare(matrix: Any, number: int) -> Callable[[], list[float]]:
            client = driver.client
            future = client.scatter(matrix, broadcast=True)
            return lambda: list(
                client.gather([client.submit(row_of, future, index, pure=False) for index in range(number)])
            )

        _idiom(run, prepare)


# ---- results ----


def _results(run: Run) -> None:
    number, size_bytes = run.sizes["tasks"], run.sizes["array_bytes"]
    task = partial(block_of, fresh=True) if run.candidate in _KEEP_RESULTS else block_of
    calls = [(index, size_bytes) for index in range(number)]
    with run.open() as driver:
        for name in ("first", "steady", "steady"):
            with run.timed(number, main=name == "first") as section:
                arrays = driver.each(task, calls)
                # One number of each page: a result that is only mapped has not arrived yet.
                sums = [float(array[::512].sum()) for array in arrays]
            run.expect(sums, [float(index) for index in range(number)], "sums of the arrays")
            run.expect({array.nbytes for array in arrays}, {size_bytes // 8 * 8}, "sizes of the arrays")
            run.record(**{name: number * size_bytes / section.wall_s / 1e9})
            del arrays


_EACH = ("scalepool", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "joblib", "mpire", "dask", "ray")
_NUMPY = ("numpy",)

WORKLOADS = (
    Workload(
        name="array-argument",
        what="a large array (full size: 1 GB) passed plainly to each task",
        metrics=(
            Metric("first", "ms/task", "lower", "first time"),
            Metric("steady", "ms/task", "lower", "second time with the same array"),
            Metric("extra", "x the array", "lower", "memory of all processes beyond what they had before"),
        ),
        adapters=on(_EACH, _argument),
        full={"tasks": 64, "array_bytes": 1_000_000_000},
        quick={"tasks": 32, "array_bytes": 100_000_000},
        fewer=_COPYING,
        targets=(Target("first", 10.0), Target("steady", 2.0), Target("extra", 1.3)),
        needs=_NUMPY,
        watch_memory=True,
    ),
    Workload(
        name="array-best-idiom",
        what="the same, each library used as its experts do, scalepool plainly",
        metrics=(Metric("steady", "ms/task", "lower"),),
        adapters={
            "scalepool": _plain,
            "multiprocessing.Pool": _global_and_fork,
            "ProcessPoolExecutor": _initializer,
            "joblib": _plain,
            "mpire": _mpire_shared,
            "dask": _dask_scatter,
            "ray": _ray_put,
        },
        full={"tasks": 64, "array_bytes": 1_000_000_000},
        quick={"tasks": 32, "array_bytes": 100_000_000},
        targets=(Target("steady", 2.0),),
        needs=_NUMPY,
    ),
    Workload(
        name="array-results",
        what="arrays of 32 MB as results, read by the caller",
        metrics=(
            Metric("first", "GB/s", "higher", "first round, workers make their arrays"),
            Metric("steady", "GB/s", "higher", "third round"),
        ),
        adapters=on(_EACH, _results),
        full={"tasks": 32, "array_bytes": 32_000_000},
        quick={"tasks": 16, "array_bytes": 8_000_000},
        targets=(Target("first", 2.0), Target("steady", 6.0)),
        needs=_NUMPY,
    ),
)
