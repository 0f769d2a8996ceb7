"""The hub's tables in one place, for the parts of the hub that decide on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.objects import ObjectDirectory
from scalepool._core.outbox import Outbox
from scalepool._core.resources import summed
from scalepool._core.values import ValueTable
from scalepool._core.workers import Roster

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from scalepool._core.events import HostFacts
    from scalepool._core.functions import FunctionRecord, Recent
    from scalepool._core.groups import Group
    from scalepool._core.leasing import Books
    from scalepool._core.streams import Stream
    from scalepool._core.task import KeptTask, Task
    from scalepool._core.workers import LaunchTrouble

__all__ = ["HubState"]


class HubState:
    """Everything that the hub remembers."""

    __slots__ = (
        "alarm_at",
        "books",
        "capacity",
        "circles_at",
        "copies",
        "followers",
        "functions",
        "groups",
        "has_cancels",
        "has_limits",
        "hosts",
        "idle_worker_s",
        "names",
        "next_worker",
        "now",
        "objects",
        "out",
        "ready",
        "roster",
        "share",
        "streams",
        "tasks",
        "trouble",
        "values",
        "waits_begun",
        "watchers",
    )

    def __init__(self, idle_worker_s: float) -> None:
        self.idle_worker_s = idle_worker_s
        self.tasks: dict[int, Task] = {}
        self.groups: dict[int, Group] = {}
        self.ready: dict[int, Group] = {}
        """Groups with queued tasks."""
        self.names: dict[bytes, int] = {}
        """Actors that have a name."""
        self.roster = Roster()
        self.functions: dict[int, Recent[FunctionRecord]] = {}
        """Per submitting peer, what it has sent and may refer to."""
        self.objects = ObjectDirectory()
        self.values = ValueTable()
        self.values.busy = self._is_busy
        self.followers: list[KeptTask] = []
        """Tasks that may be given to a worker before what they need is there; see ``following``."""
        self.streams: dict[int, Stream] = {}
        """By the task that makes it."""
        self.out = Outbox(self.objects, self.values)
        self.trouble: dict[int, LaunchTrouble] = {}
        """Per worker key: what happened to workers that died before they said Hello."""
        self.has_cancels = self.has_limits = False
        """Whether a task that a worker has was ever to be cancelled, and whether one has a time limit: else nobody
        looks for one."""
        self.capacity: Callable[[], Mapping[str, int]] = dict
        """Returns what the session has, in units by name; asked when the first group wants some of it."""
        self.books: Books | None = None
        self.hosts: dict[int, HostFacts] | None = None
        """The hosts of the cluster, by number; ``None``: there is no cluster."""
        self.copies: Mapping[int, Collection[int]] = {}
        """By object: the hosts of the cluster that have it, or have asked for it. Others change it between events."""
        self.share = 0
        """How many workers may be at work, since other programs want some, too; 0: any number. See ``sharing``."""
        self.watchers: set[int] = set()
        """Workers that want to be told of the end of others."""
        self.circles_at: float | None = None
        """When to look for waits that can never end; see ``deadlocks``."""
        self.waits_begun = 0
        self.next_worker = 1
        self.now = 0.0
        self.alarm_at: float | None = None

    def _is_busy(self, actor: int) -> bool:
        group = self.groups.get(actor)
        return group is not None and group.unfinished > 0

    def each_host(self) -> list[tuple[int, Mapping[str, int]]]:
        """Return what each host has that stays, in units by name."""
        if self.hosts is None:
            return [(0, self.capacity())]
        return [(number, host.amounts) for number, host in self.hosts.items() if not host.leaving]

    def free_resources(self) -> Mapping[str, int]:
        """Return what nobody holds, in units by name."""
        if self.books is not None:
            return self.books.free()
        if self.hosts is None:
            return self.capacity()
        return summed(host.amounts for host in self.hosts.values() if not host.leaving)

    def alarm(self, at: float) -> None:
        """Ask for a Tick at ``at`` (or earlier)."""
        if self.alarm_at is None or at < self.alarm_at:
            self.alarm_at = at
