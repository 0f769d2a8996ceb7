"""Who may pump: one thread at a time has the *role*, and those who want it wait for their turn."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from scalepool._base.clock import monotonic_s as monotonic

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Midst", "Turns"]


class Turns:
    """The role of one pump.

    Attributes
    ----------
    owner
        Identifier of the thread that has it, else 0.
    waiting
        How many wait to be told that a round is over.
    """

    __slots__ = ("_role", "_turn", "owner", "waiting")

    def __init__(self) -> None:
        self._role = threading.Lock()
        self._turn = threading.Condition(threading.Lock())
        self.owner = 0
        self.waiting = 0

    @property
    def is_taken(self) -> bool:
        """Whether somebody has the role."""
        return self._role.locked()

    def take(self, timeout_s: float = 0.0) -> bool:
        """Take the role; False when somebody else has it, and keeps it for ``timeout_s``."""
        # A lock without a timeout is faster to ask.
        taken = self._role.acquire(timeout=timeout_s) if timeout_s else self._role.acquire(blocking=False)
        if taken:
            self.owner = threading.get_ident()
        return taken

    def give_back(self) -> None:
        """Let the next one have it."""
        self.owner = 0
        self._role.release()
        self.tell()

    def tell(self) -> None:
        """Have those who wait look whether what they wait for has come."""
        if self.waiting:
            with self._turn:
                self._turn.notify_all()

    def wait(self, done: Callable[[], bool], deadline: float | None) -> None:
        """Wait until the one who has the role has done a round."""
        with self._turn:
            if done() or not self._role.locked():
                return
            self.waiting += 1
            try:
                # The bound is a safety net, not a poll: every round of the pumping thread notifies.
                left = 0.05 if deadline is None else min(0.05, max(0.0, deadline - monotonic()))
                self._turn.wait(left)
            finally:
                self.waiting -= 1


class Midst:
    """Whether who has the role is in the midst of the station's work, in none of the user's callbacks.

    The collector may run finalizers there, and the work is not such that it could be begun again before it has ended.
    """

    __slots__ = ("is_inside",)

    def __init__(self) -> None:
        self.is_inside = False

    def call_back(self, function: Callable[..., object], *args: Any) -> None:
        """Call something that may call the user's code, which may wait and have the station work meanwhile."""
        outer, self.is_inside = self.is_inside, False
        try:
            function(*args)
        finally:
            self.is_inside = outer
