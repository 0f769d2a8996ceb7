"""A simulated worker process: what a real one does, as far as the hub can see.

It runs one task at a time, logs each result before the next starts, sends results in batches, answers recalls and
wishes to cancel, waits for children of its tasks, keeps views of arguments, and dies when it is told to or when chance
says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import pack_result
from scalepool._wire.verdict import unpack_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.world import World


@dataclass(frozen=True)
class Plan:
    """What a task does: work, then perhaps wait for children of a group of its own."""

    seconds: float
    children: tuple[Plan, ...] = ()
    child_cap: int = 2
    deadly: bool = False
    first_only: bool = False
    """Wait for the first child before looking at the others."""
    argument: bool = False
    """It carries an object."""
    result: bool = False
    """It returns an object."""
    items: int = 0
    """It works on so many items, one after the other, ``seconds`` each."""
    deadly_item: int = 0
    """The one of them that kills its worker, counted from 1; 0: none."""
    stuck: bool = False
    """It never comes back; of items, the last one does not."""


@dataclass
class Frame:
    """A task inside a worker; ``waiting_for`` are the children it still waits for."""

    task: int
    attempt: int
    plan: Plan
    waiting_for: set[int] = field(default_factory=set)
    later: list[int] = field(default_factory=list)
    """Children that it will wait for in a second wait."""
    group: int = 0
    known: int = 0
    """The revocation that its worker knew of when it took the task."""
    started: bool = False
    item: int = 0
    losses: frozenset[int] = frozenset()
    helps: set[int] = field(default_factory=set)
    """Tasks of others that the hub says its wait depends on."""


class SimWorker:
    """One worker process."""

    def __init__(self, world: World, worker: int) -> None:
        self.world = world
        self.id = worker
        self.alive = True
        self.leaving = False
        self.broken = False
        self.is_cut_off = False
        """Whether its host counts as lost: nobody hears it any more, and it does not know that."""
        self.queue: deque[tuple[int, int]] = deque()
        self.losses: dict[int, frozenset[int]] = {}
        self.stopped = False
        self.starved = False
        """Whether that is for lack of a processor, as the kernel sees it."""
        """As by SIGSTOP: it does nothing until it is killed, or goes on with all that has come meanwhile."""
        self.postponed: list[Callable[[], object]] = []
        self.revocation = 0
        """The number of the last one that it took in as a message..."""
        self.revoked = 0
        """... and the one that the hub has written into its flight record."""
        self.revoked_tasks = 0
        self.frames: list[Frame] = []
        self.log: list[bytes] = []
        self.logged_objects: list[tuple[int, ...]] = []
        self.unsent: list[tuple[bytes, tuple[int, ...], tuple[int, ...]]] = []
        self.computing = False
        self.begun = 0
        self.blocks = 0

    def send(self, message: m.Message) -> None:
        self.world.deliver_to_hub(self, message)

    def says_hello(self) -> None:
        if self.alive:
            self.send(m.Hello(m.WIRE_VERSION, self.id, 1, b""))
            if self.world.chance(self.world.initializer_failures) and self.world.is_private(self.id):
                self.broken = True
                self.send(m.InitializerFailed(b"error"))

    # ---- what the hub says ----

    def receive(self, message: m.Message) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self.receive(message)):
            return
        if isinstance(message, m.Run):
            self._take(message)
        elif isinstance(message, m.Recall):
            taken = [self.queue.pop()[0] for _ in range(min(message.number, len(self.queue)))]
            self.send(m.Returned(taken[::-1], ()))
        elif isinstance(message, m.CancelTasks):
            found = [task for task, _ in self.queue if task in message.tasks]
            self.queue = deque(item for item in self.queue if item[0] not in found)
            self.send(m.Returned(found, tuple(set(message.tasks) - set(found))))
        elif isinstance(message, m.Help):
            if message.wait == self.blocks and self.frames and self.frames[-1].waiting_for:
                self.frames[-1].helps.update(message.tasks)
                self.world.helped += 1
        elif isinstance(message, m.Revoke):
            back = [task for task, _ in self.queue]
            self.queue.clear()
            self.revocation = message.number
            self.send(m.Returned(back, (), message.number))
        elif isinstance(message, m.Exit):
            self.leaving = True
        elif isinstance(message, m.Replies):
            self._children_ended(message)
        self.go_on()

    def _take(self, message: m.Run) -> None:
        # While a task waits for its children, nothing but those may run in place.
        top = self.frames[-1] if self.frames else None
        wanted = top.waiting_for | top.helps if top is not None and top.group else None
        items = list(zip(message.tasks, message.attempts, strict=True))
        for task, packed in zip(message.tasks, message.losses, strict=False):
            self.losses[task] = frozenset(unpack_losses(packed))
        self.queue.extend(item for item in items if wanted is None or item[0] in wanted)
        others = [task for task, _ in items if wanted is not None and task not in wanted]
        if others:
            self.send(m.Returned(others, ()))

    def _children_ended(self, message: m.Replies) -> None:
        for task, status in zip(message.tasks, message.statuses, strict=True):
            self.world.note_end(task, status)
            for frame in self.frames:
                frame.waiting_for.discard(task)
                if task in frame.later:
                    frame.later.remove(task)
        if message.objects:
            self.send(m.Release(message.objects[::4]))

    # ---- what it does ----

    def waits_for_sigcont(self, action: Callable[[], object]) -> bool:
        """Whether it is stopped; then it does this later."""
        if self.stopped:
            self.postponed.append(action)
        return self.stopped

    def will_run(self, frame: Frame) -> bool:
        """Whether it runs that task, or will: it was not taken back before it began."""
        return frame.started or self.revoked == frame.known

    def goes_on_after_sigcont(self) -> None:
        self.stopped = False
        postponed, self.postponed = self.postponed, []
        for number, action in enumerate(postponed):
            action()
            if self.stopped:
                self.postponed = [*postponed[number + 1 :], *self.postponed]
                return
        self.go_on()

    def go_on(self) -> None:
        """Do the next thing, as the main thread of a worker would."""
        if not self.alive or self.computing or self.stopped:
            return
        if self.frames and not self.frames[-1].waiting_for:
            self._end_wait()
        elif self.queue and not self.broken:
            known = self.revocation
            self._begin(*self.queue.popleft(), known)
        else:
            self._flush()
            if self.leaving and not self.frames:
                self.world.process_ends(self, 0)

    def _begin(self, task: int, attempt: int, known: int) -> None:
        """Write down that the task begins, and then, not at the same moment, look whether it was taken back."""
        plan = self.world.plans[task]
        self.frames.append(frame := Frame(task, attempt, plan, known=known, losses=self.losses.pop(task, frozenset())))
        self.computing = True
        if self.world.chance(self.world.slow_begins):
            self.world.after(self.world.random.uniform(0, 0.004), lambda: self._start(frame, known))
        else:
            self._start(frame, known)

    def _start(self, frame: Frame, known: int) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self._start(frame, known)):
            return
        task, plan = frame.task, frame.plan
        if self.revoked != known:
            self.frames.pop()
            self.computing = False
            self.revoked_tasks += 1
            self.send(m.Returned([task], ()))
            self.go_on()
            return
        self.begun += 1
        frame.started = True
        self.world.note_start(task, self)
        self._work(frame, plan)

    def _work(self, frame: Frame, plan: Plan) -> None:
        if plan.items:
            self._next_item(frame)
        elif plan.stuck:
            return
        elif plan.deadly:
            self.world.after(plan.seconds, lambda: self.world.process_ends(self, -11))
        else:
            self.world.after(plan.seconds, self._computed)

    def _next_item(self, frame: Frame) -> None:
        if not self.alive or self.waits_for_sigcont(lambda: self._next_item(frame)):
            return
        plan = frame.plan
        frame.item += 1
        while frame.item in frame.losses:
            frame.item += 1
        if frame.item > plan.items:
            frame.item = 0
            self._computed()
            return
        self.world.note_item(frame.task, frame.item, self)
        if frame.item == plan.deadly_item:
            self.world.after(plan.seconds, lambda: self.world.process_ends(self, -11))
        elif not (plan.stuck and frame.item == plan.items):
            self.world.after(plan.seconds, lambda: self._next_item(frame))

    def _computed(self) -> None:
        if not self.alive or self.waits_for_sigcont(self._computed):
            return
        self.computing = False
        frame = self.frames[-1]
        if not frame.plan.children:
            self._finish(frame)
            return
        parent = self.world.task_group[frame.task]
        frame.group = self.world.new_id(self.id)
        self.world.cap[frame.group] = frame.plan.child_cap
        self.send(m.OpenGroup(frame.group, parent, 1, frame.plan.child_cap, 0, 0, b""))
        tasks = self.world.submit(self.id, frame.group, list(frame.plan.children))
        self._begin_wait(frame, tasks[:1] if frame.plan.first_only else tasks)
        frame.later = tasks[1:] if frame.plan.first_only else []

    def _begin_wait(self, frame: Frame, tasks: list[int]) -> None:
        frame.waiting_for = set(tasks)
        self._return_all()
        self._flush()
        self.blocks += 1
        frame.helps.clear()
        self.send(m.Block(tasks))
        self.go_on()

    def _end_wait(self) -> None:
        frame = self.frames[-1]
        self._return_all()
        self.send(m.Unblock())
        if frame.later:
            later, frame.later = frame.later, []
            self._begin_wait(frame, later)
            return
        self.send(m.CloseGroup(frame.group, m.CloseMode.DRAIN))
        self._finish(frame)

    def _return_all(self) -> None:
        back = [task for task, _ in self.queue]
        self.queue.clear()
        self.send(m.Returned(back, ()))

    def _finish(self, frame: Frame) -> None:
        self.frames.pop()
        self.world.executed[frame.task] += 1
        made: tuple[int, ...] = ()
        if frame.plan.result:
            made = self.world.make_object(self.id)
        record, made = self._record(frame, made)
        self.log.append(record)
        self.logged_objects.append(made)
        self.unsent.append((record, made, self._views(frame)))
        if len(self.unsent) >= 4:
            self._flush()
        self.go_on()

    def _record(self, frame: Frame, made: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        micros = int(frame.plan.seconds * 1e6)
        return pack_result(frame.task, frame.attempt, Status.VALUE, len(made) // 4, micros, b""), made

    def _views(self, frame: Frame) -> tuple[int, ...]:
        """Arguments that it still maps; it lets go of them a little later."""
        kept = self.world.carries.get(frame.task, ())
        if not kept or not self.world.chance(0.3):
            return ()
        self.world.after(0.01, lambda: self._lets_go(kept))
        return kept

    def _lets_go(self, objects: tuple[int, ...]) -> None:
        if self.alive and not self.waits_for_sigcont(lambda: self._lets_go(objects)):
            self.send(m.Release(objects))

    def unsent_records(self) -> tuple[bytes, ...]:
        """What else its flight record has."""
        return ()

    def _flush(self) -> None:
        if self.unsent:
            records, made, kept = zip(*self.unsent, strict=True)
            self.send(m.Done(records, [n for each in made for n in each], [n for each in kept for n in each]))
            self.unsent = []
            if self.world.chance(self.world.growth):
                self.send(m.Memory(self.world.random.choice([10, 2000])))
