"""Random graphs of tasks that need each other's values, with failures, cancels and kills.

Every value says what it was made of, so a worker that was given the wrong values is found out; and every value that
failed says of what, which must be something that it needs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._core.events import Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result
from scalepool._wire.verdict import unpack_verdict
from sim.worker import Frame, Plan, SimWorker
from sim.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Graph"]


@dataclass
class Node:
    """One kept task; ``children`` are those that it submits itself, and that its first value refers to."""

    task: int
    needs: list[int]
    returns: int = 1
    fails: bool = False
    makes_objects: bool = False
    children: int = 0
    made: list[int] = field(default_factory=list)

    @property
    def values(self) -> range:
        return range(self.task, self.task + self.returns)


class GraphWorker(SimWorker):
    """A worker that makes values of the values it gets, and lets go of references when it has told of its results."""

    def __init__(self, world: World, worker: int) -> None:
        super().__init__(world, worker)
        self.graph: Graph = world  # type: ignore[assignment]
        self.inputs: dict[int, list[bytes]] = {}
        self.needs: dict[int, list[int]] = {}
        self.values: dict[int, bytes] = {}
        self.recent: dict[int, bytes] = {}
        self.lent: list[int] = []

    def _take(self, message: m.Run) -> None:
        self.values.update(zip(message.values, message.value_payloads, strict=True))
        at = 0
        for task, count in zip(message.tasks, message.need_counts or [0] * len(message.tasks), strict=True):
            self.needs[task] = list(message.needs[at : at + count])
            at += count
        super()._take(message)

    def _begin(self, task: int, attempt: int, known: int) -> None:
        found = [self.values.get(need, self.recent.get(need)) for need in self.needs.get(task, ())]
        if None in found:
            self.send(m.Returned([task], ()))
            self.go_on()
            return
        self.graph.followed += any(need not in self.values for need in self.needs.get(task, ()))
        self.inputs[task] = [data for data in found if data is not None]
        super()._begin(task, attempt, known)

    def _children_ended(self, message: m.Replies) -> None:
        if message.objects:
            self.send(m.Release(message.objects[::4]))

    def _record(self, frame: Frame, made: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        node = self.graph.nodes.get(frame.task)
        if node is None:
            return super()._record(frame, made)
        if node.fails:
            return pack_result(frame.task, frame.attempt, Status.ERROR, 0, 9, b"%d" % frame.task), ()
        children = self.graph.submit_children(self, node) if node.children else []
        objects = [self.world.make_object(self.id) for _ in node.values] if node.makes_objects else []
        parts = [
            Part(made_of(value, self.inputs[frame.task]), len(objects[:1]), children if value == frame.task else ())
            for value in node.values
        ]
        self.lent.extend(children)
        flat = tuple(number for one in objects for number in one)
        if len(parts) == 1 and not children and not objects:
            self.recent[frame.task] = parts[0].payload
        if len(parts) == 1 and not children:
            count = len(objects)
            return pack_result(frame.task, frame.attempt, Status.VALUE, count, 9, parts[0].payload), flat
        return pack_result(frame.task, frame.attempt, PARTS, 0, 9, pack_parts(parts)), flat

    def _flush(self) -> None:
        super()._flush()
        if self.lent:
            self.send(m.Release(self.lent))
            self.lent = []


class Graph(World):
    """A world whose driver submits kept tasks, and holds, wants and releases their values."""

    def __init__(self, seed: int, *, kill_rate: float) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.worker_class = GraphWorker
        self.nodes: dict[int, Node] = {}
        self.makers: dict[int, Node] = {}
        self.expected: dict[int, bytes] = {}
        self.held: set[int] = set()
        self.outcomes: dict[int, tuple[int, bytes]] = {}
        self.cancelled: set[int] = set()
        self.followed = 0
        """Tasks that ran on a value which their worker had just made."""
        self.awaited: set[int] = set()
        """Values that the driver waits for."""

    # ---- the driver ----

    def grow(self, group: int, count: int) -> None:
        """Submit ``count`` tasks in one message, each needing some of what there is."""
        nodes = [self._node(DRIVER, self.random.random() < 0.1) for _ in range(count)]
        self._submit(DRIVER, group, nodes, max_retries=self.random.choice([0, 0, 3]))

    def _node(self, peer: int, has_children: bool) -> Node:
        chance = self.random
        known = sorted(self.held)
        needs = [chance.choice(known) for _ in range(chance.randint(0, 3))] if known and peer == DRIVER else []
        returns = chance.choice([1, 1, 1, 3])
        task = self.new_id(peer)
        for _ in range(returns - 1):
            self.new_id(peer)
        node = Node(task, needs, returns, chance.random() < 0.03, chance.random() < 0.3, 2 if has_children else 0)
        self.nodes[task] = node
        for value in node.values:
            self.makers[value] = node
            self.expected[value] = made_of(value, [self.expected[need] for need in needs])
        if peer == DRIVER:
            self.held.update(node.values)
            self.awaited.update(node.values)
        return node

    def _submit(self, peer: int, group: int, nodes: Sequence[Node], *, max_retries: int = 0, parent: int = 0) -> None:
        for node in nodes:
            self.plans[node.task] = Plan(
                self.random.choice([0.00001, 0.0005, 0.02]), deadly=self.random.random() < 0.02
            )
            self.task_group[node.task] = group
            self.max_retries[node.task] = max_retries
        tasks = [node.task for node in nodes]
        count = len(tasks)
        needs = [need for node in nodes for need in node.needs]
        counts = [len(node.needs) for node in nodes] if needs else []
        returns = [node.returns for node in nodes]
        message = m.Submit(
            group, max_retries, [7], [b"f"], tasks, [7] * count, [b""] * count,
            parent=parent, returns=returns, need_counts=counts, needs=needs,
        )  # fmt: skip
        if peer == DRIVER:
            self.feed(Received(DRIVER, message))
        else:
            self.deliver_to_hub(self.workers[peer], message)

    def submit_children(self, worker: GraphWorker, node: Node) -> list[int]:
        """Submit kept tasks from within one; return the values that its result refers to."""
        group = self.new_id(worker.id)
        self.cap[group] = 2
        worker.send(m.OpenGroup(group, self.task_group[node.task], 1, 2, 0, 0, b""))
        children = [self._node(worker.id, has_children=False) for _ in range(node.children)]
        self._submit(worker.id, group, children, parent=node.task)
        node.made = [value for child in children for value in child.values]
        return node.made

    def release_some(self) -> None:
        """Let go of some values, whether or not they are there."""
        chosen = self.random.sample(sorted(self.held), self.random.randint(0, len(self.held)))
        self._release(chosen)

    def release_all(self) -> None:
        self._release(sorted(self.held))

    def _release(self, values: Sequence[int]) -> None:
        self.held.difference_update(values)
        self.awaited.difference_update(values)
        self.feed(Received(DRIVER, m.Release(values)))

    def cancel_some(self) -> None:
        own = [task for task in self.nodes if not task >> 40]
        chosen = self.random.sample(own, min(3, len(own)))
        self.cancelled.update(chosen)
        self.feed(Received(DRIVER, m.Cancel(chosen, self.random.randint(0, 1))))

    def _driver_receives(self, message: m.Message) -> None:
        if not isinstance(message, m.Replies):
            super()._driver_receives(message)
            return
        for value, status, payload in zip(message.tasks, message.statuses, message.payloads, strict=True):
            self._note_outcome(value, status, payload)
        if message.objects:
            released = m.Release(message.objects[::4])
            self.after(self.random.uniform(0, 0.05), lambda: self.feed(Received(DRIVER, released)))

    def _note_outcome(self, value: int, status: int, payload: bytes) -> None:
        assert value not in self.outcomes, f"value {value} was told twice"
        assert value in self.held, f"value {value} was told to a driver that had let go of it"
        self.outcomes[value] = (status, payload)
        self.awaited.discard(value)
        node = self.makers[value]
        self.ended.setdefault(node.task, status)
        if status == Status.VALUE:
            assert payload == self.expected[value], f"value {value} was made of something else"
            if value == node.task and node.made:
                self.after(0.0, lambda: self._open(node))
        elif status == Status.ERROR:
            assert int(payload) in self._ancestry(node), f"value {value} failed because of a stranger"
        elif status == Status.WORKER_DIED:
            culprit = unpack_verdict(payload).facts["task"]
            assert culprit in self._ancestry(node), f"value {value} failed because of a stranger"
            assert self.kills or self.plans[culprit].deadly or self.started[culprit]
        else:
            # A child's value goes with the worker that had submitted it, where nobody else was known to hold it.
            orphaned = any(task >> 40 for task in self._ancestry(node))
            cancelled = status == Status.CANCELLED and self._ancestry(node) & self.cancelled
            assert orphaned or cancelled, f"value {value} ended as {status}: whose wish was that?"

    def _open(self, node: Node) -> None:
        """Look into a value that has references inside, as ``get`` does: hold them, want some of them."""
        if node.task not in self.held:
            return
        fresh = [value for value in node.made if value not in self.held]
        self.held.update(fresh)
        self.feed(Received(DRIVER, m.Hold(fresh)))
        wanted = [value for value in fresh if self.chance(0.7)]
        self.awaited.update(wanted)
        self.feed(Received(DRIVER, m.Want(wanted)))

    def _ancestry(self, node: Node) -> set[int]:
        found: set[int] = set()
        todo = [node]
        while todo:
            one = todo.pop()
            if one.task not in found:
                found.add(one.task)
                todo.extend(self.makers[need] for need in one.needs)
        return found


def made_of(value: int, inputs: Sequence[bytes]) -> bytes:
    """What a task makes of its inputs: something that tells them, and their order."""
    return b"%d:%d" % (value, zlib.crc32(b"|".join(inputs)))
