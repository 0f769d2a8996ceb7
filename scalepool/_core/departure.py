"""When a host leaves its cluster: because somebody says so, or nobody needs it, or its time is over.

Pure; an agent asks it, again and again.
"""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple

__all__ = ["Departure", "Stay"]


class Stay(NamedTuple):
    """How long a host stays.

    Attributes
    ----------
    drain_s
        How long what runs there may go on once it is to leave.
    idle_s
        It leaves after so long without workers; ``None``: it does not.
    lifetime_s
        It leaves so long after it has joined; ``None``: it does not.
    """

    drain_s: float = 30.0
    idle_s: float | None = None
    lifetime_s: float | None = None


class Departure:
    """Follows one host.

    Parameters
    ----------
    stay
        How long it stays.
    now
        When it joined, in seconds.
    """

    __slots__ = ("_busy_at", "_joined_at", "_stay", "is_asked")

    def __init__(self, stay: Stay, now: float) -> None:
        self._stay = stay
        self._joined_at = self._busy_at = now
        self.is_asked = False
        """Whether somebody has said that it is to leave."""

    def reason(self, now: float, workers: int) -> str:
        """Return why it is to leave, with so many workers; empty: it stays."""
        if workers:
            self._busy_at = now
        if self.is_asked:
            return "it was told to end"
        idle_s, lifetime_s = self._stay.idle_s, self._stay.lifetime_s
        if lifetime_s is not None and now - self._joined_at >= lifetime_s:
            return f"its {lifetime_s:g} seconds are over"
        if idle_s is not None and now - self._busy_at >= idle_s:
            return f"nobody has had workers here for {idle_s:g} seconds"
        return ""
