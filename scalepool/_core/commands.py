"""What the hub may order its shell to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

__all__ = ["Command", "Drop", "KillWorker", "Note", "Send", "StartWorker"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` to ``peer``."""

    peer: int
    message: Message


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker process. ``spec`` is what the group's owner wants it to be; opaque to the hub."""

    worker: int
    spec: bytes


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill a worker and its children; with ``force`` by a signal that cannot be caught."""

    worker: int
    force: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Let go of what the shell keeps for these objects on behalf of their owner."""

    objects: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person may want to know."""

    text: str


Command: TypeAlias = Send | StartWorker | KillWorker | Drop | Note
