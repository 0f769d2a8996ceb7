"""A hub with simulated workers: fake clock, in-memory links, seeded delays and kills.

Nothing here sleeps or starts a process: events sit in a heap and time jumps from one to the next. The world keeps a
ledger of what may never happen: a task that ends twice, one that starts again without leave, more workers at once than
a group's cap, an argument freed under a task that reads it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING

from scalepool._core.commands import Drop, Inspect, KillWorker, Note, Revoke, Send, Spill, StartWorker
from scalepool._core.events import Event, Inspected, LaunchFailed, Received, Spilled, Tick, WorkerExited, WorkerStarted
from scalepool._core.hub import Hub
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from sim.worker import Plan, SimWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Plan", "SimWorker", "World", "statuses"]


class World:
    """Time, links, workers and one driver around a hub; the rates are probabilities."""

    def __init__(self, seed: int, *, kill_rate: float = 0.0, launch_failures: float = 0.0) -> None:  # noqa: PLR0915
        self.random = random.Random(seed)
        self.hub = Hub(idle_worker_s=5.0, store_limit_bytes=5 * 4096)
        self.now = 0.0
        self.kill_rate = kill_rate
        self.launch_failures = launch_failures
        self.delay_s = 0.0005
        self.worker_class: type[SimWorker] = SimWorker
        self.initializer_failures = 0.0
        self.growth = 0.0
        self.lost_objects = 0.0
        self.slow_begins = 0.0
        self.workers: dict[int, SimWorker] = {}
        self.plans: dict[int, Plan] = {}
        self.task_group: dict[int, int] = {}
        self.carries: dict[int, tuple[int, ...]] = {}
        self.cap: dict[int, int] = {}
        self.max_tasks: dict[int, int] = {}
        self.max_retries: dict[int, int] = {}
        self.limit_s: dict[int, float] = {}
        self.item_starts: Counter[tuple[int, int]] = Counter()
        self.lost_items: Counter[tuple[int, int]] = Counter()
        """How often a worker ended while it worked on this item of this task."""
        self.forced: set[int] = set()
        """Tasks that somebody wanted stopped."""
        self.hung_initializers = 0.0
        self.objects: set[int] = set()
        self.ended: dict[int, int] = {}
        self.refused: set[int] = set()
        self.started: Counter[int] = Counter()
        self.executed: Counter[int] = Counter()
        self.closed: set[int] = set()
        self.stopped: set[int] = set()
        self.peak: Counter[int] = Counter()
        self.beyond_cap: Counter[int] = Counter()
        """Tasks that started while their group ran as many as it may."""
        self.hardly_begun: set[int] = set()
        """Tasks that were written down as begun when their worker ended, and were not run."""
        self.kills = 0
        self.cuts = 0
        self.begun_cut_off = 0
        """Tasks that somebody began whose host counted as lost."""
        self.most_workers = 0
        self.spilled = 0
        self.moving: set[int] = set()
        """Objects on their way to the disk."""
        self.helped = 0
        """How often a worker in a wait was given what its wait depends on."""
        self.notes: list[str] = []
        self._ids = itertools.count(1)
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._link_free: dict[tuple[str, int], float] = {}
        self._alarm: float | None = None

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    # ---- time and links ----

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def _over_link(self, link: tuple[str, int], action: Callable[[], object]) -> None:
        # A link keeps its order, whatever delay a message draws.
        at = max(self.now + self.random.uniform(0, self.delay_s), self._link_free.get(link, 0.0))
        self._link_free[link] = at
        self.after(at - self.now, action)

    def deliver_to_hub(self, worker: SimWorker, message: m.Message) -> None:
        self._over_link(("up", worker.id), lambda: self._arrives(worker, message))

    def _arrives(self, worker: SimWorker, message: m.Message) -> None:
        if worker.is_cut_off:
            return
        if not worker.alive and self.chance(0.5):
            worker.broken = True  # what it had not handed to the kernel is lost, and so is all that came after
        if not worker.alive and worker.broken:
            return
        if (
            isinstance(message, (m.Done, m.Yield))
            and message.objects
            and self.chance(self.lost_objects if worker.alive else 0.3)
        ):
            message = message._replace(objects=[0] * len(message.objects))  # nobody could open them
        self.feed(Received(worker.id, message))

    def run(self, until: Callable[[], bool] = lambda: False, max_steps: int = 200_000) -> None:
        """Let events happen until nothing is left to happen, or ``until()``."""
        for _ in range(max_steps):
            if until() or not self._heap:
                return
            self.now, _, action = heapq.heappop(self._heap)
            action()
        raise AssertionError(f"still busy after {max_steps} steps: {self.hub.statistics()}")

    def feed(self, event: Event) -> None:
        """Give the hub an event and obey."""
        if isinstance(event, Received) and event.peer != DRIVER and event.peer not in self.workers:
            return  # the shell knows no such peer any more, or it is cut off
        for command in self.hub.handle(event, self.now):
            self._obey(command)
        self.hub.check()
        alarm = self.hub.alarm_at
        if alarm is not None and (self._alarm is None or alarm < self._alarm or self._alarm <= self.now):
            self._alarm = alarm
            heapq.heappush(self._heap, (max(self.now, alarm), next(self._order), self._tick))

    def _tick(self) -> None:
        alarm = self.hub.alarm_at
        if alarm is not None and self.now >= alarm:
            self.feed(Tick())

    def _obey(self, command: object) -> None:
        if isinstance(command, Send):
            self._send(command)
        elif isinstance(command, StartWorker):
            self.max_tasks[command.worker] = int(command.spec or b"-1")
            self.after(self.random.uniform(0.002, 0.01), lambda: self._launch(command.worker))
        elif isinstance(command, KillWorker):
            worker = self.workers.get(command.worker)
            if worker is not None:
                self.after(0.001, lambda: self.process_ends(worker, -9 if command.force else -15))
        elif isinstance(command, Inspect):
            self._inspect(command.worker, command.revocation)
        elif isinstance(command, Revoke):
            if command.worker in self.workers:
                self.workers[command.worker].revoked = command.number
        elif isinstance(command, Note):
            self.notes.append(command.text)
        elif isinstance(command, Spill):
            self._spill(command.objects)
        else:
            assert isinstance(command, Drop)
            self._note_drop(command.objects)

    def _inspect(self, worker_id: int, revocation: int) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None and worker.alive:
            items = tuple(frame.item for frame in worker.frames)
            running = tuple(frame.task for frame in worker.frames)
            records = tuple(worker.log[self.hub.received_from(worker_id) :]) if revocation else ()
            is_stopped = worker.stopped and not worker.starved
            event = Inspected(worker_id, running, items, revocation, records, is_stopped)
            self.after(0.0, lambda: self.feed(event))

    def _spill(self, objects: Sequence[int]) -> None:
        """The disk may be full, an object be read meanwhile, and each answer come late."""
        late_s = 0.0
        for one in objects:
            assert one not in self.moving, "ordered to the disk twice"
            self.moving.add(one)
            late_s += self.random.uniform(0, 0.01)
            ends = self.random.choices(("written", "failed", "read"), (8, 1, 1))[0]
            self.after(late_s, lambda one=one, ends=ends: self._spilled(one, ends))  # type: ignore[misc]

    def _spilled(self, one: int, ends: str) -> None:
        self.moving.discard(one)
        self.spilled += ends == "written"
        self.feed(Spilled(*((one,) if ends == kind else () for kind in ("written", "failed", "read"))))

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
            if message.objects:
                released = m.Release(message.objects[::4])
                self.after(self.random.uniform(0, 0.05), lambda: self.feed(Received(DRIVER, released)))
        elif isinstance(message, m.CancelAnswer):
            self.refused.update(message.refused)
        elif isinstance(message, m.GroupClosed):
            assert message.group not in self.closed, "told twice that a group is closed"
            self.closed.add(message.group)

    # ---- processes ----

    def is_private(self, worker: int) -> bool:
        return self.max_tasks[worker] >= 0

    def _launch(self, worker_id: int) -> None:
        if self.chance(self.launch_failures):
            self.feed(LaunchFailed(worker_id, "no more processes"))
            return
        worker = self.workers[worker_id] = self.worker_class(self, worker_id)
        self.most_workers = max(self.most_workers, len(self.workers))
        self.feed(WorkerStarted(worker_id, 1000 + worker_id))
        if self.chance(self.kill_rate):
            self.after(self.random.uniform(0, 0.05), lambda: self.kill(worker))
        if self.is_private(worker_id) and self.chance(self.hung_initializers):
            worker.stopped = True
        else:
            self.after(0.001, worker.says_hello)

    def kill(self, worker: SimWorker) -> None:
        if worker.alive:
            self.kills += 1
            self.process_ends(worker, -9)

    def cut_off(self, worker: SimWorker) -> None:
        """Its host is lost for the hub, which cannot look into anything; the process goes on for a while."""
        if not worker.alive:
            return  # which the hub will be told of: it was seen before
        worker.is_cut_off = True
        self.cuts += 1
        held = self.hub.may_have_begun(worker.id)
        self.hardly_begun.update(held)
        for task in held:
            self.lost_items[task, 0] += 1
        del self.workers[worker.id]  # what it reads are copies on its own host
        self.feed(WorkerExited(worker.id, None, held, reason="its host left the cluster", is_moot=True))
        self.after(self.random.uniform(0, 0.5), lambda: self.process_ends(worker, -9))

    def freeze_one(self) -> None:
        """As SIGSTOP does. Somebody lets it go on, or kills it: nothing else would free the task that it is in."""
        if not self.workers:
            return
        worker = self.random.choice(list(self.workers.values()))
        worker.stopped = True
        worker.starved = self.chance(0.3)
        if self.chance(0.7):
            self.after(self.random.choice([0.01, 0.31, 0.5]), worker.goes_on_after_sigcont)
        else:
            self.after(0.5, lambda: self.kill(worker))

    def process_ends(self, worker: SimWorker, exitcode: int) -> None:
        if not worker.alive:
            return
        worker.alive = False
        worker.broken = False
        if worker.is_cut_off:
            return
        running = tuple(frame.task for frame in worker.frames)
        items = tuple(frame.item for frame in worker.frames)
        self.hardly_begun.update(frame.task for frame in worker.frames if not frame.started)
        for frame in worker.frames:
            self.lost_items[frame.task, frame.item] += 1

        def noticed() -> None:
            if worker.is_cut_off:
                return
            # What the worker had sent may or may not have arrived; its flight record has all of it.
            unread = slice(self.hub.received_from(worker.id), None)
            records = tuple(worker.log[unread])
            saved = [made if self.chance(0.7) else (0,) * len(made) for made in worker.logged_objects[unread]]
            objects = [number for made in saved for number in made]
            records += worker.unsent_records()
            self.feed(WorkerExited(worker.id, exitcode, running, records, items, objects=objects))
            del self.workers[worker.id]

        self.after(self.random.uniform(0.0005, 0.002), noticed)

    # ---- the driver ----

    def new_id(self, peer: int) -> int:
        return peer << 40 | next(self._ids)

    def make_object(self, peer: int) -> tuple[int, int, int, int]:
        """A new object, as the four numbers that describe it."""
        object_id = self.new_id(peer)
        self.objects.add(object_id)
        return object_id, 1000 + peer, 3, 4096

    def open_group(
        self,
        cap: int,
        *,
        private: bool = False,
        max_tasks: int = 0,
        parent: int = 0,
        max_rss: int = 0,
        initializer_ms: int = 0,
    ) -> int:
        group = self.new_id(DRIVER)
        self.cap[group] = cap
        spec = b"%d" % max_tasks if private else b""
        self.feed(
            Received(DRIVER, m.OpenGroup(group, parent, 1, cap, int(private), max_tasks, spec, initializer_ms, max_rss))
        )
        return group

    def close(self, group: int, mode: CloseMode = CloseMode.DRAIN) -> None:
        if mode is not CloseMode.DRAIN:
            self.stopped.add(group)
        self.feed(Received(DRIVER, m.CloseGroup(group, mode)))

    def submit(
        self, peer: int, group: int, plans: Sequence[Plan], max_retries: int = 0, limit_s: float = 0.0
    ) -> list[int]:
        tasks = [self.new_id(peer) for _ in plans]
        objects: list[int] = []
        for task, plan in zip(tasks, plans, strict=True):
            self.plans[task] = plan
            self.task_group[task] = group
            self.max_retries[task] = max_retries
            self.limit_s[task] = limit_s
            if plan.argument:
                made = self.make_object(peer)
                objects.extend(made)
                self.carries[task] = made[:1]
        carried = [self.carries.get(task, ()) for task in tasks]
        count = len(tasks)
        message = m.Submit(
            group, max_retries, [7], [b"f"], tasks, [7] * count, [b""] * count,
            [len(each) for each in carried] if objects else [], [n for each in carried for n in each], objects,
            int(limit_s * 1000),
        )  # fmt: skip
        if peer == DRIVER:
            self.feed(Received(DRIVER, message))
        elif peer in self.workers:
            self.deliver_to_hub(self.workers[peer], message)
        return tasks

    # ---- the ledger ----

    def note_end(self, task: int, status: int) -> None:
        assert task not in self.ended, f"task {task} ended twice"
        self.ended[task] = status

    def note_start(self, task: int, worker: SimWorker) -> None:
        self.started[task] += 1
        # Each item that a worker ended at may begin its task once more.
        items = sum(count for (owner, item), count in self.lost_items.items() if owner == task and item)
        most = 1 + self.max_retries[task] + items
        assert self.started[task] <= most, f"task {task} started {self.started[task]} times"
        if worker.is_cut_off:
            self.begun_cut_off += 1
            return
        was_cancelled = self.ended.get(task) == Status.CANCELLED and not self._is_stopped(task)
        assert not was_cancelled, f"task {task} starts, but was cancelled"
        limit = self.max_tasks[worker.id]
        assert limit <= 0 or worker.begun <= limit, f"worker {worker.id} runs more than {limit} tasks"
        assert all(argument in self.objects for argument in self.carries.get(task, ()) if not self._is_stopped(task))
        running = Counter(self.task_group[w.frames[-1].task] for w in self.workers.values() if w.alive and w.computing)
        for group, count in running.items():
            self.peak[group] = max(self.peak[group], count)
        mine = self.task_group[task]
        self.beyond_cap[mine] += running[mine] > self.cap[mine]

    def note_item(self, task: int, item: int, worker: SimWorker) -> None:
        self.item_starts[task, item] += 1
        if worker.is_cut_off and self.max_retries[task]:
            return  # the task counts as begun, the item does not: it may have died of this one elsewhere meanwhile
        died = self.lost_items[task, item]
        assert died <= self.max_retries[task], f"item {item} of task {task} runs after {died} deaths"

    def _is_stopped(self, task: int) -> bool:
        """Whether its group may have been terminated, itself or with its owner: then what started is killed soon."""
        group = self.task_group[task]
        return group in self.stopped or bool(group >> 40)

    def _note_drop(self, objects: Sequence[int]) -> None:
        for object_id in objects:
            assert object_id in self.objects, f"object {object_id} dropped twice"
            self.objects.remove(object_id)
        for worker in self.workers.values():
            for frame in worker.frames if worker.alive else ():
                if not worker.will_run(frame):
                    continue
                carried = self.carries.get(frame.task, ())
                assert not set(carried) & set(objects), f"{carried} is freed under task {frame.task}, which reads it"


def statuses(world: World) -> Counter[int]:
    """How many tasks ended in each way."""
    return Counter(world.ended.values())
