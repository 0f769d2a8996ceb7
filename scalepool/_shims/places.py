"""Where in what the user passed the thing sits that does not pickle.

The core knows a chunk of items as the first argument of a task; the user knows an iterable and positions in it. Loaded
only when an error has to be told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

__all__ = ["name_call", "name_input", "name_item"]

_CHUNKED = re.compile(r"args\[0\]\[(\d+)\]")
_ARGUMENT = re.compile(r"\[(\d+)\]")
_CALL = re.compile(r"\[0\]\[(\d+)\]\[([012])\]")


def name_item(future: Future[Any], start: int, *, chunked: bool, numbered: bool) -> None:
    """Call an item of a pool's map ``iterable[position]`` in the error of a task that could not be sent.

    Parameters
    ----------
    future
        The failed task; another failure is left as it is.
    start
        Position of its first item.
    chunked
        The task was to get a sequence of items; else one item.
    numbered
        Each item has its position before it, as `seeded` makes them.
    """
    error = _error_of(future)
    if error is None:
        return
    found = _CHUNKED.match(error.path) if chunked else None
    was = found.group() if found is not None else "args[0]"
    place = f"iterable[{start + int(found.group(1)) if found is not None else start}]"
    error.rename_path(was + "[1]" if numbered else was, place)


def name_input(future: Future[Any], start: int, *, numbered: bool) -> None:
    """Call an argument ``iterables[number][position]``, as they were given to ``Executor.map``; see `name_item`."""
    error = _error_of(future)
    found = None if error is None else _CHUNKED.match(error.path)
    if error is None or found is None:
        return
    position = start + int(found.group(1))
    was = found.group() + "[0][1]" if numbered else found.group()
    argument = _ARGUMENT.match(error.path, len(was)) if error.path.startswith(was) else None
    if argument is not None:
        error.rename_path(was + argument.group(), f"iterables{argument.group()}[{position}]")


def name_call(error: SerializationError, start: int) -> None:
    """Call a part of a batch of joblib's ``calls[position].args``; `start` is the position of its first call."""
    found = _CALL.match(error.path)
    if found is not None:
        part = ("func", "args", "kwargs")[int(found.group(2))]
        error.rename_path(found.group(), f"calls[{start + int(found.group(1))}].{part}")


def _error_of(future: Future[Any]) -> SerializationError | None:
    """Return the error that names a path: itself the future's, or the cause where the original's is on top."""
    error = future.exception()
    if error is not None and not isinstance(error, SerializationError):
        error = error.__cause__
    return error if isinstance(error, SerializationError) else None
