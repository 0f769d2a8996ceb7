"""Errors of the core in the words of ``multiprocessing``.

For arguments that cannot travel the original raises what ``pickle`` raised; the core has a `SerializationError`, which
names the path to the culprit. For results the original has ``MaybeEncodingError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._shims.outcomes import LostItem
from scalepool._wire.pickling.culprit import ReducerError
from scalepool._wire.pickling.exceptions import ResultEncodingError
from scalepool.api import ErrorTypes
from scalepool.errors import SerializationError, TaskCancelledError, TaskTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from scalepool._shims.outcomes import Failure
    from scalepool.api import TaskFuture

__all__ = [
    "POOL_ERRORS",
    "error_of",
    "error_of_item",
    "failed_locally",
    "for_arguments",
    "name_item_of",
    "timeout_error",
]


def _remote_traceback() -> type[Exception]:
    # Imported when an error arrives and not before: multiprocessing.pool costs more than our own start.
    import multiprocessing.pool

    module: Any = multiprocessing.pool  # after install() this is a stand-in, which has the original's names as it can
    original: type[Exception] = module.RemoteTraceback
    return original


_ORIGINAL = "_scalepool_original"


class _TimedOut(TaskTimeoutError):
    """Makes a ``TaskTimeout`` when called: its other parent is not loaded before one is needed."""

    def __new__(cls, **details: Any) -> Any:
        from scalepool.multiprocessing._timeouts import TaskTimeout

        return TaskTimeout(**details)


POOL_ERRORS = ErrorTypes(remote_traceback=_remote_traceback, timed_out=_TimedOut)


def timeout_error() -> Exception:
    """Return a ``multiprocessing.TimeoutError`` (which is not the builtin one), without a message as the original."""
    from multiprocessing import TimeoutError as MultiprocessingTimeout

    return MultiprocessingTimeout()


def failed_locally(future: TaskFuture) -> bool:
    """Tell whether the task of a finished `future` never left the caller, because its arguments do not pickle."""
    return future.duration_s is None and not future.cancelled() and isinstance(future.exception(), SerializationError)


def error_of(future: TaskFuture, index: int | None = None) -> BaseException | None:
    """Return the error of a finished `future` as the original would raise it; ``None`` when it has a result.

    `index` is the place of its only item in the whole input, where it has one.
    """
    if future.cancelled():
        return TaskCancelledError("the task was cancelled")
    error = future.exception()
    if isinstance(error, SerializationError) and future.duration_s is None:
        return for_arguments(error)
    return _for_result(error, index) if isinstance(error, ResultEncodingError) else error


def for_arguments(error: SerializationError) -> BaseException:
    """Return what ``pickle`` raised for a call that cannot travel, with `error` (it names the culprit) as the cause.

    `error` itself is returned where it is as good: it is a TypeError, like most of what ``pickle`` raises. It is also
    returned for what only one of our own reducers refuses.
    """
    original: BaseException | None = getattr(error, _ORIGINAL, None)
    if original is not None:
        return original
    original = error.__cause__
    if original is None or isinstance(error, type(original)) or isinstance(original, ReducerError):
        return error
    error.__cause__ = None  # turned round: the caller's except clause needs the original on top
    original.__cause__ = error
    setattr(error, _ORIGINAL, original)  # get() may be called again
    return original


def name_item_of(future: TaskFuture, start: int, *, chunked: bool, numbered: bool) -> None:
    """See `scalepool._shims.places.name_item`, which few programs ever load."""
    from scalepool._shims.places import name_item

    name_item(future, start, chunked=chunked, numbered=numbered)


def error_of_item(failure: Failure | LostItem, future: TaskFuture, index: int | None = None) -> BaseException:
    """Return the error of one item of a chunk as the original would raise it, with the worker's traceback.

    `index` is the item's place in the whole input, where it is known.
    """
    if isinstance(failure, LostItem):
        lost = future.lost_item(failure.status, failure.verdict)
        if isinstance(lost, (WorkerDiedError, TaskTimeoutError)):
            lost.note(item=index)
        return lost
    error = failure.revive(_remote_traceback())
    return _for_result(error, index) if isinstance(error, ResultEncodingError) else error


def _for_result(error: ResultEncodingError, index: int | None) -> BaseException:
    import multiprocessing.pool

    if index is not None:
        error = error.of_item(index)

    original: type[Exception] = vars(multiprocessing.pool)["MaybeEncodingError"]
    shown = original(_Shown(error.reason), _Shown(error.value_repr))
    shown.path = error.path  # type: ignore[attr-defined]
    return shown


class _Shown:
    """Something of the worker of which only the repr came back; ``MaybeEncodingError`` takes reprs."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
