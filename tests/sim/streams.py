"""Streams of values in a simulated session: read fast, slowly or not at all, abandoned, cancelled, killed, retried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._core.events import Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result, pack_stream_end, pack_yielded
from sim.worker import Frame, Plan, SimWorker
from sim.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Streams"]


@dataclass
class Made:
    """A stream as its task makes it."""

    length: int
    limit: int
    fails: bool = False
    deadly_at: int = -1
    objects: bool = False


@dataclass
class Read:
    """A stream as the driver reads it."""

    arrived: list[int] = field(default_factory=list)
    """Values that it has not taken."""
    held: list[int] = field(default_factory=list)
    count: int = 0
    taken: int = 0
    is_read: bool = True
    unwanted: bool = False
    """Abandoned, or cancelled."""


@dataclass
class Making:
    limit: int
    position: int = 0
    taken: int = 0
    closed: bool = False
    unsent: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def may_go_on(self) -> bool:
        return self.closed or self.position - max(0, self.taken) < self.limit


class StreamWorker(SimWorker):
    """A worker that yields, waits for room, and closes what nobody wants."""

    def __init__(self, world: World, worker: int) -> None:
        super().__init__(world, worker)
        self.streams: Streams = world  # type: ignore[assignment]
        self.limits: dict[int, int] = {}
        self.making: dict[int, Making] = {}
        self.blocked: Frame | None = None

    def _take(self, message: m.Run) -> None:
        self.limits.update(zip(message.tasks, message.returns, strict=False))
        super()._take(message)

    def receive(self, message: m.Message) -> None:
        if self.waits_for_sigcont(lambda: self.receive(message)):
            return
        if isinstance(message, m.Taken):
            making = self.making.get(message.task)
            if making is not None and self.alive:
                making.closed = making.closed or message.taken < 0
                making.taken = max(making.taken, message.taken)
                self.go_on()
        else:
            super().receive(message)

    def go_on(self) -> None:
        frame = self.blocked
        if self.stopped:
            return
        if frame is None:
            super().go_on()
        elif self.alive and self.making[frame.task].may_go_on:
            self.blocked = None
            frame.group = 0
            self._return_all()
            self.send(m.Unblock())
            self.computing = True
            self.world.after(frame.plan.seconds, lambda: self._yield(frame))
        elif self.alive:
            self._flush()

    def _work(self, frame: Frame, plan: Plan) -> None:
        if frame.task not in self.streams.made:
            super()._work(frame, plan)
            return
        self.making[frame.task] = Making(-self.limits[frame.task])
        self.world.after(plan.seconds, lambda: self._yield(frame))

    def _yield(self, frame: Frame) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self._yield(frame)):
            return
        task, made, making = frame.task, self.streams.made[frame.task], self.making[frame.task]
        position = making.position
        if position == made.deadly_at:
            self.world.process_ends(self, -11)
        elif making.closed or position == made.length:
            self.computing = False
            self._send_values(frame)
            self._finish(frame)
        else:
            objects = self.world.make_object(self.id) if made.objects else ()
            value = self.world.new_id(self.id)
            self.streams.positions[value] = (task, position)
            if objects:
                self._send_values(frame)
            making.unsent.append((value, b"%d" % position))
            making.position += 1
            if objects or not making.may_go_on or self.world.random.random() < 0.5:  # plain values may travel together
                self._send_values(frame, objects)
            if making.may_go_on:
                self.world.after(frame.plan.seconds, lambda: self._yield(frame))
                return
            self.computing = False
            frame.group = -1  # what comes now is given back
            self.blocked = frame
            self._return_all()
            self._flush()
            self.send(m.Block(()))
            self.go_on()

    def unsent_records(self) -> tuple[bytes, ...]:
        records = []
        for frame in self.frames:
            making, stream = self.making.get(frame.task), self.world.hub._state.streams.get(frame.task)
            if making is None:
                continue
            first = making.position - len(making.unsent)
            records += [
                pack_yielded(frame.task, frame.attempt, first + at, *one) for at, one in enumerate(making.unsent)
            ]
            if (
                stream is not None and first <= stream.made and stream.lost_attempt != frame.attempt
            ):  # what was sent has arrived
                self.streams.expected[frame.task] = making.position
        return tuple(records)

    def _send_values(self, frame: Frame, objects: tuple[int, ...] = ()) -> None:
        making = self.making[frame.task]
        if making.unsent:
            values, payloads = zip(*making.unsent, strict=True)
            first = making.position - len(making.unsent)
            making.unsent.clear()
            self.send(m.Yield(frame.task, frame.attempt, first, values, payloads, (), objects))

    def _record(self, frame: Frame, made: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        stream = self.streams.made.get(frame.task)
        if stream is None:
            return super()._record(frame, made)
        end = pack_stream_end(self.making.pop(frame.task).position, b"error")
        return pack_result(frame.task, frame.attempt, Status.ERROR if stream.fails else Status.VALUE, 0, 9, end), ()


class Streams(World):
    """A world whose driver submits streams, and reads them."""

    def __init__(self, seed: int, *, kill_rate: float) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.worker_class = StreamWorker
        self.made: dict[int, Made] = {}
        self.read: dict[int, Read] = {}
        self.positions: dict[int, tuple[int, int]] = {}
        self.expected: dict[int, int] = {}
        """How many values of a stream must come, as they were made before its worker died."""
        self.most_ahead = 0

    def open_streams(self, group: int, count: int) -> None:
        chance = self.random
        for _ in range(count):
            task = self.new_id(DRIVER)
            self.new_id(DRIVER)
            limit = chance.choice([1, 1, 2, 5, 1000])
            length = chance.choice([0, 1, 3, 20])
            self.made[task] = Made(
                length, limit, chance.random() < 0.1, chance.choice([-1, -1, -1, 0, 2]), chance.random() < 0.3
            )
            self.read[task] = Read(is_read=chance.random() < 0.6)
            self.plans[task] = Plan(chance.choice([0.00001, 0.0005, 0.01]))
            self.task_group[task] = group
            self.max_retries[task] = chance.choice([0, 0, 3])
            message = m.Submit(group, self.max_retries[task], [7], [b"f"], [task], [7], [b""], returns=[-limit])
            self.feed(Received(DRIVER, message))

    def read_on(self) -> None:
        """Take what has come of those that are read, again and again."""
        for task, reader in self.read.items():
            if reader.is_read and reader.arrived:
                number = self.random.randint(1, len(reader.arrived))
                reader.taken += number
                let_go, reader.arrived = reader.arrived[:number], reader.arrived[number:]
                self.feed(Received(DRIVER, m.Taken(task, reader.taken)))
                self._release(reader, let_go)
        if not self.is_done():
            self.after(0.01, self.read_on)

    def read_all(self) -> None:
        for reader in self.read.values():
            reader.is_read = True

    def is_done(self) -> bool:
        return all(task in self.ended or not self._is_open(task) for task in self.read)

    def _is_open(self, task: int) -> bool:
        return not self.read[task].unwanted or task in self.hub._state.tasks

    def abandon_some(self) -> None:
        for task in self._some():
            reader = self.read[task]
            if not reader.unwanted:
                reader.unwanted = True
                self._release(reader, [*reader.held])
                reader.arrived.clear()
                self.feed(Received(DRIVER, m.Release([task + 1])))

    def cancel_some(self) -> None:
        chosen = self._some()
        for task in chosen:
            self.read[task].unwanted = True
        self.forced.update(chosen)
        self.feed(Received(DRIVER, self.random.choice([m.Cancel, m.Stop])(chosen)))

    def release_all(self) -> None:
        for task, reader in self.read.items():
            self._release(reader, [*reader.held])
            self.feed(Received(DRIVER, m.Release([task, task + 1])))

    def _some(self) -> list[int]:
        known = sorted(self.read)
        return self.random.sample(known, min(3, len(known)))

    def _release(self, reader: Read, values: Sequence[int]) -> None:
        reader.held = [value for value in reader.held if value not in values]
        self.feed(Received(DRIVER, m.Release(values)))

    def _driver_receives(self, message: m.Message) -> None:
        if isinstance(message, m.Yielded):
            self._note_yielded(message)
        elif isinstance(message, m.Replies):
            for value, status, payload in zip(message.tasks, message.statuses, message.payloads, strict=True):
                self._note_outcome(value, status, payload)
            if message.objects:
                released = m.Release(message.objects[::4])
                self.after(self.random.uniform(0, 0.05), lambda: self.feed(Received(DRIVER, released)))
        else:
            super()._driver_receives(message)

    def _note_yielded(self, message: m.Yielded) -> None:
        task, reader = message.task, self.read[message.task]
        assert task not in self.ended, "something comes after the end"
        for value in message.values:
            assert self.positions[value] == (task, reader.count), "out of order, or twice"
            reader.count += 1
        ahead = reader.count - reader.taken
        assert ahead <= self.made[task].limit, f"{ahead} ahead of the reader"
        self.most_ahead = max(self.most_ahead, ahead)
        reader.held.extend(message.values)
        reader.arrived.extend(message.values)

    def _note_outcome(self, value: int, status: int, payload: bytes) -> None:
        if value in self.positions:
            assert payload == b"%d" % self.positions[value][1]
            return
        if value - 1 in self.read:
            return  # the right to read
        self.note_end(value, status)
        made, reader = self.made.get(value), self.read.get(value)
        if made is None or reader is None:
            return
        if status == Status.CANCELLED:
            assert reader.unwanted, "whose wish was that?"
        elif status in (Status.VALUE, Status.ERROR) and not reader.unwanted:
            assert reader.count == made.length, f"{reader.count} of {made.length} values came"
            assert (status == Status.ERROR) == made.fails
