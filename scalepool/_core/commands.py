"""What the hub may order its shell to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

__all__ = ["Command", "Drop", "Inspect", "KillWorker", "Note", "Revoke", "Send", "Spill", "StartWorker"]


class Send(NamedTuple):
    """Send ``message`` to ``peer``."""

    peer: int
    message: Message


class StartWorker(NamedTuple):
    """Start a worker process. ``spec`` is what the group's owner wants it to be; opaque to the hub.

    ``gpus`` are the numbers of those that it may use, where its group asks for some; ``objects`` describes those that
    the spec needs, four integers each. ``host`` is the one to start it on, where what it needs is on hosts; 0: any.
    """

    worker: int
    spec: bytes
    gpus: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()
    host: int = 0


class KillWorker(NamedTuple):
    """Kill a worker and its children; with ``force`` by a signal that cannot be caught."""

    worker: int
    force: bool


class Inspect(NamedTuple):
    """Look into a worker's flight record and say what it does; answered by the event Inspected.

    ``revocation`` is passed on to the answer. With one, the answer tells of finished tasks, too.
    """

    worker: int
    revocation: int = 0


class Revoke(NamedTuple):
    """Write this number into a worker's flight record: what it holds and has not begun it must not begin."""

    worker: int
    number: int


class Drop(NamedTuple):
    """Let go of what the shell keeps for these objects on behalf of their owner."""

    objects: tuple[int, ...]


class Spill(NamedTuple):
    """Move these objects from memory to disk, one after the other, while all else goes on.

    Each is answered for in a Spilled, sooner or later.
    """

    objects: tuple[int, ...]


class Note(NamedTuple):
    """Something a person may want to know."""

    text: str


Command: TypeAlias = Send | StartWorker | KillWorker | Inspect | Revoke | Drop | Spill | Note
