"""Small parts of a pool's calls."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from scalepool.multiprocessing.results import ApplyResult

__all__ = ["Raising", "call_unpacked", "check_buffersize", "get", "nothing", "snapshot", "spread"]


class Raising:
    """An iterable that raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Any:
        raise self._error


def nothing(item: Any) -> None:
    """Stand in for a function that does not pickle; never called."""


def call_unpacked(func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    """Call ``func``; what cannot be unpacked raises in the worker."""
    return func(*args, **kwds)


def spread(func: Callable[..., Any], args: Any, kwds: Any) -> tuple[Callable[..., Any], Any, Any]:
    """Return what to call with which arguments: they are unpacked in the worker unless that is known to go well.

    So what cannot be unpacked is the task's error, as in the original.
    """
    if type(args) is tuple and type(kwds) is dict:
        return func, args, kwds
    if type(args) is list and type(kwds) is dict:
        return func, tuple(args), kwds
    return call_unpacked, (func, args, kwds), {}


def get(result: ApplyResult) -> Any:
    """Wait for a call that blocks its caller; Ctrl-C takes back what has not started."""
    try:
        return result.get()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            from scalepool._shims.interrupted import see_through

            see_through(result._abandon)
            raise error.with_traceback(None) from error.__cause__  # without the frames of ours below this one
        if not result.ready():
            result._abandon()
        raise
    finally:
        del result  # a traceback must not keep the error alive that it belongs to


def snapshot(iterable: Iterable[Any]) -> Sequence[Any]:
    """Return the items as something that is cut by slicing, without any code of the user's."""
    if type(iterable) in (tuple, range):
        return iterable  # type: ignore[return-value]
    return list(iterable)


def check_buffersize(buffersize: int | None) -> int | None:
    """Return `buffersize` when it is one; raises TypeError or ValueError otherwise."""
    if buffersize is not None:
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
    return buffersize
