"""The workers that the hub knows, and who of them is idle."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

from scalepool._core.credit import depth
from scalepool._core.functions import Recent
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from scalepool._core.groups import Group
    from scalepool._core.objects import ObjectDirectory
    from scalepool._core.resources import Lease, Ledger
    from scalepool._core.task import Task
    from scalepool._wire.messages import Status

__all__ = ["LaunchTrouble", "Revocation", "Roster", "Wait", "Worker", "WorkerState"]


class WorkerState(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"  # ordered; its Hello has not come
    READY = "ready"
    LEAVING = "leaving"  # was told to exit, or will be when its last task ends
    KILLED = "killed"  # a signal is on its way


class Level:
    """Where tasks run inside of a worker: at its ground, or in a wait of one of its tasks; see ``leasing``."""

    __slots__ = ("lease",)

    def __init__(self) -> None:
        self.lease: Lease | None = None
        """What the tasks hold that run there."""


class Wait(Level):
    """One blocking wait of a worker's task: which tasks it waits for, and for which group it works meanwhile."""

    __slots__ = (
        "awaited",
        "began",
        "below",
        "group",
        "is_given_up",
        "is_whole",
        "label",
        "lends",
        "needed",
        "number",
        "task",
        "wanted",
        "wants",
    )

    def __init__(self, wanted: Sequence[int], below: Collection[int] = ()) -> None:
        super().__init__()
        self.wanted = deque(wanted)
        self.wants = wanted
        self.awaited: Sequence[int] = wanted
        """The same, but for some of that which has ended; ``wanted`` is what nobody was given yet."""
        self.lends = bool(wanted)
        """Whether its end can be seen from that: the worker goes on when all of it has ended."""
        self.below = frozenset(below)
        """What the worker held when the wait began: tasks that wait, now or further down, and some that have ended."""
        self.group: Group | None = None
        self.task = self.needed = self.number = self.began = 0
        """Which task waits, and for how many, as in Block; the how manieth wait of its worker, and of all, it is."""
        self.label = b""
        self.is_whole = False
        """Whether no call of the actor goes on meanwhile, not even one that has begun."""
        self.is_given_up = False
        """Whether who waits was told that it can never end."""


class Revocation:
    """How a worker stands to what is to be taken back from it; see ``revoking``.

    Attributes
    ----------
    asked_at
        Since when it owes an answer on tasks that it is to give back.
    answered_at
        When it last gave one.
    looked_at
        When somebody last looked whether it has begun anything.
    pending
        The number of the revocation that it has not answered yet; 0: none. Till then it gets nothing.
    judge_at
        When to look what it had begun before that.
    count
        How many there were.
    abandoned
        Tasks that have ended for their owners and may still run here, with the objects that they read.
    revoked_at
        When the last one was.
    is_stopped
        Whether the kernel said then that the process is stopped.
    taken
        Tasks that were taken back, and that it has not given back yet: each will come once, perhaps when it has been
        given the same one again.
    """

    __slots__ = (
        "abandoned",
        "answered_at",
        "asked_at",
        "count",
        "is_stopped",
        "judge_at",
        "looked_at",
        "pending",
        "revoked_at",
        "taken",
    )

    def __init__(self) -> None:
        self.asked_at: float | None = None
        self.answered_at = self.revoked_at = 0.0
        self.is_stopped = False
        self.looked_at = -1.0
        self.pending = 0
        self.judge_at: float | None = None
        self.count = 0
        self.abandoned: dict[int, Sequence[int]] = {}
        self.taken: set[int] = set()


