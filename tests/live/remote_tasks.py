"""Remote functions that workers import by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scalepool

if TYPE_CHECKING:
    from collections.abc import Iterator


@scalepool.remote
def add(one: Any, other: Any = 1) -> Any:
    """Add two things."""
    return one + other


@scalepool.remote
def fib(n: int) -> int:
    """Count by nested tasks."""
    if n < 2:
        return n
    return int(sum(scalepool.get([fib.remote(n - 1), fib.remote(n - 2)])))


@scalepool.remote
def pid_of(_: object = None) -> int:
    return os.getpid()


@scalepool.remote(max_retries=2)
def survives(path: str, *_: object) -> int:
    """Die at first, and not the second time."""
    if not os.path.exists(path):  # noqa: PTH110
        open(path, "w").close()  # noqa: PTH123
        os._exit(3)
    return 42


@scalepool.remote
def dies(*_: object) -> None:
    os._exit(3)


@scalepool.remote
def sleeps(seconds: float, *_: object) -> float:
    time.sleep(seconds)
    return seconds


@scalepool.remote
def kind_of(value: Any) -> str:
    """Say what arrived."""
    if isinstance(value, list):
        return f"list of {type(value[0]).__name__}"
    return type(value).__name__


@scalepool.remote
def first_of(box: list[Any]) -> Any:
    """Get a nested reference's value."""
    return scalepool.get(box[0])


@scalepool.remote
def passes_on(box: list[Any]) -> list[Any]:
    """Return references that came, and one of its own."""
    return [box[0], add.remote(10, 20), scalepool.put("own")]


KEPT: list[Any] = []


@scalepool.remote
def keeps(box: list[Any]) -> int:
    """Hold on to a reference beyond the task."""
    KEPT.extend(box)
    return os.getpid()


@scalepool.remote
def lets_go() -> int:
    """Drop what was kept."""
    KEPT.clear()
    return os.getpid()


@scalepool.remote
def value_kept() -> Any:
    """Read what was kept."""
    return scalepool.get(KEPT[0]) if KEPT else None


@scalepool.remote(num_returns=3)
def three(n: int) -> list[Any]:
    """Make three values."""
    return [n, "two", {"three": n}]


@scalepool.remote(num_returns=2)
def wrong_number() -> list[int]:
    """Make one too many."""
    return [1, 2, 3]


@scalepool.remote(retry_exceptions=[ConnectionError], max_retries=2)
def flaky(path: str, box: list[int]) -> list[int]:
    """Fail twice; the arguments are fresh each time."""
    box.append(1)
    with open(path, "a") as file:  # noqa: PTH123
        file.write("x")
    if os.path.getsize(path) < 3:  # noqa: PTH202
        raise ConnectionError("try again")
    return box


@scalepool.remote
def spawns(path: str) -> list[Any]:
    """Start children, and wait for them."""
    children = [marks.remote(path, 30.0) for _ in range(3)]
    scalepool.get(children)
    return children


@scalepool.remote
def marks(path: str, seconds: float) -> None:
    """Leave a mark, then sleep."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)


def reads(ref: Any) -> Any:
    """Get a reference's value, in a plain task of a pool."""
    return scalepool.get(ref)


def makes_references(n: int) -> list[Any]:
    """Return references out of a plain task."""
    return [add.remote(n), scalepool.put(n)]


@scalepool.remote
def raises(kind: type[BaseException]) -> None:
    raise kind("raised")


@scalepool.remote
def count_on(closed: str) -> Iterator[int]:
    """Count until nobody reads on; then make a file."""
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        Path(closed).touch()
