"""Ctrl-C, and handlers of other signals that raise: what they must not cut in two, and what is cleaned up after them.

A handler runs between any two bytecodes of the main thread. ``with lock:`` is safe when the lock is one of the
interpreter's own; a `threading.Condition` or `threading.Event` is not: it is written in Python, and a handler that
raises in its methods leaves its lock taken for ever.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from scalepool.api import Deferral

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_slices", "see_through", "undivided"]

_SLICE_S: Final = 0.05
"""So long a handler may have to wait for a thread that waits."""

undivided: Final = Deferral()
"""Context in which handlers wait until it is left: for what is short and runs no code of the user's."""


def in_slices(wait_s: Callable[[float], object], is_over: Callable[[], bool], timeout_s: float | None) -> None:
    """Wait until something is true, or time is up.

    Parameters
    ----------
    wait_s
        Waits for a change, for so many seconds at most.
    is_over
        Tells whether it is true.
    timeout_s
        Seconds; ``None``: for ever.
    """
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    while not is_over():
        left_s = _SLICE_S if deadline_s is None else min(_SLICE_S, deadline_s - time.monotonic())
        if left_s <= 0.0:
            return
        with undivided:
            wait_s(left_s)


def see_through(*steps: Callable[[], object]) -> None:
    """Do all of these; another Ctrl-C cuts short the one in hand, and is heard no further.

    For a caller that raises a KeyboardInterrupt anyway: one is enough, with the stack of where the user was.
    """
    for step in steps:
        with suppress(KeyboardInterrupt):
            step()
