"""Which errors an executor raises, without importing them before one is raised."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import TimeoutError as FuturesTimeoutError  # a class of its own before Python 3.11
from typing import Any, Final, cast

from scalepool.api import ErrorTypes
from scalepool.errors import InitializerError, RemoteTraceback, TaskCancelledError, TaskTimeoutError, WorkerDiedError

__all__ = ["ERRORS", "TaskTimeout", "make_traceback"]


class TaskTimeout(TaskTimeoutError, FuturesTimeoutError):
    """The call ran longer than its ``task_timeout``. Also a ``concurrent.futures.TimeoutError``."""


class _WorkerDied(WorkerDiedError):
    """Makes a ``WorkerDied`` when called."""

    def __new__(cls, **details: Any) -> Any:
        return _named("WorkerDied", WorkerDiedError)(**details)


class _InitializerFailed(InitializerError):
    """Makes an ``InitializerFailed`` when called."""

    def __new__(cls, message: str) -> Any:
        return _named("InitializerFailed", InitializerError)(message)


class _Terminated(TaskCancelledError):
    """Makes a ``Terminated`` when called."""

    def __new__(cls, message: str) -> Any:
        return _named("Terminated", TaskCancelledError)(message)


def make_traceback(text: str) -> BaseException:
    """Wrap a worker's traceback in the standard library's own class, in its own form."""
    return cast("BaseException", _named("RemoteTraceback", RemoteTraceback)(f'\n"""\n{text}"""'))


def _named(name: str, plain: type[BaseException]) -> type[Any]:
    """Return the class of that name that is also the standard library's, or the plain one.

    When the interpreter ends it is too late to load the standard library's, which would register itself for that end.
    If it has not been loaded by then, no ``except`` clause can name its classes either.
    """
    if getattr(threading, "_SHUTTING_DOWN", False) and "concurrent.futures.process" not in sys.modules:
        return plain
    from scalepool.concurrent.futures import _broken

    found: type[Any] = getattr(_broken, name)
    return found


ERRORS: Final = ErrorTypes(
    worker_died=_WorkerDied,
    timed_out=TaskTimeout,
    initializer_failed=_InitializerFailed,
    terminated=_Terminated,
    remote_traceback=lambda: cast("type", make_traceback),
)
