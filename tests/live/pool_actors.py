"""Actors for pools of them, and tasks that use queues."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import scalepool

if TYPE_CHECKING:
    from scalepool.util import Queue


@scalepool.remote
class Doubler:
    def __init__(self) -> None:
        self.calls = 0

    def double(self, x: Any) -> Any:
        self.calls += 1
        return x * 2

    def after(self, seconds: float, x: Any) -> Any:
        time.sleep(seconds)
        return x

    def fail(self, x: Any) -> None:
        raise KeyError(x)

    def die_of(self, x: Any, bad: Any) -> Any:
        if x == bad:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return x

    def ask(self, other: Any) -> Any:
        return scalepool.get(other.double.remote(1))

    def pid(self) -> int:
        return os.getpid()


@scalepool.remote
def take(queue: Queue[Any], number: int = 1) -> list[Any]:
    return [queue.get() for _ in range(number)]


@scalepool.remote
def take_for_ever(queue: Queue[Any], path: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    queue.get()


@scalepool.remote
def fill(queue: Queue[Any], start: int, number: int) -> None:
    for item in range(start, start + number):
        queue.put(item)


@scalepool.remote(max_retries=-1)
def take_until_none(queue: Queue[Any], path: str) -> None:
    """Note what was taken in a file of one's own, and the next one after that."""
    with open(f"{path}-{os.getpid()}", "a", buffering=1) as file:  # noqa: PTH123
        while (item := queue.get()) is not None:
            file.write(f"{item}\n")


@scalepool.remote
async def pipe(source: Queue[Any], target: Queue[Any], number: int) -> None:
    for _ in range(number):
        await target.put_async(await source.get_async() + 1)
