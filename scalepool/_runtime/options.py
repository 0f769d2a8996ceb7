"""What the options of remote functions, actors and methods have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._base.tuples import NamedTuple

__all__ = ["FOR_EVER", "changed", "check_count"]

FOR_EVER: Final = 1 << 30
"""How often, where the user says any number of times."""

OptionsT = TypeVar("OptionsT", bound="NamedTuple")


def changed(options: OptionsT, changes: Mapping[str, Any], owner: str) -> OptionsT:
    """Return options with some others, which still have to be checked.

    Parameters
    ----------
    options
        What there is.
    changes
        What the user has given.
    owner
        What they are options of, for the error.

    Raises
    ------
    TypeError
        When one of them does not exist.
    """
    for key in changes:
        if key not in options._fields:
            raise TypeError(f"unknown option {key!r} of {owner}; there are {', '.join(options._fields)}")
    return options._replace(**changes)


def check_count(name: str, value: object, *, none: bool = False, infinite: bool = True, least: int = 0) -> None:
    """Raise ValueError for what is no count: an int, at least ``least``, or -1 if that means any number."""
    if none and value is None:
        return
    fits = isinstance(value, int) and not isinstance(value, bool) and (value >= least or (infinite and value == -1))
    if not fits:
        also = ", or -1 for any number" if infinite else ""
        raise ValueError(f"{name} must be an int, {least} or more{also}, not {value!r}")