class Worker(Level):
    """One worker process as the hub sees it."""

    __slots__ = (
        "assigned_total",
        "blocks",
        "condemned",
        "entered",
        "followers",
        "force_at",
        "forced",
        "gone_by",
        "gpus",
        "group",
        "guarded",
        "held",
        "hello_by",
        "host",
        "id",
        "idle_since",
        "is_actor",
        "key",
        "known",
        "ledger",
        "look_at",
        "lost",
        "lost_at",
        "max_rss",
        "max_tasks",
        "pid",
        "recalled",
        "received",
        "replaces",
        "reported_at",
        "revocation",
        "seen",
        "stalls",
        "started_for",
        "state",
        "waits",
        "worn",
    )

    force_at: float | None
    """When it is killed for good."""
    gone_by: float | None
    """By when a process that was sent SIGKILL should be gone."""
    hello_by: float | None
    """By when its initializer should be through."""
    look_at: float | None
    """When its flight record is to be looked into; see ``deadlines``."""

    def __init__(self, worker_id: int, group: Group) -> None:
        super().__init__()
        self.id = worker_id
        self.key = group.key
        self.is_actor = group.actor is not None
        self.max_tasks, self.max_rss = group.max_tasks, group.max_rss
        self.gpus: dict[int, int] = {}
        """The GPUs that its process uses for as long as it lives, and how much of each."""
        self.host = 0
        """The host of the cluster that it is on, once that is known; 0 where there is none."""
        self.ledger: Ledger | None = None
        """Where it is accounted for what it holds; see ``leasing``."""
        self.worn = False
        """Whether it is too large, and will leave when its successor is ready; see ``recycling``."""
        self.replaces = 0
        """The worker that it was started to replace; 0: none."""
        self.started_for: Group | None = group
        self.pid, self.state = 0, WorkerState.STARTING
        self.group: Group | None = None
        self.held: dict[int, Task] = {}
        self.known, self.entered = Recent[bool](), Recent[bool]()
        self.guarded: list[int] = []
        """Objects that tasks read which have ended here, and that it runs until it is killed."""
        self.followers: set[int] = set()
        """Tasks that it was given before what they need is there, and perhaps some that it holds no more."""
        self.assigned_total = self.received = self.blocks = 0  # tasks, results, waits that have begun
        self.lost: list[int] = []
        """Tasks that it says it finished, but whose results' objects cannot be had."""
        self.recalled = False
        self.reported_at = self.idle_since = self.lost_at = 0.0
        self.revocation = Revocation()
        self.force_at = self.gone_by = self.hello_by = self.look_at = None
        self.waits: list[Wait] = []
        self.stalls: dict[int, Wait] = {}
        """Waits of the threads of an actor, by the number that it has given them."""
        self.seen: dict[int, tuple[int, float]] = {}
        """Tasks with a time limit that it was seen in: at which item, and since when."""
        self.forced: set[int] = set()
        """Tasks that are to be stopped whether or not they have started."""
        self.condemned: dict[int, tuple[Status, int]] = {}
        """Tasks that it is being killed for: how they are to end, and the item that they were at."""

    def abandon(self, task: Task, objects: ObjectDirectory) -> None:
        """``task`` ends for its owner, and may go on here: what it reads keeps its contents for as long."""
        if task.references:
            objects.hold(self.id, task.references)
            self.revocation.abandoned[task.id] = task.references

    def gave_up(self, tasks: Iterable[int], objects: ObjectDirectory, held: Sequence[int]) -> list[tuple[int, int]]:
        """These tasks are over here, with views of ``held``; return what `ObjectDirectory.release` returns."""
        freed = []
        for task in tasks:
            for one in self.revocation.abandoned.pop(task, ()):
                if one not in held and not any(one in others for others in self.revocation.abandoned.values()):
                    freed.extend(objects.release(self.id, (one,)))
        return freed

    def forget(self, group: Group) -> None:
        """``group`` is no more."""
        if self.group is group:
            self.group = None
        for wait in self.waits:
            if wait.group is group:
                wait.group = None

    @property
    def serving(self) -> Group | None:
        """The group whose tasks it may get now: inside a wait, the one it works for in place."""
        return self.waits[-1].group if self.waits else self.group

    def has_work_of(self, group: Group) -> bool:
        """Whether it holds tasks of ``group`` that it can go on with: those that wait themselves do not count."""
        below = self.waits[-1].below if self.waits else ()
        return any(task.group is group and task.id not in below for task in self.held.values())

    @property
    def rests(self) -> bool:
        """Whether it has nothing to go on with but what waits itself."""
        below = self.waits[-1].below if self.waits else ()
        return all(task in below for task in self.held)

    def is_bound_to(self, group: Group) -> bool:
        """Whether it runs for ``group``, or will when some wait is over."""
        return self.group is group or any(wait.group is group for wait in self.waits)

    def runs_for(self, group: Group) -> bool:
        """Whether it runs, not waits, for ``group``."""
        return self.serving is group

    @property
    def takes_work(self) -> bool:
        """Whether it may be given tasks now."""
        return self.state is WorkerState.READY and not self.recalled and not self.revocation.pending

    def room(self, mean_s: float | None, least: int = 0) -> int:
        """How many more tasks of this mean duration it may be given; it should hold ``least`` of them."""
        if not self.takes_work:
            return 0
        wanted = max(depth(mean_s), least)
        # Tasks that wait for their children are held, too, but are no work.
        load = max(0, len(self.held) - len(self.waits))
        room = wanted - load
        if load and room < wanted // 4:
            return 0  # it has enough for now, and a message for a few tasks costs as much as one for many
        if self.max_tasks:
            room = min(room, self.max_tasks - self.assigned_total)
        return max(0, room)

    @property
    def used_up(self) -> bool:
        """Whether it was given all the tasks that it may run in its life."""
        return bool(self.max_tasks) and self.assigned_total >= self.max_tasks

    def __repr__(self) -> str:
        return f"<Worker {self.id} pid={self.pid} {self.state.value} held={len(self.held)} waits={len(self.waits)}>"


