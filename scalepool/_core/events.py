"""What can happen to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

__all__ = ["Event", "LaunchFailed", "Received", "Tick", "WorkerExited", "WorkerStarted"]


@dataclass(frozen=True, slots=True)
class Received:
    """A peer's message arrived; the shell has checked who it came from."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker process exists; it has not said Hello yet."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """A worker process could not be started."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker process is gone.

    ``running`` and ``records`` come from its flight record: the tasks it was in, outermost first, and the results
    that it had logged but that never arrived as a message.
    """

    worker: int
    exitcode: int | None
    running: tuple[int, ...] = ()
    records: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """An alarm that the hub asked for (``Hub.alarm_at``) is due."""


Event: TypeAlias = Received | WorkerStarted | LaunchFailed | WorkerExited | Tick
