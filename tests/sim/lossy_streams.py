"""Streams some of whose items get lost: a host goes, or a disk, and readers find out, or the hub is told at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from scalepool._core.events import ObjectsLost, Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from sim.streams import Streams, StreamWorker

if TYPE_CHECKING:
    from sim.worker import Frame

__all__ = ["LossyStreams"]


class LossyStreamWorker(StreamWorker):
    """A worker that may run a stream beside another one that does, for the sake of its items."""

    def _yield(self, frame: Frame) -> None:
        before = set(self.streams.positions)
        super()._yield(frame)
        task = self.streams.original(frame.task)
        if task != frame.task:
            for value in self.streams.positions.keys() - before:
                self.streams.positions[value] = (task, self.streams.positions[value][1])


class LossyStreams(Streams):
    """A world in which objects that items lie in are lost."""

    def __init__(self, seed: int, *, kill_rate: float) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.worker_class = LossyStreamWorker
        self.missing: set[int] = set()
        """Items that the driver waits for once more."""
        self.lost: set[int] = set()
        """Those that ever were."""
        self.objects_of: dict[int, tuple[int, ...]] = {}
        self.renewed = 0
        self.given_up = 0

    def original(self, task: int) -> int:
        return task if task in self.read else task - 1

    def open_streams(self, group: int, count: int) -> None:
        before = set(self.made)
        super().open_streams(group, count)
        for task in [task for task in self.made if task not in before]:
            self._prepare(task)

    def _prepare(self, task: int) -> None:
        """Have another run of it known, under a number of its own; it may, or may not, yield the same again."""
        made = self.made[task]
        length = made.length if self.chance(0.9) else max(0, made.length - 2)
        self.made[task + 1] = replace(made, deadly_at=-1, length=length)
        self.plans[task + 1], self.task_group[task + 1] = self.plans[task], self.task_group[task]
        self.max_retries[task + 1] = 1 << 30

    def lose_some(self) -> None:
        held = sorted(value for reader in self.read.values() for value in reader.held if self.objects_of.get(value))
        chosen = [value for value in held if value not in self.missing]
        chosen = self.random.sample(chosen, self.random.randint(0, len(chosen)))
        self.lost.update(chosen)
        if self.chance(0.5):
            self.feed(ObjectsLost(tuple(one for value in chosen for one in self.objects_of[value])))
            return
        for value in chosen:
            if any(value in reader.held for reader in self.read.values()):
                self.missing.add(value)
                self.feed(Received(DRIVER, m.Missing(value, self.objects_of[value])))

    def _release(self, reader: object, values: object) -> None:
        self.missing.difference_update(values)  # type: ignore[arg-type]  # a sequence of numbers
        super()._release(reader, values)  # type: ignore[arg-type]

    def _driver_receives(self, message: m.Message) -> None:
        if isinstance(message, m.Replies):
            at = 0
            for value, count in zip(message.tasks, message.object_counts or [0] * len(message.tasks), strict=True):
                objects = tuple(message.objects[::4][at : at + count])
                at += count
                if value in self.positions:
                    self.objects_of[value] = objects
        super()._driver_receives(message)

    def _note_outcome(self, value: int, status: int, payload: bytes) -> None:
        if value not in self.positions:
            if value in self.made and value not in self.read:
                return  # the right to read
            super()._note_outcome(value, status, payload)
            return
        self.renewed += value in self.missing and status == Status.VALUE
        self.missing.discard(value)
        if status == Status.VALUE:
            assert payload == b"%d" % self.positions[value][1], "it is that of another position"
            return
        assert value in self.lost, "whose fault was that?"
        self.given_up += 1
        self.objects_of[value] = ()
        if status == Status.LOST:
            assert json.loads(payload)["value"] == value