class LaunchTrouble:
    """Workers of one key that died before their Hello, in a row, and when to try the next one."""

    __slots__ = ("count", "retry_at")

    def __init__(self) -> None:
        self.count = 0
        self.retry_at = 0.0


class Roster:
    """All workers by id, and the idle ones by key, the one used last first: its memory is warm."""

    __slots__ = ("_idle", "workers")

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self._idle: dict[int, dict[int, Worker]] = {}

    def known(self, worker_id: int) -> Worker:
        """Return this worker.

        Raises
        ------
        ProtocolError
            When there is none.
        """
        worker = self.workers.get(worker_id)
        if worker is None:
            raise ProtocolError(f"peer {worker_id} is not a worker of this hub")
        return worker

    def add(self, worker: Worker) -> None:
        """Enter a worker that was ordered."""
        self.workers[worker.id] = worker

    def remove(self, worker_id: int) -> Worker | None:
        """Strike off a worker; return it if it was there."""
        worker = self.workers.pop(worker_id, None)
        if worker is not None:
            self.unidle(worker)
        return worker

    def idle(self, worker: Worker, now: float) -> None:
        """``worker`` has nothing to do and serves nobody."""
        worker.idle_since = now
        self._idle.setdefault(worker.key, {})[worker.id] = worker

    def unidle(self, worker: Worker) -> None:
        """``worker`` got something to do, or is leaving."""
        waiting = self._idle.get(worker.key)
        if waiting is not None:
            waiting.pop(worker.id, None)
            if not waiting:
                del self._idle[worker.key]

    def idle_of(self, key: int) -> list[Worker]:
        """The idle workers of this key, warmest first."""
        waiting = self._idle.get(key)
        return list(reversed(waiting.values())) if waiting else []

    def has_idle(self, key: int) -> bool:
        """Whether a worker of this key is idle."""
        return key in self._idle

    @property
    def any_idle(self) -> bool:
        """Whether some worker is idle; safe to ask from any thread."""
        return bool(self._idle)

    def all_idle(self) -> list[Worker]:
        """Every idle worker."""
        return [worker for waiting in self._idle.values() for worker in waiting.values()]

    def of_key(self, key: int) -> list[Worker]:
        """Every worker of this key that lives and stays."""
        return [
            worker
            for worker in self.workers.values()
            if worker.key == key and worker.state in (WorkerState.STARTING, WorkerState.READY)
        ]
