"""Connections to a head that came to nothing: port scanners, web browsers, half-open ones, other heads' peers.

libzmq tells of connections one event at a time, and names the connection (its descriptor) only when it is accepted and
when it ends; that somebody was let in comes without a name, and who does not even greet right gets no event of his own.
So what ends is told by what happened since it was accepted. In doubt it is taken for one of ours: this is for a log.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Newcomers"]

_TELL_EVERY_S: Final = 10.0


class Newcomers:
    """Counts those that were not let in for another reason than their key, and says when to tell of them."""

    def __init__(self) -> None:
        self._admitted = 0
        self._denied = 0
        self._open: dict[int, tuple[int, str]] = {}
        self._count = 0
        self._last = ""
        self._told_at = float("-inf")

    def accepted(self, fd: int, address: str) -> None:
        """A connection came to be; its descriptor names it until it ends."""
        self._open[fd] = (self._admitted, address)

    def admitted(self) -> None:
        """Somebody showed a key of the cluster."""
        self._admitted += 1

    def denied(self) -> None:
        """Somebody showed another key, which others tell of."""
        self._denied += 1

    def ended(self, fd: int) -> bool:
        """A connection ended; return whether it may have been one of ours."""
        before, address = self._open.pop(fd, (-1, ""))
        if before != self._admitted:
            return True  # somebody was let in meanwhile, and it may have been this one
        if self._denied:
            self._denied -= 1
            return False
        self._count += 1
        self._last = address or self._last  # which is not known where it ended at once
        return False

    def due(self, now_s: float) -> tuple[int, str] | None:
        """Return how many there were since the last time, and an address (the last known), if it is time to tell."""
        if not self._count or now_s < self._told_at + _TELL_EVERY_S:
            return None
        told = self._count, self._last
        self._count, self._last, self._told_at = 0, "", now_s
        return told
