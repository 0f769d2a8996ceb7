"""Whether tasks are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._runtime.futures import TaskFuture

__all__ = ["AllOver", "SomeOver"]


class AllOver:
    """Whether all of some futures are over; looks at each only until it is."""

    __slots__ = ("_at", "_futures")

    def __init__(self, futures: Sequence[TaskFuture]) -> None:
        self._futures = futures
        self._at = 0

    def needed(self, tasks: int) -> int:
        """Return how many of so many tasks have to end: all."""
        return tasks

    def __call__(self) -> bool:
        futures = self._futures
        while self._at < len(futures):
            if not futures[self._at].is_over:
                return False
            self._at += 1
        return True


class SomeOver:
    """Whether at least ``number`` of some futures are over."""

    __slots__ = ("_futures", "_number")

    def __init__(self, futures: Sequence[TaskFuture], number: int) -> None:
        self._futures = futures
        self._number = number

    def __call__(self) -> bool:
        return sum(future.is_over for future in self._futures) >= self._number
