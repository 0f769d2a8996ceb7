"""A queue between a worker that puts and the program that gets."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scalepool.bench.model import Metric, Target, Workload
from scalepool.bench.tasks import fill, fill_held, fill_named, hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_NAME = "scalepool-bench"


def _measure(run: Run, queue: Any, start: Callable[[int, int], Any], finish: Callable[[Any], Any]) -> None:
    """Have a worker put ``tasks`` items, and get them; once more than is measured, for what is made at first use."""
    count, size_bytes = run.sizes["tasks"], run.sizes["size"]
    item: Any = None
    for round_count in (min(count, 20), count):
        with run.timed(round_count):
            began = time.perf_counter()
            producer = start(round_count, size_bytes)
            for _ in range(round_count):
                item = queue.get()
            taken_s = time.perf_counter() - began
        run.expect(int(item[0]) if size_bytes else item, round_count - 1, "last item")
        finish(producer)
    run.record(rate=count / taken_s)


def _own(run: Run) -> None:
    from scalepool import api, tasks
    from scalepool.util import Queue

    with api.init(num_cpus=run.workers):
        queue: Queue[Any] = Queue()
        producer = tasks.remote(fill)
        _measure(run, queue, lambda count, size: producer.remote(queue, count, size), tasks.get)


def _stdlib(run: Run) -> None:
    import multiprocessing

    queue: Any = multiprocessing.Queue()
    with multiprocessing.Pool(run.workers, hold, (queue,)) as pool:
        _measure(run, queue, lambda *args: pool.apply_async(fill_held, args), lambda result: result.get())


def _ray(run: Run) -> None:
    import ray
    from ray.util.queue import Queue

    from scalepool.bench.drivers.ray_driver import start

    start(run.workers)
    queue, producer = Queue(), ray.remote(fill)
    _measure(run, queue, lambda count, size: producer.remote(queue, count, size), ray.get)
    ray.shutdown()


def _dask(run: Run) -> None:
    from distributed import Queue

    with _dask_client(run) as client:
        queue = Queue(_NAME, client=client)
        submit = client.submit
        _measure(run, queue, lambda *args: submit(fill_named, _NAME, *args, pure=False), lambda future: future.result())


@contextmanager
def _dask_client(run: Run) -> Iterator[Any]:
    from scalepool.bench.drivers.dask_driver import DaskDriver

    driver = DaskDriver(run.workers)
    yield driver.client
    driver.close()


_ADAPTERS = {"scalepool": _own, "multiprocessing.Pool": _stdlib, "ray": _ray, "dask": _dask}

WORKLOADS = (
    Workload(
        name="queue",
        what="numbers that a worker puts into a queue one by one, and the program gets",
        metrics=(Metric("rate", "items/s", "higher"),),
        adapters=_ADAPTERS,
        full={"tasks": 50_000, "size": 0},
        quick={"tasks": 5000, "size": 0},
        fewer={"scalepool": 5, "ray": 20, "dask": 10},
        targets=(Target("rate", 1.0, against=("multiprocessing.Pool",)),),
    ),
    Workload(
        name="queue-arrays",
        what="the same with arrays of 1 MB",
        metrics=(Metric("rate", "items/s", "higher"),),
        adapters=_ADAPTERS,
        full={"tasks": 2000, "size": 1 << 20},
        quick={"tasks": 300, "size": 1 << 20},
        fewer={"ray": 2, "dask": 2},
        targets=(Target("rate", 3000.0),),
        needs=("numpy",),
    ),
)
