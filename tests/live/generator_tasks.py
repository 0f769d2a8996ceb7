"""Remote generator functions that workers import by name."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import scalepool
from live.helpers import write_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@scalepool.remote
def counts(number: int, ledger: str = "", pause_s: float = 0.0) -> Iterator[int]:
    """Yield numbers; note each, and the end."""
    try:
        for n in range(number):
            if ledger:
                write_line(ledger, n)
            yield n
            time.sleep(pause_s)
    finally:
        if ledger:
            write_line(ledger, "closed")


@scalepool.remote
def slow(ledger: str) -> Iterator[int]:
    """Take long for the first value."""
    write_line(ledger, "begun")
    time.sleep(60)
    yield 1


@scalepool.remote
def arrays(number: int, size: int = 1_000_000) -> Iterator[Any]:
    """Yield large arrays."""
    for n in range(number):
        yield np.full(size, n)


@scalepool.remote
def fails(number: int) -> Iterator[int]:
    """Yield some, then raise."""
    yield from range(number)
    raise KeyError(number)


@scalepool.remote
def dies(number: int) -> Iterator[int]:
    """Yield some, then die."""
    yield from range(number)
    os._exit(3)


@scalepool.remote(max_retries=3)
def dies_once(path: str, number: int) -> Iterator[int]:
    """Die halfway the first time."""
    for n in range(number):
        if n == number // 2 and not os.path.exists(path):  # noqa: PTH110
            open(path, "w").close()  # noqa: PTH123
            os._exit(3)
        yield n


@scalepool.remote(retry_exceptions=[ConnectionError])
def fails_twice(path: str, number: int) -> Iterator[int]:
    """Raise halfway, twice."""
    for n in range(number):
        if n == number // 2 and (not os.path.exists(path) or os.path.getsize(path) < 2):  # noqa: PTH110, PTH202
            with open(path, "a") as file:  # noqa: PTH123
                file.write("x")
            raise ConnectionError("try again")
        yield n


@scalepool.remote
async def asynchronous(number: int, ledger: str = "") -> AsyncIterator[int]:
    """Yield numbers out of an event loop."""
    try:
        for n in range(number):
            await asyncio.sleep(0)
            yield n
    finally:
        if ledger:
            write_line(ledger, "closed")


@scalepool.remote
def unpicklable() -> Iterator[Any]:
    """Yield what cannot be pickled."""
    yield 1
    yield (n for n in ())


@scalepool.remote
def sums(number: int) -> int:
    """Read a stream inside a task."""
    return sum(scalepool.get(ref) for ref in counts.options(generator_backpressure=2).remote(number))


@scalepool.remote
def reads_and_dies(ledger: str) -> None:
    """Read a little of a stream, then die."""
    gen = counts.options(generator_backpressure=2).remote(10**9, ledger)
    next(gen)
    os._exit(3)


@scalepool.remote
def children(number: int) -> Iterator[Any]:
    """Yield what tasks of one's own have made, and references to more."""
    for n in range(number):
        inner = counts.options(num_returns=1).options(num_returns="dynamic").remote(n)
        yield [scalepool.get(scalepool.put(n)), inner]


@scalepool.remote
async def later(value: int, seconds: float = 0.0) -> int:
    """Return a value out of an event loop."""
    await asyncio.sleep(seconds)
    return value + 1


@scalepool.remote
async def gathers(number: int) -> list[int]:
    """Await tasks of one's own."""
    return list(await asyncio.gather(*[later.remote(n) for n in range(number)]))


@scalepool.remote(num_returns=0)
def notes(ledger: str, line: str) -> object:
    """Do something, and return what nobody gets."""
    write_line(ledger, line)
    return (n for n in ())


@scalepool.remote(num_returns=0)
def complains() -> None:
    """Raise where nobody hears it."""
    raise KeyError("unheard")


@scalepool.remote
def killed(number: int) -> Iterator[int]:
    """Yield some as fast as possible, then be killed."""
    yield from range(number)
    os.kill(os.getpid(), signal.SIGKILL)


@scalepool.remote
def fast_then_slow(number: int) -> Iterator[int]:
    """Yield some as fast as possible, and take long for the next one."""
    yield from range(number)
    time.sleep(120)
    yield number


@scalepool.remote(max_concurrency=3)
class Several:
    """Yields in several threads at once."""

    def counts(self, first: int, number: int) -> Iterator[int]:
        yield from range(first, first + number)
