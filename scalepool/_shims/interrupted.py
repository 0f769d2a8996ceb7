"""What is cleaned up after Ctrl-C, by a user who may press it again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["see_through"]


def see_through(*steps: Callable[[], object]) -> None:
    """Do all of these; another Ctrl-C cuts short the one in hand, and is heard no further.

    For a caller that raises a KeyboardInterrupt anyway: one is enough, with the stack of where the user was.
    """
    for step in steps:
        with suppress(KeyboardInterrupt):
            step()
