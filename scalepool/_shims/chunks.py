"""How a map is cut into tasks: the function that runs a chunk, and the sizes of the chunks.

`MapChunk` runs in the worker. It catches per item, so one failing item costs neither the finished results of its chunk
nor the items behind it. It notes which item it works on where that can be read after its process was killed: the chunk
then runs again without that item, which alone has failed.

`ChunkPlan` decides sizes in the caller. A chunk size that the user gave is kept exactly. Else chunks follow guided
self-scheduling, corrected by the measured time per item:

1. Nothing is known yet: single items. A chunk of fifteen-second tasks cannot be taken apart again.
2. The largest size that evidence allows grows sixteenfold with each measured generation, so a million no-ops still
   make a few tens of chunks only.
3. A chunk is a ``1 / (4 * workers)`` share of what is left, so sizes shrink towards the end and no worker gets a
   large chunk last. It is worth at least a millisecond (or messages cost more than the work) and at most a quarter
   of a second (or stragglers and progress suffer).

`ChunkPlan.window` says how many chunks may be outstanding: three per worker, and more while chunks are so short that
the workers would run dry during a round trip.

No clock, no threads, no I/O in this module.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from scalepool._base.tuples import NamedTuple
from scalepool._shims.outcomes import MISSING, Failure, LostItem, capture
from scalepool._wire.pickling.exceptions import ResultEncodingError, encode_result
from scalepool._wire.verdict import unpack_losses
from scalepool.api import item_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ChunkOutcomes", "ChunkPlan", "MapChunk", "Pace", "check_chunksize"]

SHARES_PER_WORKER = 4  # the original's own rule of thumb for map()
GROWTH = 16
SHORTEST_CHUNK_S = 0.001
LONGEST_CHUNK_S = 0.25
WINDOW_PER_WORKER = 3
WINDOW_WORTH_S = 0.02
LARGEST_WINDOW = 4096
WINDOW_BYTES = 4 << 20
_NEVER = 1 << 62


def check_chunksize(chunksize: Any) -> int:
    """Return a chunk size that the user gave, as an int.

    Raises
    ------
    ValueError
        Below 1, with the original's sentence. (The original's ``map`` takes 0 and returns a list of ``None``.)
    TypeError
        Not an integer.
    """
    size = operator.index(chunksize)
    if size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size}")
    return size


class ChunkOutcomes(NamedTuple):
    """Results of a chunk in which items failed.

    Parameters
    ----------
    values
        One entry per item; `MISSING` where it failed.
    failures
        Offset in the chunk and failure, ascending.
    """

    values: list[Any]
    failures: tuple[tuple[int, Failure | LostItem], ...]


class MapChunk:
    """A picklable function of a sequence of items that calls `fn` on each.

    Parameters
    ----------
    fn
        The user's function.
    star
        Each item is a tuple of arguments, as in ``starmap``.
    outcomes
        Catch per item and return `ChunkOutcomes` when some failed. Else the first exception ends the chunk.
    """

    __slots__ = ("_outcomes", "_star", "fn")

    def __init__(self, fn: Callable[..., Any], star: bool = False, outcomes: bool = True) -> None:
        self.fn = fn  # under this name the core finds the user's function, to name it in errors
        self._star = star
        self._outcomes = outcomes

    def __reduce__(self) -> tuple[type[MapChunk], tuple[Callable[..., Any], bool, bool]]:
        return type(self), (self.fn, self._star, self._outcomes)

    def __call__(self, items: Sequence[Any]) -> list[Any] | ChunkOutcomes:
        """Run every item. A plain list comes back when none failed: the common case pays for nothing."""
        fn, star = self.fn, self._star
        if not self._outcomes:
            return [fn(*item) if star else fn(item) for item in items]
        # A single item is its whole task: who died of it is known without a note.
        notes, index, packed = item_slot() if len(items) > 1 else ([0], 0, b"")
        lost = unpack_losses(packed) if packed else None
        values: list[Any] = []
        failures: list[tuple[int, Failure | LostItem]] = []
        append = values.append
        number = 0
        try:
            for item in items:
                number += 1
                if lost and number in lost:
                    failures.append((number - 1, LostItem(lost[number].status, lost[number].verdict)))
                    append(MISSING)
                    continue
                notes[index] = number
                try:
                    append(fn(*item) if star else fn(item))
                except BaseException as error:  # noqa: BLE001 - sys.exit() of a task is that task's error, too
                    failures.append((number - 1, capture(error)))
                    append(MISSING)
        finally:
            notes[index] = 0
        return ChunkOutcomes(values, tuple(failures)) if failures else values

    def salvage(self, result: list[Any] | ChunkOutcomes) -> ChunkOutcomes:
        """Return `result` with a failure in the place of each value that does not pickle.

        The worker calls this when it could not pickle the result, so that one such value fails alone.
        """
        outcomes = result if isinstance(result, ChunkOutcomes) else ChunkOutcomes(result, ())
        values = list(outcomes.values)
        failures: dict[int, Failure | LostItem] = dict(outcomes.failures)
        for offset, value in enumerate(values):
            try:
                encode_result(value, oob_threshold=_NEVER)
            except ResultEncodingError as error:
                failures[offset] = capture(error)
                values[offset] = MISSING
        return ChunkOutcomes(values, tuple(sorted(failures.items())))


class Pace:
    """Running estimate of the seconds that one item takes.

    A mean that forgets: recent measurements weigh more, so one slow first call (imports) is soon outgrown.
    """

    __slots__ = ("_bytes", "_items", "_seconds", "largest")

    def __init__(self) -> None:
        self._items = 0.0
        self._seconds = 0.0
        self._bytes = 0.0
        self.largest = 0  # items of the largest measured chunk

    def observe(self, items: int, duration_s: float | None, size_bytes: int = 0) -> None:
        """Take in that `items` took `duration_s` in the worker; ``None`` (not measured) counts as no evidence.

        Their results are `size_bytes` large, together.
        """
        if duration_s is None:
            return
        # Halving what is known before each measurement makes the weights 1, 1/2, 1/4... times the items behind them.
        self._items = self._items / 2 + items
        self._seconds = self._seconds / 2 + max(duration_s, 1e-9)
        self._bytes = self._bytes / 2 + size_bytes
        self.largest = max(self.largest, items)

    def items_worth(self, seconds: float) -> int:
        """How many items take `seconds`; 0 before the first measurement."""
        return int(seconds * self._items / self._seconds) if self._seconds else 0

    def items_in(self, size_bytes: int) -> int:
        """How many results fit into `size_bytes`; a great many before the first measurement."""
        return int(size_bytes * self._items / self._bytes) if self._bytes else _NEVER


class ChunkPlan:
    """Sizes of the chunks of one sized input, decided one at a time.

    Parameters
    ----------
    total
        Number of items.
    workers
        Number of workers that will run them.
    chunksize
        The user's chunk size; ``None`` lets the plan decide.
    """

    __slots__ = ("_chunksize", "_workers", "pace", "remaining")

    def __init__(self, total: int, workers: int, chunksize: int | None = None) -> None:
        self.remaining = total
        self.pace = Pace()
        self._workers = workers
        self._chunksize = chunksize

    def next_size(self) -> int:
        """Deal the next chunk and return its size; 0 when everything is dealt."""
        size = min(self._chunksize or self._guided(), self.remaining)
        self.remaining -= size
        return size

    def window(self) -> int:
        """Number of chunks that may be outstanding at once."""
        smallest = WINDOW_PER_WORKER * self._workers
        if self._chunksize is None:
            return smallest  # sizes adapt instead
        return window(self.pace, smallest, self._workers, self._chunksize)

    def _guided(self) -> int:
        if not self.pace.largest:
            return 1
        share = -(-self.remaining // (SHARES_PER_WORKER * self._workers))
        floor = self.pace.items_worth(SHORTEST_CHUNK_S)
        ceiling = min(self.pace.items_worth(LONGEST_CHUNK_S), GROWTH * self.pace.largest)
        return max(1, min(max(share, floor), ceiling))


def window(pace: Pace, smallest: int, workers: int, items_per_task: int = 1) -> int:
    """Return how many tasks may be outstanding: `smallest`, and more while the tasks are measured to be tiny."""
    worth = workers * pace.items_worth(WINDOW_WORTH_S) // items_per_task
    return max(smallest, min(worth, LARGEST_WINDOW))
