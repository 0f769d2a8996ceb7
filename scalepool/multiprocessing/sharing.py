"""Which names make objects that processes share by inheritance."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["SHARED"]

SHARED: Final = frozenset(
    {
        "Array",
        "Barrier",
        "BoundedSemaphore",
        "Condition",
        "Event",
        "JoinableQueue",
        "Lock",
        "Queue",
        "RLock",
        "Semaphore",
        "SimpleQueue",
        "Value",
    }
)
"""Made in the ``spawn`` context they reach every worker, in the ``fork`` context only children of their maker."""
