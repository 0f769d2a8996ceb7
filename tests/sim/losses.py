"""Graphs of tasks whose values get lost: a host goes, or a disk, and readers find out, or the hub is told at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scalepool._core.events import ObjectsLost, Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import MISSING, pack_missing, pack_result
from sim.graphs import Graph, GraphWorker

if TYPE_CHECKING:
    from sim.worker import SimWorker
    from sim.world import World

__all__ = ["LossyGraph"]


class LossyWorker(GraphWorker):
    """A worker that cannot read what is lost."""

    def __init__(self, world: World, worker: int) -> None:
        super().__init__(world, worker)
        self.lossy: LossyGraph = world  # type: ignore[assignment]
        self.objects: dict[int, tuple[int, ...]] = {}
        """Of each value that it was sent, what that lies in."""

    def _take(self, message: m.Run) -> None:
        for value in message.values:
            record = self.lossy.hub._state.values.get(value)
            self.objects[value] = tuple(record.objects) if record is not None else ()
        super()._take(message)

    def _begin(self, task: int, attempt: int, known: int) -> None:
        for need in self.needs.get(task, ()):
            lost = self.lossy.lost.intersection(self.objects.get(need, ()))
            if lost and need in self.values:
                record = pack_result(task, attempt, MISSING, 0, 1, pack_missing(need, min(lost)))
                self.log.append(record)
                self.unsent.append((record, (), ()))  # in the order of the log
                self.lossy.not_begun += 1
                self.go_on()
                return
        super()._begin(task, attempt, known)


class LossyGraph(Graph):
    """A graph in which objects are lost."""

    def __init__(self, seed: int, *, kill_rate: float) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.worker_class: type[SimWorker] = LossyWorker
        self.lost: set[int] = set()
        self.not_begun = 0
        """Tasks that found out."""
        self.renewed = 0
        """Values that were told once more."""
        self.given_up = 0
        """Values that nobody could make again."""

    def lose_some(self) -> None:
        """Lose some of the objects that values lie in; the hub may hear of it."""
        known = sorted({one for _, value in self.hub._state.values.items() for one in value.objects})
        chosen = self.random.sample(known, self.random.randint(0, len(known)))
        self.lost.update(chosen)
        if self.chance(0.5):
            self.feed(ObjectsLost(tuple(chosen)))

    def _driver_receives(self, message: m.Message) -> None:
        if isinstance(message, m.Replies):
            at = 0
            counts = message.object_counts or [0] * len(message.tasks)
            columns = message.objects[::4]
            for value, status, count in zip(message.tasks, message.statuses, counts, strict=True):
                objects = tuple(columns[at : at + count])
                at += count
                self._tell_again(value, status, objects)
        super()._driver_receives(message)

    def _tell_again(self, value: int, status: int, objects: tuple[int, ...]) -> None:
        if self.outcomes.get(value, (-1,))[0] == Status.VALUE:
            assert self.lost, "there was no need to tell it again"
            self.renewed += 1
            del self.outcomes[value]
        if status == Status.VALUE and objects and self.chance(0.8):
            self.after(self.random.uniform(0, 0.1), lambda: self._read(value, objects))

    def _read(self, value: int, objects: tuple[int, ...]) -> None:
        """Look into a value, and report what cannot be read."""
        if value in self.held and value in self.outcomes and self.lost.intersection(objects):
            del self.outcomes[value]
            self.awaited.add(value)
            self.feed(Received(DRIVER, m.Missing(value, objects)))

    def _note_outcome(self, value: int, status: int, payload: bytes) -> None:
        if status == Status.LOST and payload:
            assert self.lost
            assert json.loads(payload)["value"] in {
                one for task in self._ancestry(self.makers[value]) for one in self.nodes[task].values
            }
            self.given_up += 1
            self.outcomes[value] = (status, payload)
            self.awaited.discard(value)
            return
        super()._note_outcome(value, status, payload)
