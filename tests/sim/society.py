"""Whole sessions in a simulation: programs that submit, wait, put, stream, call actors, and drop references at random.

The world knows what is true: who has a reference to what, what each value was made of, and who wanted what to end. So
it can tell a value that was freed under somebody from one that nobody can have, and an error with a cause from one
without.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from scalepool._base.amounts import UNIT
from scalepool._core.commands import StartWorker
from scalepool._core.events import Received
from scalepool._core.hub import Hub
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, EndActor, EndMode
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.verdict import unpack_verdict
from sim.members import Member
from sim.programs import Ask, Get, Scope, Spec, Work, program, say
from sim.purse import Purse
from sim.worker import Plan
from sim.world import World

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from scalepool._core.events import Event
    from sim.worker import SimWorker

__all__ = ["Society", "Thread"]

CAPACITY = {"CPU": 4 * UNIT, "GPU": 2 * UNIT, "disk": 2 * UNIT}
DEMANDS = (
    {},
    {"CPU": UNIT},
    {"CPU": UNIT},
    {"CPU": UNIT // 2},
    {"CPU": UNIT, "disk": UNIT},
    {"GPU": UNIT},
    {"CPU": UNIT, "GPU": UNIT // 2},
)


class Thread:
    """One thread of the main program."""

    def __init__(self, world: Society, steps: int) -> None:
        self.world = world
        self.scope = Scope(world, world.purse, None, world.home)
        self.steps: Generator[object, int, None] = program(self.scope, steps)
        self.missing: set[int] = set()
        self.request = 0
        self.is_done = False
        self.begun = False

    def advance(self, sent: int = 0) -> None:
        try:
            step = self.steps.send(sent) if self.begun else next(self.steps)
        except StopIteration:
            self.is_done = True
            self.scope.drop_all()
            self.world.pump_soon()
            return
        finally:
            self.begun = True
        self.world.pump_soon()
        if isinstance(step, Work):
            self.world.after(step.seconds, self.advance)
        elif isinstance(step, Ask):
            self.request = step.request
            self.world.purse.post(step.message)
        else:
            assert isinstance(step, Get)
            self._get(step)

    def _get(self, step: Get) -> None:
        purse = self.world.purse
        purse.want(step.values)
        self.missing = {value for value in step.values if value not in purse.known}
        if not self.missing:
            self.world.after(0.0, self.advance)
        elif step.patience_s is not None:
            self.world.after(step.patience_s, self._give_up)

    def _give_up(self) -> None:
        if self.missing:
            self.missing = set()
            self.advance()

    def note(self, value: int, status: int) -> None:
        """A value has ended."""
        if value in self.missing:
            self.missing = set() if status != Status.VALUE else self.missing - {value}
            if not self.missing:
                self.world.after(0.0, self.advance)


class Society(World):
    """A hub, its workers, and a main program with some threads."""

    def __init__(self, seed: int) -> None:  # noqa: PLR0915
        super().__init__(seed)
        chance = self.random
        self.calm = seed % 5 == 0
        """Nothing fails, and nobody is stopped."""
        self.hub = Hub(idle_worker_s=5.0, store_limit_bytes=20 * 4096, capacity=lambda: CAPACITY)
        self.worker_class = Member
        self.delay_s = chance.choice([0.00005, 0.0005, 0.005])
        if not self.calm:
            self.kill_rate = chance.choice([0.0, 0.3])
            self.slow_begins = chance.choice([0.0, 0.2])
            for _ in range(chance.choice([0, 0, 1, 2])):
                self.after(chance.uniform(0, 0.2), self.freeze_one)
            self.lost_objects = chance.choice([0.0, 0.0, 0.05])
            self.launch_failures = chance.choice([0.0, 0.0, 0.05])
        self.purse = Purse(DRIVER)
        self.specs: dict[int, Spec] = {}
        self.makers: dict[int, Spec] = {}
        self.actors: dict[int, bool] = {}
        """Each with whether it has a name."""
        self.purse.actors = self.actors
        self.streams: set[int] = set()
        self.most_actors = 4
        self.all_objects: set[int] = set()
        self.made: defaultdict[int, list[bytes]] = defaultdict(list)
        """The payloads that attempts have made for each value."""
        self.seen: dict[int, tuple[int, bytes]] = {}
        """How each value has ended, as somebody was told."""
        self.entered: set[int] = set()
        """Values that the hub has heard of."""
        self.died: set[int] = set()
        """Tasks that a worker was in when it ended, or whose results went with it."""
        self.cancelled: set[int] = set()
        self.recursively: set[int] = set()
        self.lives: defaultdict[int, list[int]] = defaultdict(list)
        self.line: dict[int, tuple[tuple[int, int, int], int]] = {}
        """Of each call: its actor and caller, and which one of that it is."""
        self._lines: Counter[tuple[int, int, int]] = Counter()
        self._last: dict[tuple[int, tuple[int, int, int]], int] = {}
        self.yields: dict[int, tuple[int, int]] = {}
        self.demand_of: dict[int, dict[str, int]] = {}
        self.gpus: dict[int, tuple[int, ...]] = {}
        self._pumping = False
        self._nonce = 0
        self.home = self._open_group(DRIVER, 0, {})
        self.groups = [self.home, *(self._open_group(DRIVER, 0, one) for one in chance.sample(DEMANDS, 2))]
        self.threads = [Thread(self, chance.randint(3, 40)) for _ in range(chance.randint(1, 3))]
        for thread in self.threads:
            self.after(chance.uniform(0, 0.01), thread.advance)
        self.after(0.01, self._read_on)

    # ---- the main program ----

    def pump_soon(self) -> None:
        """Have the main program's messages sent."""
        if not self._pumping:
            self._pumping = True
            self.after(self.random.choice([0.0, 0.0, 0.0005]), self._pump)

    def _pump(self) -> None:
        self._pumping = False
        for message in self.purse.drain():
            self.feed(Received(DRIVER, message))

    def _read_on(self) -> None:
        """Streams are read, some faster than others: or they would wait for ever, and what waits for their actors."""
        for thread in self.threads:
            thread.scope.read()
        self.pump_soon()
        if not self.is_done:
            self.after(0.01, self._read_on)

    @property
    def is_done(self) -> bool:
        return all(thread.is_done for thread in self.threads)

    def close_all(self) -> None:
        """End what lives without references, and all groups."""
        for actor in self.actors:  # some have handles of each other, or of themselves in what they keep
            self.feed(Received(DRIVER, EndActor(actor, EndMode.KILL)))
        for group in self.groups:
            self.close(group)

    def _driver_receives(self, message: m.Message) -> None:
        if isinstance(message, m.Replies):
            for value in self.take_in(self.purse, message):
                status = self.purse.known[value].status
                self.ended.setdefault(value, status)
                for thread in self.threads:
                    thread.note(value, status)
            self.pump_soon()
        elif isinstance(message, m.Yielded):
            self._check_order(message)
            self.purse.yielded(message)
            self.pump_soon()
        elif isinstance(message, ActorFound):
            thread = next(one for one in self.threads if one.request == message.request)
            thread.request = 0
            self.after(0.0, lambda: thread.advance(message.actor))
        else:
            super()._driver_receives(message)

    # ---- groups and what they hold ----

    def _open_group(self, peer: int, parent: int, demand: dict[str, int]) -> int:
        group = self.new_id(peer)
        self.cap[group] = self.random.randint(1, 4)
        self.demand_of[group] = demand
        names = [name.encode() for name in demand]
        kind = 1 + DEMANDS.index(demand)
        message = m.OpenGroup(
            group, parent, kind, self.cap[group], 0, 0, b"", 0, 0, int(bool(demand)), names, list(demand.values())
        )
        if peer == DRIVER:
            self.feed(Received(DRIVER, message))
        else:
            member = self.workers[peer]
            assert isinstance(member, Member)
            member.purse.post(message)
        return group

    def group_for(self, scope: Scope) -> tuple[int, bool]:
        """Where a task of this program runs, and whether that may wait: not while it has what others need, too."""
        if scope.spec is None:
            group = self.random.choice(self.groups)
        else:
            member = self.workers[scope.purse.peer]
            assert isinstance(member, Member)
            kind = self.random.choice([0, 1])
            if (scope.root, kind) not in member.groups:
                member.groups[scope.root, kind] = self._open_group(member.id, scope.root, DEMANDS[kind])
            group = member.groups[scope.root, kind]
        return group, set(self.demand_of[group]) <= {"CPU"}

    def demand_of_actor(self) -> tuple[Sequence[bytes], Sequence[int]]:
        """So little that all of them together leave enough for everything else."""
        return ([b"CPU"], [UNIT // 4]) if self.random.random() < 0.5 else ((), ())

    def _obey(self, command: object) -> None:
        if isinstance(command, StartWorker):
            self.gpus[command.worker] = command.gpus
        super()._obey(command)

    # ---- the ledger ----

    def feed(self, event: Event) -> None:
        if isinstance(event, Received) and (event.peer == DRIVER or event.peer in self.workers):
            if isinstance(event.message, m.Submit):
                self.entered.update(value for task in event.message.tasks for value in self.specs[task].values)
            elif isinstance(event.message, m.Keep):
                self.entered.add(event.message.value)
        super().feed(event)

    def make_object(self, peer: int) -> tuple[int, int, int, int]:
        made = super().make_object(peer)
        self.all_objects.add(made[0])
        return made

    def enter(self, spec: Spec, group: int, retries: int) -> None:
        """A task is about to be submitted."""
        self.specs[spec.task] = spec
        for value in spec.values:
            self.makers[value] = spec
        if spec.returns < 0:
            self.streams.add(spec.task)
        self.plans[spec.task] = Plan(0.0)
        self.task_group[spec.task] = group
        self.max_retries[spec.task] = retries
        if spec.actor and spec.actor != spec.task:
            lane = (spec.actor, spec.peer, spec.parent)
            self._lines[lane] += 1
            self.line[spec.task] = (lane, self._lines[lane])

    def note_actor(self, actor: int, restarts: int, has_name: bool) -> None:
        self.actors[actor] = has_name
        self.max_retries[actor] = 1 << 30 if restarts < 0 else restarts

    def note_cancel(self, task: int, *, recursive: bool) -> None:
        (self.recursively if recursive else self.cancelled).add(task)
        self.cancelled.add(task)

    def note_made(self, value: int, references: Sequence[int]) -> bytes:
        self._nonce += 1
        payload = say(value, self._nonce, references)
        self.made[value].append(payload)
        return payload

    def note_yield(self, value: int, task: int, position: int) -> None:
        self.yields[value] = (task, position)

    def _check_order(self, message: m.Yielded) -> None:
        for value in message.values:
            task, position = self.yields[value]
            came = self.item_starts[task, 0]
            self.item_starts[task, 0] += 1
            assert (task, position) == (message.task, came), "a stream's values come out of order, or twice"

    def is_plain(self, value: int) -> bool:
        """Whether it ends whatever its readers do: a stream waits for them."""
        return value not in self.actors and value not in self.streams and value - 1 not in self.streams

    def task_of(self, value: int) -> int:
        spec = self.makers.get(value)
        return spec.task if spec is not None else value

    def note_start(self, task: int, worker: SimWorker) -> None:
        super().note_start(task, worker)
        if task in self.actors:
            self.lives[task].append(worker.id)
        if task in self.line:
            lane, number = self.line[task]
            assert self.lives[lane[0]][-1:] == [worker.id], "a call runs where its object was not made"
            assert len(worker.frames) == 1, "a call runs inside of another one"
            before = self._last.get((worker.id, lane), 0)
            assert number > before or self.started[task] > 1, f"call {number} of {lane} begins after {before}"
            self._last[worker.id, lane] = max(number, before)
        self._check_resources()

    def _check_resources(self) -> None:
        """Nothing but CPUs is ever used by more than there is of it."""
        used: Counter[str] = Counter()
        on_gpu: Counter[int] = Counter()
        for worker in self.workers.values():
            demands = [self.demand_of.get(self.task_group[frame.task], {}) for frame in worker.frames]
            if worker.alive and any(demands):
                used["disk"] += sum(demand.get("disk", 0) for demand in demands)
                if gpu := max(demand.get("GPU", 0) for demand in demands):
                    assert self.gpus[worker.id], "a task that needs a GPU runs where there is none"
                    for number in self.gpus[worker.id]:
                        on_gpu[number] += gpu
        assert used["disk"] <= CAPACITY["disk"], "a resource is granted twice"
        assert all(amount <= UNIT for amount in on_gpu.values()), "a GPU is granted twice"

    def process_ends(self, worker: SimWorker, exitcode: int) -> None:
        if worker.alive:
            self.died.update(frame.task for frame in worker.frames)
        super().process_ends(worker, exitcode)

    # ---- what comes out ----

    def take_in(self, purse: Purse, message: m.Replies) -> list[int]:
        """Note what a process is told; return the values that are news to it."""
        counts = message.object_counts or [0] * len(message.tasks)
        objects = message.objects[::4]
        fresh, at = [], 0
        for value, status, payload, count in zip(
            message.tasks, message.statuses, message.payloads, counts, strict=True
        ):
            mine = tuple(objects[at : at + count])
            at += count
            purse.replies[value] -= 1
            owns = value in self.makers and self.makers[value].peer == purse.peer
            assert purse.replies[value] >= -1 * owns or purse.peer == DRIVER, f"value {value} was told twice"
            if purse.counts.get(value, 0) > 0:
                self.note_seen(value, status, payload)
            if purse.arrived(value, status, payload, mine):
                fresh.append(value)
        return fresh

    def note_seen(self, value: int, status: int, payload: bytes) -> None:
        """Somebody who has a reference was told how a value has ended."""
        if value in self.actors:
            return
        before = self.seen.setdefault(value, (status, payload))
        assert before == (status, payload), f"value {value} ended as {before}, and as {(status, payload)}"
        if status == Status.VALUE:
            assert payload in self.made[value] or value in self.streams or value - 1 in self.streams
            return
        abandoned = value in self.streams and status == Status.CANCELLED
        assert abandoned or not self.calm, f"value {value} ended as {Status(status).name}, and nothing had happened"
        causes = self._ancestry(value)
        if status == Status.ERROR:
            assert int(payload) in causes, f"value {value} failed because of a stranger"
        elif status == Status.WORKER_DIED:
            culprit = unpack_verdict(payload).facts["task"]
            assert culprit in causes, f"value {value} failed because of a stranger"
            begun = self.started[culprit] or culprit in self.hardly_begun
            assert begun or self.launch_failures, "a task died that had not begun"
        elif status == Status.CANCELLED:
            assert any(self._may_be_cancelled(task) for task in causes), f"value {value}: who wanted it cancelled?"
        elif status == Status.LOST:
            assert any(one not in self.entered for one in [value, *self._needs_of(causes)]), (
                f"value {value} is gone, and somebody has a reference"
            )
        else:
            assert status in (Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE)
            assert any(task in self.line for task in causes), f"value {value} has nothing to do with an actor"

    def _may_be_cancelled(self, task: int) -> bool:
        spec: Spec | None = self.specs[task]
        if task in self.cancelled:
            return True
        if task in self.streams and not self._reads(self.specs[task]):
            return True
        while spec is not None:
            if spec.task in self.recursively or (spec.peer and spec.peer not in self.workers):
                return True
            member = self.workers.get(spec.peer)
            if member is not None and not member.alive:
                return True
            spec = self.specs.get(spec.parent)
        return False

    def _reads(self, spec: Spec) -> bool:
        member = self.workers.get(spec.peer)
        purse = self.purse if spec.peer == DRIVER else member.purse if isinstance(member, Member) else Purse(0)
        return purse.counts.get(spec.task + 1, 0) > 0

    def _ancestry(self, value: int) -> set[int]:
        found: set[int] = set()
        todo = [value]
        while todo:
            spec = self.makers.get(todo.pop())
            if spec is not None and spec.task not in found:
                found.add(spec.task)
                todo.extend(spec.needs)
        return found

    def _needs_of(self, tasks: set[int]) -> list[int]:
        return [need for task in tasks for need in self.specs[task].needs]

    def check_truth(self) -> None:
        """While nothing is on its way: the hub counts those references that there are, and no others."""
        purses = {DRIVER: self.purse}
        purses.update({one.id: one.purse for one in self.workers.values() if isinstance(one, Member)})
        for value, record in self.hub._state.values.items():
            for peer in record.holders:
                assert purses[peer].counts.get(value, 0) > 0, f"value {value} is kept for {peer}, who has let go of it"
            assert record.status != PENDING, f"value {value} is still to come"
        for peer, purse in purses.items():
            for value in purse.counts:
                known = value in self.hub._state.values or value not in self.entered
                assert known, f"value {value} was freed, and {peer} has a reference"
