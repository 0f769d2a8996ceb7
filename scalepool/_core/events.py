"""What can happen to the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._wire.messages import Message

__all__ = [
    "Event", "HostFacts", "HostsChanged", "Inspected", "LaunchFailed", "Move", "ObjectsLost", "Received",
    "ShareChanged", "Spilled", "Tick", "WorkerExited", "WorkerPlaced", "WorkerStarted",
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
    """A worker process could not be started; with ``is_moot`` for a reason that says nothing about the next one."""

    worker: int
    reason: str
    is_moot: bool = False


class WorkerExited(NamedTuple):
    """A worker process is gone.

    ``running`` and ``records`` come from its flight record: the tasks it was in, outermost first, and the results
    that it had logged but that never arrived as a message. ``items`` are the items of their inputs that those tasks
    worked on, counted from 1, 0 where nothing is known. ``objects`` are the objects of the results in ``records``, as
    in ``Done``, zeros for those that could not be saved. ``report`` is what else could be found out about its end;
    it goes unread to the owners of the tasks that it ran. ``reason`` says why it ended, where nobody could look, or it
    was not its own doing. With ``is_moot`` it says nothing about other workers of its sort: its host has left.
    """

    worker: int
    exitcode: int | None
    running: tuple[int, ...] = ()
    records: tuple[bytes, ...] = ()
    items: tuple[int, ...] = ()
    report: bytes = b""
    objects: Sequence[int] = ()
    reason: str = ""
    is_moot: bool = False


class Inspected(NamedTuple):
    """What a living worker's flight record says: the tasks that it is in, and the items that they work on.

    The answer to the command Inspect. ``records`` are the results that it has logged and that have not arrived; looked
    up only where the command named a ``revocation``, and after ``running`` was. Only then is ``is_stopped`` looked up:
    whether the kernel calls the process stopped (SIGSTOP, a debugger), not merely slow.
    """

    worker: int
    running: tuple[int, ...]
    items: tuple[int, ...]
    revocation: int = 0
    records: tuple[bytes, ...] = ()
    is_stopped: bool = False


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


class HostFacts(NamedTuple):
    """A host of the cluster: what it has, in units by name, its labels among them."""

    number: int
    name: str
    slots: int
    amounts: Mapping[str, int]
    leaving: int = 0
    """1: it will leave, and gets nothing new; 2: what is still there ends now."""


class HostsChanged(NamedTuple):
    """These are all the hosts of the cluster now."""

    hosts: tuple[HostFacts, ...]


class WorkerPlaced(NamedTuple):
    """It was decided which host a worker is started on."""

    worker: int
    host: int


class Move(NamedTuple):
    """So many workers would be better placed on ``target`` than on ``source``."""

    source: int
    target: int
    workers: int


class ShareChanged(NamedTuple):
    """So many workers may be at work, since other programs want some, too; 0: any number."""

    workers: int


class Tick(NamedTuple):
    """An alarm that the hub asked for (``Hub.alarm_at``) is due."""


Event: TypeAlias = (
    Received | WorkerStarted | LaunchFailed | WorkerExited | Inspected | Spilled | ObjectsLost | HostsChanged
    | WorkerPlaced | Move | ShareChanged | Tick
)  # fmt: skip
