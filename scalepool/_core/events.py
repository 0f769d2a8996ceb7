"""What can happen to the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._wire.messages import Message

__all__ = [
    "Event", "Inspected", "LaunchFailed", "ObjectsLost", "Received", "Spilled", "Tick", "WorkerExited", "WorkerStarted",
]  # fmt: skip


class Received(NamedTuple):
    """A peer's message arrived; the shell has checked who it came from."""

    peer: int
    message: Message


class WorkerStarted(NamedTuple):
    """A worker process exists; it has not said Hello yet."""

    worker: int
    pid: int


class LaunchFailed(NamedTuple):
    """A worker process could not be started."""

    worker: int
    reason: str


class WorkerExited(NamedTuple):
    """A worker process is gone.

    ``running`` and ``records`` come from its flight record: the tasks it was in, outermost first, and the results
    that it had logged but that never arrived as a message. ``items`` are the items of their inputs that those tasks
    worked on, counted from 1, 0 where nothing is known. ``objects`` are the objects of the results in ``records``, as
    in ``Done``, zeros for those that could not be saved. ``report`` is what else could be found out about its end;
    it goes unread to the owners of the tasks that it ran. ``reason`` says why it ended, where nobody could look.
    """

    worker: int
    exitcode: int | None
    running: tuple[int, ...] = ()
    records: tuple[bytes, ...] = ()
    items: tuple[int, ...] = ()
    report: bytes = b""
    objects: Sequence[int] = ()
    reason: str = ""


class Inspected(NamedTuple):
    """What a living worker's flight record says: the tasks that it is in, and the items that they work on.

    The answer to the command Inspect. ``records`` are the results that it has logged and that have not arrived; looked
    up only where the command named a ``revocation``, and after ``running`` was.
    """

    worker: int
    running: tuple[int, ...]
    items: tuple[int, ...]
    revocation: int = 0
    records: tuple[bytes, ...] = ()


class Spilled(NamedTuple):
    """What became of objects that Spill commands named: these are on the disk now.

    ``failed`` could not be written, for lack of room; ``read`` were not, since the hub's host reads them. They are
    where they were. What is in none of the three is still on its way.
    """

    objects: tuple[int, ...]
    failed: tuple[int, ...] = ()
    read: tuple[int, ...] = ()


class ObjectsLost(NamedTuple):
    """Nobody can read these objects any more: the host that they were on is gone, or a disk is damaged."""

    objects: tuple[int, ...]


class Tick(NamedTuple):
    """An alarm that the hub asked for (``Hub.alarm_at``) is due."""


Event: TypeAlias = Received | WorkerStarted | LaunchFailed | WorkerExited | Inspected | Spilled | ObjectsLost | Tick
