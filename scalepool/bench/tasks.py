"""What workers are given to do. Importable by name, so that every library can send it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = [
    "Stepper", "add", "add_one", "block_of", "busy", "fibonacci_dask", "fibonacci_own", "fibonacci_ray", "fill",
    "fill_held", "fill_named", "hold", "meet", "nap", "row_of", "row_of_global", "text_of", "total", "wait_for_file",
]  # fmt: skip

MEET_POLL_S = 0.002
GATE_POLL_S = 0.0002


def add_one(number: int) -> int:
    """Do next to nothing: what is measured is everything else."""
    return number + 1


class Stepper:
    """An actor that does next to nothing."""

    def __init__(self) -> None:
        self.count = 0

    def step(self, number: int) -> int:
        """Count, and do as ``add_one``."""
        self.count += 1
        return number + 1

    def counted(self) -> int:
        """Return how often ``step`` was called."""
        return self.count


def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


def total(*numbers: int) -> int:
    """Add many numbers."""
    return sum(numbers)


def fibonacci_own(number: int) -> int:
    """Compute a Fibonacci number by two tasks of ``scalepool.remote``."""
    if number < 2:
        return number
    from scalepool import tasks

    left, right = tasks.get([tasks.remote(fibonacci_own).remote(number - below) for below in (1, 2)])
    return int(left + right)


def fibonacci_ray(number: int) -> int:
    """Compute a Fibonacci number by two tasks of ``ray.remote``."""
    if number < 2:
        return number
    import ray

    left, right = ray.get([ray.remote(fibonacci_ray).remote(number - below) for below in (1, 2)])
    return int(left + right)


def fibonacci_dask(number: int) -> int:
    """Compute a Fibonacci number by two tasks of Dask, on whose worker this one makes room meanwhile."""
    if number < 2:
        return number
    from distributed import worker_client

    with worker_client() as client:
        left, right = client.gather([client.submit(fibonacci_dask, number - below, pure=False) for below in (1, 2)])
    return int(left + right)


def nap(seconds: float) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds


def busy(seconds: float) -> float:
    """Keep a core busy for that long, by the clock on the wall."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def meet(folder: str, number: int) -> int:
    """Wait until ``number`` processes are in here at once; return the own process id.

    Each leaves a file in ``folder``, so no library's own means are needed.
    """
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < number:  # noqa: PTH208 - names only, and this is polled
        time.sleep(MEET_POLL_S)
    return os.getpid()


def wait_for_file(path: str) -> bool:
    """Occupy a worker until a file appears."""
    while not os.path.exists(path):  # noqa: PTH110 - no Path object for every poll
        time.sleep(GATE_POLL_S)
    return True


def text_of(number: int) -> bytes:
    """Return fifty kilobytes that begin with the number."""
    return number.to_bytes(8, "little") + bytes(49_992)


def row_of(array: Any, index: int) -> float:
    """Touch one row of a matrix and return its sum."""
    return float(array[index % len(array)].sum())


_held: Any = None


def hold(thing: Any) -> None:
    """Keep an array for `row_of_global`, a queue for `fill_held`; an initializer, or called before a fork."""
    global _held  # noqa: PLW0603 - what people do who know that fork shares globals
    _held = thing


def row_of_global(index: int) -> float:
    """Touch one row of the array that `hold` has kept."""
    return row_of(_held, index)


_blocks: dict[int, Any] = {}


def block_of(index: int, size_bytes: int, *, fresh: bool = False) -> Any:
    """Return an array of ``size_bytes`` that begins with ``index``, else zeros.

    The worker makes it once and then returns the same memory again: what is measured is the way to the caller. A
    library that keeps results in the worker as they are needs a ``fresh`` one each time.
    """
    import numpy as np

    block = _blocks.get(size_bytes)
    if block is None or fresh:
        block = _blocks[size_bytes] = np.zeros(size_bytes // 8)
    block[0] = index
    return block


def fill(queue: Any, count: int, size_bytes: int) -> None:
    """Put so many numbers, or arrays that begin with one, into a queue."""
    for number in range(count):
        queue.put(block_of(number, size_bytes, fresh=True) if size_bytes else number)


def fill_held(count: int, size_bytes: int) -> None:
    """Put them into the queue that `hold` has kept."""
    fill(_held, count, size_bytes)


def fill_named(name: str, count: int, size_bytes: int) -> None:
    """Put them into a queue of Dask."""
    from distributed import Queue

    fill(Queue(name), count, size_bytes)
