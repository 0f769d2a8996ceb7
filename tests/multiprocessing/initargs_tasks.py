"""Tasks that use what their worker's initializer was given."""

from __future__ import annotations

import os
from typing import Any

given: list[Any] = []


def take(*things: Any) -> None:
    given[:] = things


def try_acquire() -> bool:
    """Tell whether it was free; leave it so."""
    free = given[0].acquire(False)
    if free:
        given[0].release()
    return bool(free)


def notify() -> None:
    with given[0]:
        given[0].notify()


def set_event() -> None:
    given[0].set()


def wait_at_barrier() -> int:
    return int(given[0].wait(60))


def pass_on() -> int:
    """Put into the second queue ten times what comes out of the first."""
    item = given[0].get()
    given[1].put(item * 10)
    if hasattr(given[0], "task_done"):
        given[0].task_done()
    return os.getpid()


def add(amount: int) -> int:
    with given[0].get_lock():
        given[0].value += amount
    return os.getpid()


def fill(index: int) -> None:
    given[0][index] = index + 1


def send(item: object) -> int:
    given[0].send(item)
    return os.getpid()


def put_into(mapping: Any, key: int) -> None:
    mapping[key] = os.getpid()


def put_into_given(key: int) -> None:
    put_into(given[0], key)


def send_through(connection: Any, item: object) -> Any:
    connection.send(item)
    return connection
