"""Which errors an executor raises, without importing them before one is raised."""

from __future__ import annotations

from typing import Any, Final, cast

from scalepool.api import ErrorTypes
from scalepool.errors import InitializerError, TaskCancelledError, WorkerDiedError

__all__ = ["ERRORS", "make_traceback"]


class _WorkerDied(WorkerDiedError):
    """Makes a ``WorkerDied`` when called."""

    def __new__(cls, **details: Any) -> Any:
        from scalepool.concurrent.futures._broken import WorkerDied

        return WorkerDied(**details)


class _InitializerFailed(InitializerError):
    """Makes an ``InitializerFailed`` when called."""

    def __new__(cls, message: str) -> Any:
        from scalepool.concurrent.futures._broken import InitializerFailed

        return InitializerFailed(message)


class _Terminated(TaskCancelledError):
    """Makes a ``Terminated`` when called."""

    def __new__(cls, message: str) -> Any:
        from scalepool.concurrent.futures._broken import Terminated

        return Terminated(message)


def make_traceback(text: str) -> BaseException:
    """Wrap a worker's traceback in the standard library's own class, in its own form."""
    from scalepool.concurrent.futures._broken import RemoteTraceback

    make = cast("type[Exception]", RemoteTraceback)  # typeshed has its parameter wrong
    return make(f'\n"""\n{text}"""')


ERRORS: Final = ErrorTypes(
    worker_died=_WorkerDied,
    initializer_failed=_InitializerFailed,
    terminated=_Terminated,
    remote_traceback=lambda: cast("type", make_traceback),
)
