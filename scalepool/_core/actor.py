"""What the hub remembers of one actor, and the order in which its callers' calls may start.

An actor is a private group with one worker. The first task of the group makes the object there; every other one is a
call of one of its methods. A handle is a reference to the actor's value, which is there from the beginning on, so
handles are counted as references are, and an actor without any ends like a group that is closed.

Calls of one *caller*, that is of one task of a peer, start in the order in which they were submitted. So a call that
waits for one of its arguments holds up those behind it, but nobody else's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scalepool._core.task import KeptTask, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._core.functions import FunctionRecord
    from scalepool._core.groups import Group
    from scalepool._core.workers import Worker
    from scalepool._wire.actors import OpenActor

__all__ = ["Actor", "ActorTask", "CreationTask"]


class CreationTask(KeptTask):
    """The task that makes an actor's object. It makes no value that anybody could need."""

    __slots__ = ()

    @property
    def values(self) -> range:
        """None."""
        return range(0)

    def again(self) -> CreationTask:
        """Return the same task for the next life of the actor; all that it needs is there."""
        task = CreationTask(self.id, self.group, self.function, self.payload, self.references)
        task.returns = self.returns
        task.needs = self.needs
        task.parent = self.parent
        task.terms = self.terms
        task.attempt = self.attempt % 60_000 + 1  # a record of a result has two bytes for it
        return task


class ActorTask(KeptTask):
    """A call of an actor's method; ``caller`` is the peer that submitted it."""

    __slots__ = ("caller",)

    def __init__(
        self, task_id: int, group: Group, function: FunctionRecord, payload: bytes, references: Sequence[int]
    ) -> None:
        super().__init__(task_id, group, function, payload, references)
        self.caller = 0

    @property
    def owner(self) -> int:
        """The peer that submitted it: any number of peers may have handles."""
        return self.caller

    @property
    def lane(self) -> tuple[int, int]:
        """Who must see it start in order: a task that runs inside of another one in the same peer is not that one."""
        return self.caller, self.parent


class Actor:
    """One actor: counts, and its callers' calls that may not start yet."""

    __slots__ = (
        "concurrency",
        "created",
        "creation",
        "detached",
        "group",
        "home",
        "label",
        "lanes",
        "meta",
        "name",
        "opener",
        "pid",
        "restarts",
        "restarts_left",
        "stumbles",
        "template",
        "told",
        "worker",
    )

    def __init__(self, opened: OpenActor, opener: int, home: int) -> None:
        self.group: Group
        self.opener = opener
        self.home = home
        self.restarts_left = opened.max_restarts
        self.restarts = 0
        self.stumbles = 0
        """How many of its latest processes died while they made the object."""
        self.concurrency = max(1, opened.concurrency)
        self.detached = bool(opened.detached)
        self.name = opened.name
        self.label = opened.label
        self.meta = opened.meta
        self.creation: CreationTask | None = None
        """The task that makes the object, of this life of the actor."""
        self.template: CreationTask | None = None
        """That task after its end, if it may have to run again: what it needs stays pinned."""
        self.created = False
        self.told = False
        """Whether the opener knows how the creation ended."""
        self.worker: Worker | None = None
        self.pid = 0
        """Of the latest process."""
        self.lanes: dict[tuple[int, int], deque[ActorTask]] = {}
        """Of each caller with a call that waits for an argument: that call and all behind it."""

    @property
    def wants_worker(self) -> bool:
        """Whether there is something to do, and no process that could."""
        return self.worker is None and not self._is_waiting

    @property
    def _is_waiting(self) -> bool:
        """Whether the object cannot be made yet."""
        return self.creation is None or self.creation.state is TaskState.WAITING

    def candidates(self) -> list[tuple[Worker, int]]:
        """Return who may get calls now, and how many: its worker, unless that waits for something else."""
        worker = self.worker
        if worker is None or worker.waits or self._is_waiting:
            return []
        # One that runs several at once must never have less to do than it can.
        least = 1 if self.concurrency == 1 else self.concurrency + self.concurrency // 3 + 1
        room = worker.room(self.group.ready[0].function.mean_s, least)
        return [(worker, room)] if room else []

    # ---- the order of calls ----

    def line_up(self, task: ActorTask) -> bool:
        """Put a new call behind those of its caller that wait; False when there are none."""
        lane = self.lanes.get(task.lane)
        if lane is None:
            return False
        lane.append(task)
        return True

    def hold_up(self, task: ActorTask) -> None:
        """A new call waits for its arguments, the first of its caller that does."""
        self.lanes[task.lane] = deque((task,))

    def step_back(self, task: ActorTask) -> None:
        """A call that might have started waits again; it comes before those of its caller that were made later."""
        lane = self.lanes.get(task.lane, ())
        self.lanes[task.lane] = deque(sorted({*lane, task}, key=lambda one: one.id))

    def advance(self, lane: tuple[int, int]) -> Iterator[ActorTask]:
        """Take those calls of a caller that may start now, in order."""
        waiting = self.lanes.get(lane)
        while waiting:
            head = waiting[0]
            if head.state is TaskState.WAITING:
                if head.unmet:
                    return
                waiting.popleft()
                yield head
            else:
                waiting.popleft()  # it has ended otherwise
        self.lanes.pop(lane, None)

    def __repr__(self) -> str:
        return f"<Actor {self.label.decode()} of {self.group} created={self.created} restarts={self.restarts}>"
