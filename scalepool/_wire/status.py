"""Numbers that messages carry: how a task ended, how a group is closed."""

from __future__ import annotations

import enum

__all__ = ["CloseMode", "Status"]


class Status(enum.IntEnum):
    """How a task ended."""

    VALUE = 0
    ERROR = 1  # payload: the encoded exception
    CANCELLED = 2  # payload: empty
    WORKER_DIED = 3  # payload: see _wire.verdict
    INITIALIZER_FAILED = 4  # payload: the encoded exception of the initializer
    TIMED_OUT = 5  # payload: see _wire.verdict
    INITIALIZER_TIMED_OUT = 6  # payload: see _wire.verdict
    LOST = 7  # only of values. payload: empty. Nobody knows this value (any more)
    ACTOR_DIED = 8  # payload: see _wire.verdict. The actor is no more
    ACTOR_UNAVAILABLE = 9  # payload: see _wire.verdict. The actor begins anew, this call does not


class CloseMode(enum.IntEnum):
    """What becomes of a group's unfinished tasks."""

    DRAIN = 0
    TERMINATE = 1
    KILL = 2
