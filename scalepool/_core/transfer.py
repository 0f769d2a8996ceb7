"""An object that comes over a link in chunks: what to ask for next, so that the link is busy and memory bounded."""

from __future__ import annotations

from typing import Final

from scalepool.errors import ProtocolError

__all__ = ["CHUNK_BYTES", "WINDOW", "Transfer"]

CHUNK_BYTES: Final = 1 << 20
WINDOW: Final = 8
"""Chunks that are asked for and have not come."""


class Transfer:
    """One object on its way.

    Parameters
    ----------
    size_bytes
        How long it is.
    chunk_bytes, window
        How much to ask for at once, and how often before the first has come.
    there_bytes
        How much of it is there already, from its start.
    """

    __slots__ = ("_chunk_bytes", "_due", "_next", "_window", "size_bytes")

    def __init__(
        self, size_bytes: int, chunk_bytes: int = CHUNK_BYTES, window: int = WINDOW, there_bytes: int = 0
    ) -> None:
        self.size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._window = window
        self._next = there_bytes
        self._due: dict[int, int] = {}

    def requests(self) -> list[tuple[int, int]]:
        """Return what to ask for now, as (offset, size) in bytes."""
        wanted = []
        while self._next < self.size_bytes and len(self._due) < self._window:
            size = min(self._chunk_bytes, self.size_bytes - self._next)
            self._due[self._next] = size
            wanted.append((self._next, size))
            self._next += size
        return wanted

    def arrived(self, offset: int, size_bytes: int) -> None:
        """A chunk is there.

        Raises
        ------
        ProtocolError
            When nobody asked for it.
        """
        if self._due.get(offset) != size_bytes:
            raise ProtocolError(f"{size_bytes} bytes at {offset} of an object came that nobody had asked for")
        del self._due[offset]

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return not self._due and self._next >= self.size_bytes
