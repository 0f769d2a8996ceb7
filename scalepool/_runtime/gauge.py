"""How much memory a worker has, looked at a few times a second."""

from __future__ import annotations

from typing import Final

from scalepool._base.memory import private_bytes

__all__ = ["MemoryGauge"]

EVERY_S: Final = 0.25


class MemoryGauge:
    """Says when this process is larger than it should be.

    Parameters
    ----------
    limit_bytes
        How large it may be; 0: as large as it likes, and nothing is looked at.
    """

    __slots__ = ("_due_s", "_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._due_s = 0.0

    def excess(self, now: float) -> int:
        """Return the size where it is above the limit and worth another message, else 0."""
        if not self._limit_bytes or now < self._due_s:
            return 0
        self._due_s = now + EVERY_S
        size_bytes = private_bytes()
        return size_bytes if size_bytes > self._limit_bytes else 0
