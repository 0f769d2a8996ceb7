"""What a call of a remote function returns: its option ``num_returns``, and how that is carried out."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.generators import generator_of
from scalepool._runtime.kept import Collecting, Dropping

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._runtime.refs import ObjectRef

__all__ = ["AHEAD", "MAX_RETURNS", "Returning", "check_ahead", "check_returns", "checked_kinds", "kinds_of", "yields"]

MAX_RETURNS: Final = 10_000
AHEAD: Final = 1000
"""Values that a stream may be ahead of its reader where nothing is said: more than most have, and none too many."""
_UNLIMITED: Final = 1 << 40
_NAMES: Final = ("dynamic", "streaming")


def check_returns(returns: object) -> None:
    """Raise ValueError for what ``num_returns`` cannot be."""
    is_number = isinstance(returns, int) and not isinstance(returns, bool) and 0 <= returns <= MAX_RETURNS
    if returns is not None and returns not in _NAMES and not is_number:
        raise ValueError(
            f"num_returns must be an int from 0 to {MAX_RETURNS}, 'dynamic' or 'streaming', not {returns!r}"
        )


def check_ahead(ahead: object) -> None:
    """Raise ValueError for what ``generator_backpressure`` cannot be."""
    is_number = isinstance(ahead, int) and not isinstance(ahead, bool) and (ahead > 0 or ahead == -1)
    if ahead is not None and not is_number:
        raise ValueError(f"generator_backpressure must be a positive int, or -1 for no limit, not {ahead!r}")


class Returning:
    """How a function's results come back.

    Parameters
    ----------
    returns, ahead
        The options ``num_returns`` and ``generator_backpressure``.
    function
        Whose calls they are for.

    Attributes
    ----------
    number
        As in ``Submit.returns``.
    is_stream, is_one, is_none
        Whether a call returns a generator of references, one reference, or nothing.
    """

    __slots__ = ("_wrapper", "is_none", "is_one", "is_stream", "number")

    def __init__(self, returns: int | str | None, ahead: int | None, function: Callable[..., Any]) -> None:
        self._wrapper = {0: Dropping, "dynamic": Collecting}.get(returns)
        self.is_none = returns == 0
        self.is_stream = returns == "streaming" or (returns is None and yields(function))
        self.number: int = returns if isinstance(returns, int) and returns else 1
        if self.is_stream:
            ahead = AHEAD if ahead is None else ahead
            self.number = -(ahead if ahead > 0 else _UNLIMITED)
        self.is_one = self.number == 1 and not self.is_none

    @property
    def way(self) -> str:
        """The same for methods of actors: ``"none"``, ``"dynamic"`` or empty."""
        return "dynamic" if self._wrapper is Collecting else "none" if self._wrapper is Dropping else ""

    def of(self, refs: list[ObjectRef[Any]]) -> Any:
        """Return what a call returns that has these references."""
        if self.is_one:
            return refs[0]
        if self.is_stream:
            return generator_of(refs)
        return None if self.is_none else refs

    def wrapped(self, function: Callable[..., Any], kinds: tuple[type[BaseException], ...]) -> Callable[..., Any]:
        """Return what is to be called in the worker; see ``Collecting`` for ``kinds``."""
        if self._wrapper is Collecting:
            return Collecting(function, kinds)
        return Dropping(function) if self._wrapper is Dropping else function


def checked_kinds(kinds: Any) -> bool | tuple[type[BaseException], ...]:
    """Return ``retry_exceptions=`` as it is kept.

    Raises
    ------
    TypeError
        When it is neither a bool nor exception classes.
    """
    if isinstance(kinds, bool):
        return kinds
    kinds = tuple(kinds) if isinstance(kinds, (list, tuple)) else (kinds,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise TypeError("retry_exceptions must be True, False, or a list of exception classes")
    return kinds  # type: ignore[no-any-return]


def kinds_of(checked: bool | tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    """Return the exceptions that this means."""
    if isinstance(checked, bool):
        return (Exception,) if checked else ()
    return checked


def yields(function: Callable[..., Any]) -> bool:
    """Whether this is a generator function, asynchronous or not, or makes its calls to one."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - its class's, as a call has it
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
