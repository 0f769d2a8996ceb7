"""Drop-in for ``concurrent.futures``: change ``import concurrent.futures`` to ``import scalepool.concurrent.futures``.

Every public name of the standard module is here. All of them but ``ProcessPoolExecutor`` *are* the standard library's
objects, so futures of both kinds mix in ``wait`` and ``as_completed``, and ``except`` clauses match. As there, the two
executors are imported when they are first asked for.
"""

from __future__ import annotations

import concurrent.futures as _standard
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    TimeoutError,
    as_completed,
    wait,
)
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures.thread import ThreadPoolExecutor

    from scalepool.concurrent.futures.process import ProcessPoolExecutor

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "wait",
]
# What this Python's own module has beyond that, e.g. InterpreterPoolExecutor since 3.14.
__all__ += [name for name in _standard.__all__ if name not in __all__]


def __getattr__(name: str) -> object:
    if name == "ProcessPoolExecutor":
        from scalepool.concurrent.futures import process

        value: object = process.ProcessPoolExecutor
    elif name in __all__:
        value = getattr(_standard, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__"]
