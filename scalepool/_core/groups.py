"""A group: one client's view on the workers, with a cap on how many it uses at once.

A Pool or an Executor is a group. Groups form trees: a group opened inside a task is a child of that task's group, and
the tree together gives work to no more workers than its root's cap, because a task that waits for its children lends
them its slot. (When its wait is over it goes on at once, so for a while the tree may be one above its cap for each such
task; no other worker gets work until it is below.) Two rules keep that from ever becoming a deadlock: a group below the
root with ready tasks may always run one, and a tree that makes no progress for ``STARVED_S`` seconds may start one task
more (some task waits for another in a way that we cannot see: a queue, an event, a file).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from scalepool._core.task import Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.actor import Actor
    from scalepool._core.leasing import Books
    from scalepool._core.resources import Demand
    from scalepool._core.workers import Worker
    from scalepool._wire.messages import CloseMode, OpenGroup, Status

__all__ = ["STARVED_S", "Group"]

STARVED_S: Final = 1.0


class Group:
    """Counts and queues of one group."""

    __slots__ = (
        "actor",
        "assigned",
        "books",
        "cap",
        "children",
        "closing",
        "demand",
        "depth",
        "elastic",
        "failure",
        "gpus",
        "grow_at",
        "hostless_since",
        "id",
        "initializer_s",
        "key",
        "lease",
        "look_at",
        "max_rss",
        "max_tasks",
        "moved_at",
        "owner",
        "parent",
        "private",
        "queued",
        "ready",
        "references",
        "root",
        "short_since",
        "spec",
        "started_min",
        "starting",
        "waiting",
        "warned",
        "workers",
    )

    short_since: float | None
    """Since when not even one of its tasks can run for lack of resources."""
    hostless_since: float | None
    """Since when it waits for the cluster to have a host."""

    def __init__(self, opened: OpenGroup, owner: int, parent: Group | None) -> None:
        self.id, self.owner = opened.group, owner
        self.actor: Actor | None = None
        """The actor whose calls these are; see ``actor``."""
        self.cap = max(1, opened.cap)
        self.elastic = bool(opened.elastic)
        """Whether the cap is that of the cluster."""
        self.private = bool(opened.private)
        # Workers of a private group serve nobody else, so they are kept under a key that no other group has.
        self.key = -opened.group if self.private else opened.kind
        self.max_tasks = opened.max_tasks if self.private else 0
        self.initializer_s = opened.initializer_ms * 1e-3 if self.private else 0.0
        self.max_rss, self.spec, self.lease = opened.max_rss, opened.spec, opened.lease
        self.references = opened.references
        """Objects and values that the spec needs, pinned as long as workers may start; see ``Intake``."""
        self.parent = parent
        self.root: Group = parent.root if parent else self
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[int, Group] = {}
        if parent:
            parent.children[self.id] = self
        self.ready: deque[Task] = deque()
        self.queued = self.assigned = self.waiting = 0  # tasks
        self.starting = self.started_min = 0  # workers
        self.workers: dict[int, Worker] = {}
        self.closing: CloseMode | None = None
        self.failure: tuple[Status, bytes] | None = None
        self.moved_at = 0.0
        """When a task of the tree was last assigned or ended; only roots count."""
        self.grow_at = 0.0
        """Not before then are workers started for it."""
        self.books: Books | None = None
        """Where its workers' resources are accounted for; ``None``: nowhere, its cap alone counts."""
        self.demand: Demand
        self.gpus = 0
        """Units of GPUs that each of its workers has."""
        self.short_since = self.hostless_since = None
        self.warned = False
        """Whether the user was told of that."""
        self.look_at = 0.0
        """Not before then is it worth looking again for tasks that are stuck behind a long one."""

    # ---- the ready queue ----

    def push(self, tasks: Sequence[Task]) -> None:
        """Queue new tasks at the end."""
        self.ready.extend(tasks)
        self.queued += len(tasks)

    def push_front(self, task: Task) -> None:
        """Queue a task that came back, before all others."""
        self.ready.appendleft(task)
        self.queued += 1

    def first(self) -> Task:
        """Return the next queued task, of which there must be one; it stays where it is."""
        ready = self.ready
        while ready[0].state is not TaskState.QUEUED:  # see ``assign``
            ready.popleft()
        return ready[0]

    def assign(self, count: int, worker: int) -> list[Task]:
        """Take the next ``count`` queued tasks, of which there must be so many, for the worker with this id."""
        taken: list[Task] = []
        popleft, queued, assigned = self.ready.popleft, TaskState.QUEUED, TaskState.ASSIGNED
        while len(taken) < count:
            # A task that left the queue by another way (in place, cancelled) is still in the deque, and one that came
            # back after that is in it twice: its state tells.
            task = popleft()
            if task.state is queued:
                task.state, task.worker = assigned, worker  # as ``move`` does: from queued it may go anywhere
                taken.append(task)
        self.queued -= count
        self.assigned += count
        return taken

    def forget_queued(self) -> None:
        """One queued task left by another way than ``assign``."""
        self.queued -= 1
        if not self.queued:
            self.ready.clear()

    # ---- slots ----

    def active(self) -> int:
        """Workers that run a task of this group now; one that waits for its children does not count."""
        serving = [worker.waits[-1].group if worker.waits else worker.group for worker in self.workers.values()]
        return serving.count(self)

    def tree_active(self) -> int:
        """Workers that run a task of this group or of a group below it."""
        below = [child.tree_active() for child in self.children.values() if child.workers or child.children]
        return self.active() + sum(below)

    def tree_starting(self) -> int:
        """Workers that were ordered for this group or one below it and are not there yet."""
        return self.starting + sum(child.tree_starting() for child in self.children.values())

    def free_slots(self, now: float) -> int:
        """How many more workers may run tasks of this group at once."""
        if self.books is not None:
            return self.books.slots(self, now)
        active = self.active()
        own = self.cap - active
        root = self.root
        if own <= 0 or (root is self and not self.children):
            return max(0, own)
        in_tree = root.cap - root.tree_active()
        # Nobody waits for the tasks of a root but its owner, who is no task: they can wait until the tree has a slot.
        if in_tree <= 0 and ((root is not self and not active) or now - root.moved_at >= STARVED_S):
            in_tree = 1
        return max(0, min(own, in_tree))

    @property
    def unfinished(self) -> int:
        """Tasks that have not ended."""
        return self.queued + self.assigned + self.waiting

    def __repr__(self) -> str:
        counts = f"queued={self.queued} assigned={self.assigned} workers={len(self.workers)}"
        return f"<Group {self.id} cap={self.cap} {counts}>"
