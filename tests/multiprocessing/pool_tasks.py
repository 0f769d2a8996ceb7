"""Functions for the pool's tests; a module of its own, so that workers import it by name."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scalepool.multiprocessing import Pool

seen_by_initializer: list[object] = []


def square(value: int) -> int:
    return value * value


def power(base: int, exponent: int) -> int:
    return base**exponent


def keywords(**values: int) -> dict[str, int]:
    return values


def reciprocal(value: float) -> float:
    return 1 / value


def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def touch(path: str) -> None:
    Path(path).touch()


def sleep_forever(_: object) -> None:
    threading.Event().wait()


def kill_at_three(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def exit_at_three(value: int) -> int:
    if value == 3:
        sys.exit(5)
    return value


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def return_an_exception(value: int) -> Exception:
    return ValueError(value)


def make_a_lock(_: object) -> Any:
    return threading.Lock()


class TwoArguments(Exception):
    """Does not survive plain pickling."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.second = second


def raise_two_arguments(value: object) -> None:
    raise TwoArguments(value, "second")


def worker_pid(_: object) -> int:
    return os.getpid()


def remember(value: object) -> None:
    seen_by_initializer.append(value)


def recall(_: object) -> list[object]:
    return seen_by_initializer


def nested_sum(count: int) -> int:
    with Pool(2) as pool:
        return sum(pool.map(square, range(count)))


def nested_unordered_sum(count: int) -> int:
    with Pool(2) as pool:
        return sum(pool.imap_unordered(square, range(count)))


def failing_inputs(total: int, at: int) -> Iterator[int]:
    for value in range(total):
        if value == at:
            raise LookupError("somebody said when")
        yield value
