"""How far a lazily read input may be ahead of its consumer: arithmetic only.

The feeder alone advances ``pulled`` and the consumer alone advances ``consumed``, so the feeder needs no lock to see
how much room there is: it can only grow under its hands.
"""

from __future__ import annotations

from scalepool._shims.chunks import LARGEST_WINDOW, SHARES_PER_WORKER, WINDOW_BYTES, WINDOW_WORTH_S, Pace

__all__ = ["ReadAhead"]


class ReadAhead:
    """The window of items that are pulled and not yet consumed.

    Parameters
    ----------
    buffersize
        Size of the window, exactly; ``None`` adapts: four chunks per worker, and more (a few thousand items at most)
        while all of the window is worth less than 20 ms of measured work and its results take less than 4 MB.
    workers
        Number of workers.
    chunksize
        Items that are pulled at a time.
    """

    __slots__ = ("_buffersize", "_chunksize", "_workers", "consumed", "pace", "pulled")

    def __init__(self, buffersize: int | None, workers: int, chunksize: int) -> None:
        self.pace = Pace()
        self.pulled = 0
        self.consumed = 0
        self._buffersize = buffersize
        self._workers = workers
        self._chunksize = chunksize

    @property
    def limit(self) -> int:
        """Size of the window now."""
        if self._buffersize is not None:
            return self._buffersize
        pace = self.pace
        worth = min(self._workers * pace.items_worth(WINDOW_WORTH_S), pace.items_in(WINDOW_BYTES), LARGEST_WINDOW)
        return max(SHARES_PER_WORKER * self._workers * self._chunksize, worth)

    def chunks_of_room(self) -> int:
        """How many chunks may be pulled now. One always may when nothing is ahead, however small the window."""
        ahead = self.pulled - self.consumed
        return max((self.limit - ahead) // self._chunksize, 1 if ahead <= 0 else 0)

    def may_resume(self) -> bool:
        """Whether a waiting feeder should go on: for a quarter of the window at least, one switch for many items."""
        ahead = self.pulled - self.consumed
        limit = self.limit
        return ahead <= 0 or ahead + self._chunksize <= limit - limit // 4
