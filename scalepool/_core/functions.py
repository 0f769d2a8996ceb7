"""Which functions the hub holds, and which of them each worker has.

A function travels once per link. Both ends of a link keep the same number of functions and forget the one that was
used longest ago; since both see the same uses in the same order, neither has to tell the other what it forgot. A task
keeps its own reference, so forgetting a function never breaks a task that is on its way.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

__all__ = ["KEEP_FUNCTIONS", "FunctionRecord", "Recent"]

KEEP_FUNCTIONS: Final = 512
"""Functions that each end of a link remembers. Part of the protocol: both ends must use the same number."""

T = TypeVar("T")


class FunctionRecord:
    """A function by its hash: its pickle, and how long its calls take."""

    __slots__ = ("blob", "id", "mean_s")

    def __init__(self, function_id: int, blob: bytes) -> None:
        self.id = function_id
        self.blob = blob
        self.mean_s: float | None = None

    def note_durations(self, seconds: float, count: int) -> None:
        """Take ``count`` calls, which were measured to take ``seconds`` in all, into the moving average."""
        mean_s = seconds / count
        self.mean_s = mean_s if self.mean_s is None else mean_s + (self.mean_s - mean_s) * 0.8**count


class Recent(Generic[T]):
    """A mapping that keeps the ``KEEP_FUNCTIONS`` entries used last."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: OrderedDict[int, T] = OrderedDict()

    def use(self, key: int) -> T | None:
        """Return the entry and make it the newest; ``None`` when it is not (or no longer) there."""
        entries = self._entries
        found = entries.get(key)
        if found is not None:
            entries.move_to_end(key)
        return found

    def peek(self, key: int) -> T | None:
        """Return the entry, and leave the order as it is."""
        return self._entries.get(key)

    def add(self, key: int, value: T) -> None:
        """Add a new entry, forgetting the oldest one beyond the limit."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > KEEP_FUNCTIONS:
            self._entries.popitem(last=False)

    def values(self) -> list[T]:
        """All entries, the newest last."""
        return list(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)
