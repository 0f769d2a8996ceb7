"""How often a worker looks at its channel while a task runs: often at first, then ever more rarely while all is quiet.

Each look wakes a thread, which costs some 70 us of the processor that the task could have: 2 % of it, every 3 ms.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pace", "Sleep"]

_SHARE: Final = 0.05
"""What arrives is late by at most this share of the time for which it has been quiet."""
_MOST_S: Final = 0.03


class Pace:
    """Says how long to sleep until the next look.

    Parameters
    ----------
    tick_s
        The shortest time between two looks, in seconds.
    """

    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s
        self._most_s = max(tick_s, _MOST_S)
        self._quiet_since = 0.0

    def next_s(self, now: float, *, stirred: bool) -> float:
        """Return how long to sleep.

        Parameters
        ----------
        now
            Monotonic time, in seconds.
        stirred
            Whether something has arrived or is to be sent since the last time.
        """
        if stirred:
            self._quiet_since = now
        return min(self._most_s, max(self.tick_s, _SHARE * (now - self._quiet_since)))


class Sleep:
    """A helper thread's, between two looks.

    Parameters
    ----------
    delay_s
        How long it is, in seconds.
    pace
        If there is one it says instead how long.

    Attributes
    ----------
    stirred
        Whether something has arrived since the last look.
    """

    def __init__(self, delay_s: float, pace: Pace | None) -> None:
        self.pace = pace
        self.stirred = False
        self._delay_s = delay_s
        self._dozes = False
        self._soon = threading.Event()

    def sleep(self, pending: Callable[[], bool]) -> None:
        """Sleep; not for long where ``pending()`` says that something waits to be sent."""
        if self.pace is None:
            self._soon.wait(self._delay_s)
            return
        sleep_s = self.pace.next_s(monotonic_s(), stirred=self.stirred or pending())
        self.stirred = False
        self._dozes = sleep_s > self.pace.tick_s
        # Once more: what was queued before the line above woke nobody.
        if not (self._dozes and pending()) and self._soon.wait(sleep_s):
            self._soon.clear()
        self._dozes = False

    def stir(self) -> None:
        """Something was queued; from any thread."""
        self.stirred = True
        if self._dozes:
            self._soon.set()

    def end(self) -> None:
        """Sleep no more."""
        self._dozes = False
        self._soon.set()
