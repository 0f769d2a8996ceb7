"""One large buffer put where other processes can get it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scalepool.bench.model import Metric, Target, Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing import shared_memory

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_ROUNDS = 5


def _payload(size_bytes: int) -> bytearray:
    data = bytearray(size_bytes)
    data[0], data[-1] = 1, 2
    return data


def _measure(run: Run, put: Callable[[bytearray], Any], get: Callable[[Any], Any], free: Callable[[Any], None]) -> None:
    """Put, get and free one buffer several times; the first put is the fresh one.

    ``get`` returns (seconds, first byte, last byte) as found by a worker.
    """
    payload = _payload(run.sizes["buffer_bytes"])
    puts_s: list[float] = []
    gets_s: list[float] = []
    for number in range(_ROUNDS):
        with run.timed(1, main=number > 0) as section:
            handle = put(payload)
        puts_s.append(section.wall_s)
        taken_s, first, last = get(handle)
        gets_s.append(taken_s)
        run.expect((first, last), (1, 2), "ends of the buffer")
        free(handle)
        del handle
        time.sleep(0.05)  # what is freed by messages gets the time to be
    second = puts_s[1] / _copying_s(payload)
    run.record(fresh=puts_s[0] * 1e3, second=second, put=min(puts_s[1:]) * 1e3, get=sorted(gets_s)[_ROUNDS // 2] * 1e3)


def _copying_s(payload: bytearray) -> float:
    """Return the seconds of a copy into memory that has been touched: nothing could be quicker than that."""
    target, source = memoryview(bytearray(payload)), memoryview(payload)
    taken_s = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        target[:] = source
        taken_s.append(time.perf_counter() - begin)
    return min(taken_s)


def _get_own(buffer: Any) -> tuple[float, int, int]:
    begin = time.perf_counter()
    mapped = buffer.open("r")
    first = mapped[0]
    taken_s = time.perf_counter() - begin
    return taken_s, first, mapped[buffer.size_bytes - 1]


def _own(run: Run) -> None:
    from scalepool.api import put_buffer

    with run.open() as driver:
        _measure(run, put_buffer, lambda buffer: driver.call(_get_own, buffer), lambda _: None)


def _get_shared_memory(name: str, size_bytes: int) -> tuple[float, int, int]:
    from multiprocessing import shared_memory

    begin = time.perf_counter()
    segment = shared_memory.SharedMemory(name)
    first = _view(segment)[0]
    taken_s = time.perf_counter() - begin
    last = _view(segment)[size_bytes - 1]
    segment.close()
    return taken_s, first, last


def _view(segment: shared_memory.SharedMemory) -> memoryview:
    assert segment.buf is not None  # it is None once closed
    return segment.buf


def _shared_memory(run: Run) -> None:
    from multiprocessing import shared_memory

    from scalepool.bench.drivers.stdlib import PoolDriver

    size_bytes = run.sizes["buffer_bytes"]

    def put(payload: bytearray) -> shared_memory.SharedMemory:
        segment = shared_memory.SharedMemory(create=True, size=size_bytes)
        _view(segment)[:size_bytes] = payload
        return segment

    def free(segment: shared_memory.SharedMemory) -> None:
        segment.close()
        segment.unlink()

    with PoolDriver(run.workers) as driver:
        driver.warm_up("singles")
        _measure(run, put, lambda segment: driver.call(_get_shared_memory, segment.name, size_bytes), free)


def _ray(run: Run) -> None:
    import numpy as np
    import ray

    from scalepool.bench.drivers.ray_driver import start

    start(run.workers)

    def get_in_worker(references: list[Any]) -> tuple[float, int, int]:
        begin = time.perf_counter()
        array = ray.get(references[0])
        first = int(array[0])
        taken_s = time.perf_counter() - begin
        return taken_s, first, int(array[-1])

    remote = ray.remote(get_in_worker)
    _measure(
        run,
        lambda payload: ray.put(np.frombuffer(payload, dtype=np.uint8)),
        lambda reference: ray.get(remote.remote([reference])),
        lambda _: None,
    )


_PUTS = (
    Metric("put", "ms", "lower", "put into memory that was used before"),
    Metric("fresh", "ms", "lower", "first put"),
    Metric("second", "x memcpy", "lower", "second put, as a multiple of the quickest copy"),
)
_GET = Metric("get", "ms", "lower", "opened by a worker")
_ADAPTERS = {"scalepool": _own, "shared_memory": _shared_memory, "ray": _ray}

WORKLOADS = (
    Workload(
        name="put-get",
        what="a buffer of 100 MB put into shared memory and opened by a worker",
        metrics=(*_PUTS, _GET),
        adapters=_ADAPTERS,
        full={"buffer_bytes": 100_000_000},
        quick={"buffer_bytes": 100_000_000},
        targets=(Target("put", 7.0), Target("fresh", 41.0), Target("second", 1.3), Target("get", 0.2)),
    ),
    Workload(
        name="put-get-large",
        what="the same with a very large buffer (full size: 1 GB)",
        metrics=(_GET, *_PUTS),
        adapters=_ADAPTERS,
        full={"buffer_bytes": 1_000_000_000},
        quick={"buffer_bytes": 200_000_000},
        targets=(Target("get", 1.0),),
    ),
)
