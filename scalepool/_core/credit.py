"""How much work a worker should hold, as plain functions of numbers.

A worker that holds one task at a time idles for a round trip after each; one that holds hundreds hoards work that
others could do. So credit is counted in time: about fifteen milliseconds of work, whatever the length of a task. That
also outlasts the moments in which a busy driver cannot feed anybody, and a worker's results can wait five of them for
each other. What proves wrong afterwards (one task of a batch takes long) is corrected by recall.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["HOLD_S", "STALE_S", "depth", "enough", "recall_count", "share", "workers_wanted"]

HOLD_S: Final = 0.015
"""Work that a worker should hold, in seconds."""
STALE_S: Final = 0.003
"""A worker that reported nothing for so long sits in a task longer than its queue was planned for."""
_WORTH_RECALL_S: Final = 0.002
_WORTH_A_WORKER_S: Final = 0.005
_OVERHEAD_S: Final = 3e-6
"""What a task costs beside its own duration: bounds how many of the shortest a worker holds."""


def depth(mean_s: float | None) -> int:
    """Tasks that a worker should hold when each takes ``mean_s`` seconds (``None``: not known yet)."""
    if mean_s is None:
        return 1
    wanted = HOLD_S / (mean_s + _OVERHEAD_S)
    if wanted < 0.5:
        return 1
    return max(2, math.ceil(wanted))


def enough(mean_s: float | None) -> int:
    """Tasks of which a worker that holds so many gets no more: a message for a few costs as much as one for many."""
    wanted = depth(mean_s)
    return wanted - max(1, wanted // 4) + 1


def share(ready: int, candidates: int, room: int) -> int:
    """Tasks to give to the next of ``candidates`` workers, so that the last of them still gets its part."""
    return min(room, math.ceil(ready / candidates))


def workers_wanted(ready: int, mean_s: float | None) -> int:
    """Workers that ``ready`` waiting tasks are worth starting."""
    if mean_s is None:
        return ready
    return min(ready, math.ceil(ready * (mean_s + _OVERHEAD_S) / _WORTH_A_WORKER_S))


def recall_count(held: int, mean_s: float | None, silent_s: float) -> int:
    """Tasks that an idle worker should take from one that holds ``held`` and was silent for ``silent_s`` seconds.

    0 means not now: they are worth less than the message. One of those held is running and stays.
    """
    waiting = held - 1
    if waiting < 1:
        return 0
    if silent_s >= STALE_S:
        return waiting
    if waiting * (mean_s or 0.0) >= _WORTH_RECALL_S:
        return math.ceil(waiting / 2)
    return 0
