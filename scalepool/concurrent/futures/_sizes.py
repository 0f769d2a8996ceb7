"""Chunk sizes for ``Executor.map``: of a known number of inputs, or of inputs without end. Pure."""

from __future__ import annotations

from typing import Final

from scalepool._shims.chunks import ChunkPlan, Pace

__all__ = ["OpenSizes", "PlannedSizes", "Sizes"]

#: Chunks per worker that inputs may be read ahead of the results that were read.
AHEAD_PER_WORKER: Final = 4
#: Chunks per worker in hand: one that runs, and enough waiting that no worker waits for the feeder.
OUT_PER_WORKER: Final = 3
#: A chunk of an open input is worth this long: messages cost little beside it, and the reader waits little for it.
OPEN_CHUNK_S: Final = 0.01
#: How much larger than the largest measured chunk the next may be: one slow input may hide behind quick ones.
OPEN_GROWTH: Final = 4
#: A chunk of an open input never holds more: inputs may be large, and nobody knows how many are wanted.
OPEN_ITEMS: Final = 256


class OpenSizes:
    """Sizes for an input whose length nobody knows.

    Parameters
    ----------
    workers
        Number of workers that will run the chunks.
    chunksize
        The user's own size; None lets the measured time per item decide.
    """

    def __init__(self, workers: int, chunksize: int | None) -> None:
        self._workers = workers
        self._chunksize = chunksize
        self._pace = Pace()

    def next_size(self) -> int:
        """Return how many inputs the next chunk holds."""
        if self._chunksize is not None:
            return self._chunksize
        grown = min(OPEN_GROWTH * self._pace.largest, OPEN_ITEMS)
        return max(1, min(self._pace.items_worth(OPEN_CHUNK_S), grown))

    def observe(self, items: int, duration_s: float | None) -> None:
        """Take in how long a chunk took in the worker."""
        self._pace.observe(items, duration_s)

    def window(self) -> int:
        """Return how many chunks may be out at once."""
        return OUT_PER_WORKER * self._workers

    def items_ahead(self, size: int) -> int:
        """Return how many inputs may be read ahead of the results that were read, when a chunk holds `size`."""
        return AHEAD_PER_WORKER * self._workers * size


class PlannedSizes(OpenSizes):
    """Sizes for a known number of inputs; they shrink towards the end, so that all workers end together."""

    def __init__(self, workers: int, chunksize: int | None, total: int) -> None:
        super().__init__(workers, chunksize)
        self._plan = ChunkPlan(total, workers, chunksize)

    def next_size(self) -> int:
        """Return how many inputs the next chunk holds; 0 when all are dealt."""
        return self._plan.next_size()

    def observe(self, items: int, duration_s: float | None) -> None:
        """Take in how long a chunk took in the worker."""
        self._plan.pace.observe(items, duration_s)

    def window(self) -> int:
        """Return how many chunks may be out at once."""
        return self._plan.window()


Sizes = OpenSizes
