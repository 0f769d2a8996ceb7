"""What can become of one item of a map: a value, a failure, or nothing yet.

A failure crosses the process border as a ``Failure``: the user's exception and the text of its traceback. It becomes
an exception again in the caller, with the traceback text as its ``__cause__``. With ``on_error="return"`` the exception
object stands in the results where the value would be. A task may also *return* an exception as a perfectly good
value, so those that stand for a failure are flagged, and `is_failed` tells the two apart.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Literal

from scalepool._base.tuples import NamedTuple
from scalepool._wire.pickling.exceptions import decode_exception, encode_exception
from scalepool._wire.pickling.traceback_text import format_traceback

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MISSING",
    "Failure",
    "LostItem",
    "Missing",
    "OnError",
    "attach_partial_results",
    "capture",
    "check_on_error",
    "is_failed",
    "mark_failed",
]

OnError = Literal["raise", "raise_now", "return"]

_FLAG: Final = "scalepool_failed"


class Missing(enum.Enum):
    """Type of the sentinel `MISSING`: an enum, so that it stays one object through pickling."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""Stands in ``.partial_results`` where an item failed or was not run."""


class Failure(NamedTuple):
    """One item's exception on its way from the worker to the caller.

    Parameters
    ----------
    record
        The exception, its chain and the text of its traceback, in a form that travels whatever the exception is.
    """

    record: bytes

    def revive(self, traceback_type: Callable[[str], BaseException]) -> BaseException:
        """Return the exception with the worker's traceback as its ``__cause__``."""
        return decode_exception(self.record, traceback_type)


class LostItem(NamedTuple):
    """One item that was given up because its worker died of it, or because it ran too long.

    Parameters
    ----------
    status, verdict
        As the core has them; ``TaskFuture.lost_item`` makes the error of them.
    """

    status: int
    verdict: bytes


def capture(error: BaseException) -> Failure:
    """Return `error` in the form that travels; the innermost frame of ours is left out of its traceback."""
    trace = error.__traceback__
    if trace is not None and trace.tb_next is not None:
        error = error.with_traceback(trace.tb_next)
    return Failure(encode_exception(error, format_traceback(error)))


def mark_failed(error: BaseException) -> BaseException:
    """Flag `error` as standing for a failed item, and return it."""
    setattr(error, _FLAG, True)
    return error


def is_failed(item: object) -> bool:
    """Tell whether `item`, taken from results with ``on_error="return"``, stands for a failed task.

    An exception object that a task returned as its value is not a failure.
    """
    return isinstance(item, BaseException) and getattr(item, _FLAG, False) is True


def check_on_error(on_error: OnError) -> OnError:
    """Return `on_error` when it is one of the three choices.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    if on_error not in ("raise", "raise_now", "return"):
        raise ValueError(f"on_error must be 'raise', 'raise_now' or 'return', not {on_error!r}")
    return on_error


def attach_partial_results(error: BaseException, values: list[Any]) -> None:
    """Set ``error.partial_results`` where the exception's class allows attributes."""
    try:
        error.partial_results = values  # type: ignore[attr-defined]
    except AttributeError:
        # A class that forbids attributes (a __setattr__ of its own): the error itself matters more than the extra.
        return
