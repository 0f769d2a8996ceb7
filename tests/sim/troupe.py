"""Random graphs of tasks and of calls of actors, with kills, restarts, cancels, and handles that go.

What must hold beside the rules for graphs: calls of one caller begin in the order in which they were submitted, in each
life of the actor; one at a time; never before the object is made; and an actor lives no more often than it may.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from scalepool._core.events import Received
from scalepool._wire import messages as m
from scalepool._wire.actors import EndActor, EndMode, OpenActor
from scalepool._wire.messages import DRIVER, Status
from sim.graphs import Graph, GraphWorker
from sim.worker import Plan

if TYPE_CHECKING:
    from sim.worker import SimWorker

__all__ = ["Troupe"]

EVER = 1 << 30


class Troupe(Graph):
    """A graph some of whose tasks are calls of actors."""

    def __init__(self, seed: int, *, kill_rate: float) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.worker_class = GraphWorker
        self.actors: dict[int, int] = {}
        """Each with how often it may begin anew; -1: any number of times."""
        self.handles: set[int] = set()
        self.dead: set[int] = set()
        self.lives: defaultdict[int, list[int]] = defaultdict(list)
        """The workers that began to make each actor."""
        self.line: dict[int, tuple[tuple[int, int], int]] = {}
        """Of each call: its actor and caller, and which one of that it is."""
        self._lines: Counter[tuple[int, int]] = Counter()
        self._last: dict[tuple[int, tuple[int, int]], int] = {}
        self.calls = 0

    def engage(self) -> None:
        """Open an actor whose object needs what there is."""
        chance = self.random
        actor = self.new_id(DRIVER)
        restarts = chance.choice([0, 0, 1, 3, -1])
        self.actors[actor] = restarts
        self.handles.add(actor)
        self.cap[actor] = 1
        self.task_group[actor] = actor
        self.max_retries[actor] = EVER if restarts < 0 else restarts
        self.plans[actor] = Plan(chance.choice([0.00001, 0.002]), deadly=restarts >= 0 and chance.random() < 0.1)
        message = OpenActor(actor, 0, b"", restarts, chance.choice([1, 1, 5]), 0, b"", b"Sim", b"meta")
        self.feed(Received(DRIVER, message))
        known = sorted(self.held - self.handles)
        needs = [chance.choice(known)] if known and chance.random() < 0.3 else []
        objects: list[int] = []
        if chance.random() < 0.3:
            objects.extend(self.make_object(DRIVER))
            self.carries[actor] = (objects[0],)
        carried = objects[:1]
        self.feed(
            Received(
                DRIVER,
                m.Submit(
                    actor, 0, [7], [b"f"], [actor], [7], [b""], [len(carried)] if carried else [], carried, objects,
                    returns=[1], need_counts=[len(needs)] if needs else [], needs=needs,
                ),
            )
        )  # fmt: skip

    def call(self) -> None:
        """Call an actor some times, as one of several callers."""
        if not self.handles:
            return
        chance = self.random
        actor, parent = chance.choice(sorted(self.handles)), chance.choice([0, 0, 5, 6])
        nodes = [self._node(DRIVER, has_children=False) for _ in range(chance.randint(1, 8))]
        for node in nodes:
            node.needs = [need for need in node.needs if need not in self.actors]
            self._lines[actor, parent] += 1
            self.line[node.task] = ((actor, parent), self._lines[actor, parent])
        self.calls += len(nodes)
        self._submit(DRIVER, actor, nodes, max_retries=chance.choice([0, 0, 2]), parent=parent)

    def end(self) -> None:
        """Kill an actor, or only its process."""
        if self.handles:
            actor = self.random.choice(sorted(self.handles))
            mode = self.random.choice([EndMode.KILL, EndMode.RESTART])
            self.dead.add(actor)
            self.feed(Received(DRIVER, EndActor(actor, mode)))

    def drop(self) -> None:
        """Let go of a handle: what was called is still done."""
        if self.handles:
            actor = self.random.choice(sorted(self.handles))
            self.handles.discard(actor)
            self.feed(Received(DRIVER, m.Release([actor])))

    def drop_all(self) -> None:
        while self.handles:
            self.drop()

    # ---- the ledger ----

    def note_start(self, task: int, worker: SimWorker) -> None:
        super().note_start(task, worker)
        if task in self.actors:
            self.lives[task].append(worker.id)
            limit = self.actors[task]
            assert limit < 0 or len(self.lives[task]) <= 1 + limit, f"actor {task} began {self.lives[task]}"
        if task in self.line:
            lane, number = self.line[task]
            assert self.lives[lane[0]][-1:] == [worker.id], "a call runs where its object was not made"
            assert len(worker.frames) == 1, "a call runs inside of another one"
            before = self._last.get((worker.id, lane), 0)
            again = self.started[task] > 1  # its result was lost, and not its worker
            assert number > before or again, f"call {number} of {lane} begins after {before}"
            self._last[worker.id, lane] = max(number, before)

    def _note_outcome(self, value: int, status: int, payload: bytes) -> None:
        if value in self.actors:
            return
        if status not in (Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE):
            super()._note_outcome(value, status, payload)
            return
        assert value not in self.outcomes, f"value {value} was told twice"
        self.outcomes[value] = (status, payload)
        self.awaited.discard(value)
        calls = [self.line[task][0][0] for task in self._ancestry(self.makers[value]) if task in self.line]
        assert calls, f"value {value} ended with an actor, and has nothing to do with one"
