"""A hub with simulated workers: fake clock, in-memory links, seeded delays and kills.

Nothing here sleeps or starts a process: events sit in a heap and time jumps from one to the next. A worker does what a
real one does as far as the hub can see: it runs one task at a time, logs each result before the next starts, sends
results in batches, answers recalls, waits for children of its tasks, and dies when it is told to or when chance says so.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from scalepool._core.commands import Drop, KillWorker, Note, Send, StartWorker
from scalepool._core.events import Event, LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._core.hub import Hub
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result, unpack_result


@dataclass(frozen=True)
class Plan:
    """What a task does: work, then perhaps wait for children of a group of its own."""

    seconds: float
    children: tuple[Plan, ...] = ()
    child_cap: int = 2
    deadly: bool = False


@dataclass
class Frame:
    """A task inside a worker; ``waiting_for`` are the children it still waits for."""

    task: int
    attempt: int
    plan: Plan
    waiting_for: set[int] = field(default_factory=set)
    group: int = 0


class SimWorker:
    """One worker process."""

    def __init__(self, world: World, worker: int) -> None:
        self.world = world
        self.id = worker
        self.alive = True
        self.ready = False
        self.leaving = False
        self.queue: deque[tuple[int, int]] = deque()
        self.frames: list[Frame] = []
        self.log: list[bytes] = []
        self.unsent: list[bytes] = []
        self.computing = False

    def send(self, message: m.Message) -> None:
        self.world.deliver_to_hub(self.id, message)

    def receive(self, message: m.Message) -> None:
        if not self.alive:
            return
        if isinstance(message, m.Run):
            # While a task waits for its children, nothing but those may run in place.
            wanted = self.frames[-1].waiting_for if self.frames and self.frames[-1].group else None
            items = list(zip(message.tasks, message.attempts, strict=True))
            self.queue.extend(item for item in items if wanted is None or item[0] in wanted)
            others = [task for task, _ in items if wanted is not None and task not in wanted]
            if others:
                self.send(m.Returned(others, ()))
        elif isinstance(message, m.Recall):
            taken = [self.queue.pop()[0] for _ in range(min(message.number, len(self.queue)))]
            self.send(m.Returned(taken[::-1], ()))
        elif isinstance(message, m.CancelTasks):
            found = [task for task, _ in self.queue if task in message.tasks]
            self.queue = deque(item for item in self.queue if item[0] not in found)
            self.send(m.Returned(found, tuple(set(message.tasks) - set(found))))
        elif isinstance(message, m.Exit):
            self.leaving = True
        elif isinstance(message, m.Replies):
            for task, status in zip(message.tasks, message.statuses, strict=True):
                self.world.note_end(task, status)
                for frame in self.frames:
                    frame.waiting_for.discard(task)
        self.go_on()

    def go_on(self) -> None:
        """Do the next thing, as the main thread of a worker would."""
        if not self.alive or self.computing:
            return
        if self.frames and not self.frames[-1].waiting_for:
            self.end_wait()
        elif self.queue:
            self.start(*self.queue.popleft())
        else:
            self.flush()
            if self.leaving and not self.frames:
                self.world.process_ends(self, 0)

    def start(self, task: int, attempt: int) -> None:
        plan = self.world.plans[task]
        self.world.note_start(task, self)
        self.frames.append(Frame(task, attempt, plan))
        self.computing = True
        if plan.deadly:
            self.world.after(plan.seconds, lambda: self.world.process_ends(self, -11))
        else:
            self.world.after(plan.seconds, self.computed)

    def computed(self) -> None:
        if not self.alive:
            return
        self.computing = False
        frame = self.frames[-1]
        self.world.note_pause(self)
        if frame.plan.children:
            frame.group = self.world.new_id(self.id)
            parent = self.world.task_group[frame.task]
            self.send(m.OpenGroup(frame.group, parent, 1, frame.plan.child_cap, 0, 0, b""))
            tasks = self.world.submit(self.id, frame.group, list(frame.plan.children))
            frame.waiting_for = set(tasks)
            back = [task for task, _ in self.queue]
            self.queue.clear()
            self.send(m.Returned(back, ()))
            self.flush()
            self.send(m.Block(tasks))
            self.go_on()
        else:
            self.finish(frame)

    def end_wait(self) -> None:
        frame = self.frames[-1]
        back = [task for task, _ in self.queue]
        self.queue.clear()
        self.send(m.Returned(back, ()))
        self.send(m.Unblock())
        self.send(m.CloseGroup(frame.group, m.CloseMode.DRAIN))
        self.finish(frame)

    def finish(self, frame: Frame) -> None:
        self.frames.pop()
        self.world.executed[frame.task] += 1
        record = pack_result(frame.task, frame.attempt, Status.VALUE, 0, int(frame.plan.seconds * 1e6), b"")
        self.log.append(record)
        self.unsent.append(record)
        if len(self.unsent) >= 4:
            self.flush()
        self.go_on()

    def flush(self) -> None:
        if self.unsent:
            self.send(m.Done(self.unsent))
            self.unsent = []


class World:
    """Time, links, workers and one driver around a hub."""

    def __init__(self, seed: int, *, kill_rate: float = 0.0, launch_failures: float = 0.0, delay_s: float = 0.0005) -> None:
        self.random = random.Random(seed)
        self.hub = Hub(idle_worker_s=5.0)
        self.now = 0.0
        self.kill_rate = kill_rate
        self.launch_failures = launch_failures
        self.delay_s = delay_s
        self.workers: dict[int, SimWorker] = {}
        self.plans: dict[int, Plan] = {}
        self.task_group: dict[int, int] = {}
        self.root_of: dict[int, int] = {}
        self.cap: dict[int, int] = {}
        self.max_retries: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.started: Counter[int] = Counter()
        self.executed: Counter[int] = Counter()
        self.closed: set[int] = set()
        self.peak: Counter[int] = Counter()
        self.kills = 0
        self.notes: list[str] = []
        self._ids = itertools.count(1)
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._link_free: dict[tuple[str, int], float] = {}
        self._alarm: float | None = None

    # ---- time and links ----

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def _over_link(self, link: tuple[str, int], action: Callable[[], object]) -> None:
        # A link keeps its order, whatever delay a message draws.
        at = max(self.now + self.random.uniform(0, self.delay_s), self._link_free.get(link, 0.0))
        self._link_free[link] = at
        self.after(at - self.now, action)

    def deliver_to_hub(self, peer: int, message: m.Message) -> None:
        self._over_link(("up", peer), lambda: self.feed(Received(peer, message)))

    def run(self, until: Callable[[], bool] = lambda: False, max_steps: int = 200_000) -> None:
        """Let events happen until nothing is left to happen but idle reaping, or ``until()``."""
        for _ in range(max_steps):
            if until() or not self._heap:
                return
            self.now, _, action = heapq.heappop(self._heap)
            action()
        raise AssertionError(f"still busy after {max_steps} steps: {self.hub.statistics()}")

    def feed(self, event: Event) -> None:
        """Give the hub an event and obey."""
        if isinstance(event, Received) and event.peer != DRIVER and event.peer not in self.workers:
            return  # the shell knows no such peer any more
        for command in self.hub.handle(event, self.now):
            self.obey(command)
        self.hub.check()
        alarm = self.hub.alarm_at
        if alarm is not None and (self._alarm is None or alarm < self._alarm or self._alarm <= self.now):
            self._alarm = alarm
            self.after(max(0.0, alarm - self.now), self._tick)

    def _tick(self) -> None:
        alarm = self.hub.alarm_at
        if alarm is not None and self.now >= alarm:
            self.feed(Tick())

    def obey(self, command: object) -> None:
        if isinstance(command, Send):
            self._send(command)
        elif isinstance(command, StartWorker):
            self.after(self.random.uniform(0.002, 0.01), lambda: self._launch(command.worker))
        elif isinstance(command, KillWorker):
            worker = self.workers.get(command.worker)
            if worker is not None:
                self.after(0.001, lambda: self.process_ends(worker, -9 if command.force else -15))
        elif isinstance(command, Note):
            self.notes.append(command.text)
        else:
            assert isinstance(command, Drop)

    def _send(self, command: Send) -> None:
        message = command.message
        if command.peer == DRIVER:
            self._driver_receives(message)
            return
        worker = self.workers.get(command.peer)
        if worker is not None:
            self._over_link(("down", command.peer), lambda: worker.receive(message))

    def _driver_receives(self, message: m.Message) -> None:
        if isinstance(message, m.Replies):
            for task, status in zip(message.tasks, message.statuses, strict=True):
                self.note_end(task, status)
        elif isinstance(message, m.GroupClosed):
            assert message.group not in self.closed, "told twice that a group is closed"
            self.closed.add(message.group)

    # ---- processes ----

    def _launch(self, worker_id: int) -> None:
        if self.random.random() < self.launch_failures:
            self.feed(LaunchFailed(worker_id, "no more processes"))
            return
        worker = self.workers[worker_id] = SimWorker(self, worker_id)
        self.feed(WorkerStarted(worker_id, 1000 + worker_id))
        if self.random.random() < self.kill_rate:
            self.after(self.random.uniform(0, 0.05), lambda: self.kill(worker))
        self.after(0.001, lambda: worker.alive and worker.send(m.Hello(m.WIRE_VERSION, worker_id, 1, b"")))

    def kill(self, worker: SimWorker) -> None:
        if worker.alive:
            self.kills += 1
            self.process_ends(worker, -9)

    def process_ends(self, worker: SimWorker, exitcode: int) -> None:
        if not worker.alive:
            return
        worker.alive = False
        running = tuple(frame.task for frame in worker.frames)
        received = self.hub.received_from(worker.id)
        # What the worker had handed to its socket may or may not have left; its flight record has all of it.
        records = tuple(worker.log[received:])

        def noticed() -> None:
            self.workers.pop(worker.id, None)
            self.feed(WorkerExited(worker.id, exitcode, running, records))

        self.after(self.random.uniform(0.0005, 0.002), noticed)

    # ---- the driver ----

    def new_id(self, peer: int) -> int:
        return peer << 40 | next(self._ids)

    def open_group(self, cap: int, *, private: bool = False, max_tasks: int = 0, parent: int = 0) -> int:
        group = self.new_id(DRIVER)
        self.cap[group] = cap
        self.feed(Received(DRIVER, m.OpenGroup(group, parent, 1, cap, int(private), max_tasks, b"")))
        return group

    def submit(self, peer: int, group: int, plans: list[Plan], max_retries: int = 0) -> list[int]:
        tasks = [self.new_id(peer) for _ in plans]
        for task, plan in zip(tasks, plans, strict=True):
            self.plans[task] = plan
            self.task_group[task] = group
            self.max_retries[task] = max_retries
        count = len(tasks)
        message = m.Submit(group, max_retries, [7], [b"f"], tasks, [7] * count, [b""] * count)
        if peer == DRIVER:
            self.feed(Received(DRIVER, message))
        else:
            self.deliver_to_hub(peer, message)
        return tasks

    # ---- the ledger ----

    def note_end(self, task: int, status: int) -> None:
        assert task not in self.ended, f"task {task} ended twice"
        self.ended[task] = status

    def note_start(self, task: int, worker: SimWorker) -> None:
        self.started[task] += 1
        assert self.started[task] <= 1 + self.max_retries[task], f"task {task} started {self.started[task]} times"
        running = Counter(self.task_group[w.frames[-1].task] for w in self.workers.values() if w.alive and w.computing)
        running[self.task_group[task]] += 1
        for group, count in running.items():
            self.peak[group] = max(self.peak[group], count)

    def note_pause(self, worker: SimWorker) -> None:
        assert worker.frames, "a worker paused without a task"


def statuses(world: World) -> Counter[int]:
    """How many tasks ended in each way."""
    return Counter(world.ended.values())


__all__ = ["Plan", "SimWorker", "World", "statuses", "unpack_result"]
