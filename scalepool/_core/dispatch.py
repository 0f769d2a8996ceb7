"""Which worker gets which task, and when a worker is started or asked to give tasks back.

Runs after every event. In order: ready tasks go to workers that have room, idle ones first; where tasks remain and the
group may use more workers, workers are started; where workers remain idle, tasks are recalled from those that hold
more than they will get done soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core import credit
from scalepool._core.candidates import candidates_for
from scalepool._core.commands import Send, StartWorker
from scalepool._core.deadlines import watch
from scalepool._core.doubts import expected_back
from scalepool._core.following import attach, note_led
from scalepool._core.groups import STARVED_S, Group
from scalepool._core.helping import MAX_WAITS, has_idle, help_out, is_crowded, slots_for
from scalepool._core.ordering import may_order, may_try
from scalepool._core.revoking import PATIENCE_S, expect_answer
from scalepool._core.task import Task, TaskState
from scalepool._core.workers import Wait, Worker, WorkerState
from scalepool._wire.messages import Enter, Recall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.state import HubState

__all__ = ["Dispatcher"]


class Dispatcher:
    """Decides on assignments. All state is in HubState."""

    __slots__ = ("_state", "endings")

    def __init__(self, state: HubState) -> None:
        self._state = state
        self.endings: Endings

    # ---- assigning ----

    def dispatch(self) -> None:
        """Assign what can be assigned, start what is worth starting, recall what idle workers could do."""
        ready = self._state.ready
        if ready:
            # The deepest groups first: what runs below frees those who wait above, so processes stay few.
            groups = sorted(ready.values(), key=_depth, reverse=True) if len(ready) > 1 else list(ready.values())
            for group in groups:
                if group.queued:
                    self._serve(group)
            if groups[0].parent is not None:
                for worker, task in help_out(self._state):
                    self._run_in_place(worker, task)
            for group in groups:
                if not group.queued:
                    ready.pop(group.id, None)
                    continue
                if group.actor is not None:
                    continue
                self._grow(group)
                _watch_for_starvation(self._state, group)
        if self._state.followers:
            for worker, task in attach(self._state):
                self._assign(worker, (task,))
        if len(ready) < len(self._state.groups):
            self._rebalance()

    def _serve(self, group: Group) -> None:
        if group.actor is not None and group.actor.wants_worker:
            if may_try(self._state, group):
                self.start_worker(group)
            return
        while True:
            candidates = candidates_for(self._state, group) if group.actor is None else group.actor.candidates()
            if self._state.copies and group.actor is None:
                from scalepool._core.locality import shares  # there is a cluster

                for worker, count in shares(self._state, group, candidates):
                    self._give(worker, group, count)
            else:
                left = len(candidates)
                for worker, room in candidates:
                    if not group.queued:
                        return
                    self._give(worker, group, credit.share(group.queued, left, room))
                    left -= 1
            if not candidates or not group.gpus or group.actor is not None or not group.queued:
                return
            # Of idle workers with GPUs one at a time is a candidate: whether the next one is depends on that.

    def _give(self, worker: Worker, group: Group, count: int) -> None:
        state = self._state
        self._assign(worker, group.assign(count, worker.id))
        self._attach(worker, group)
        if worker.used_up:
            worker.state = WorkerState.LEAVING
            if (group.queued or group.started_min) and self.may_start(group):
                self.start_worker(group, replaces=worker.id)
        group.root.moved_at = state.now
        if len(worker.held) > 1 and len(group.workers) < group.cap:
            state.alarm(state.now + credit.STALE_S + 1e-4)  # see _relieve

    def _assign(self, worker: Worker, tasks: Sequence[Task]) -> None:
        held = worker.held
        if not held:
            worker.reported_at = self._state.now
            self._state.alarm(self._state.now + PATIENCE_S)
        for task in tasks:
            held[task.id] = task
        worker.assigned_total += len(tasks)
        self._state.out.assign(worker, tasks)
        if self._state.has_limits:
            watch(self._state, worker, tasks)
        if self._state.out.keeps:
            note_led(self._state, tasks)

    def _attach(self, worker: Worker, group: Group) -> None:
        if group.books is not None:
            group.books.attach(worker, group)
        if worker.waits:
            worker.waits[-1].group = group
        else:
            worker.group = group
            self._state.roster.unidle(worker)
        group.workers[worker.id] = worker
        if worker.entered.use(group.id) is None:
            worker.entered.add(group.id, True)
            root = group.root.id if group.actor is None else group.actor.home or group.id
            self._state.out.command(Send(worker.id, Enter(group.id, group.spec, root)))

    def detach(self, worker: Worker) -> None:
        """The worker holds nothing (more) for the group that it serves: it is free for others."""
        if self._state.books is not None:
            self._state.books.detach(worker)
        group = worker.serving
        if group is not None and not worker.has_work_of(group):
            if worker.waits:
                worker.waits[-1].group = None
            else:
                worker.group = None
            if not worker.is_bound_to(group):
                group.workers.pop(worker.id, None)
        is_free = not worker.held and not worker.waits and not worker.revocation.pending
        if is_free and worker.state is WorkerState.READY and not worker.is_actor:
            self._state.roster.idle(worker, self._state.now)
            self._state.alarm(self._state.now + self._state.idle_worker_s)

    # ---- starting workers ----

    def _grow(self, group: Group) -> None:
        if group.grow_at > self._state.now:
            self._state.alarm(group.grow_at)
            return
        mean_s = group.ready[0].function.mean_s
        slots = slots_for(self._state, group)
        if group.gpus:
            coming = group.starting  # and those that are idle have the wrong GPUs
            slots += coming  # they hold theirs already
        elif group.books is not None and self._state.hosts is not None:
            rooms = group.books.rooms(group, self._state.now)
            idle = self._state.roster.idle_of(group.key)
            coming = group.root.tree_starting() + sum(rooms.get(worker.host, 0) > 0 for worker in idle)
        else:
            # One that is idle still has not answered a recall; that is quicker than a start.
            coming = group.root.tree_starting() + len(self._state.roster.idle_of(group.key))
        wanted = min(credit.workers_wanted(group.queued, mean_s), slots, may_try(self._state, group))
        if wanted > coming:
            coming += expected_back(self._state, group.key)
        for _ in range(wanted - coming):
            if not self.start_worker(group):
                return

    def start_minimum(self, group: Group) -> None:
        """Start workers up to the group's cap, counting those that it may already use."""
        usable = len(self._state.roster.of_key(group.key))
        share = self._state.share or group.cap
        for _ in range(min(group.cap, group.started_min, share) - usable):
            self.start_worker(group)

    def may_start(self, group: Group) -> bool:
        """Whether one more worker, in the place of one that will leave, is within the group's cap and worth a try."""
        usable = sum(not worker.worn for worker in self._state.roster.of_key(group.key))
        return (usable < group.cap or not group.private) and may_try(self._state, group) > group.root.tree_starting()

    def start_worker(self, group: Group, replaces: int = 0, host: int = 0) -> bool:
        """Order one more worker for ``group``, perhaps in the place of another one, or on this host.

        False: what it needs from the start on, or any host, is not to be had now.
        """
        state = self._state
        worker = Worker(state.next_worker, group)
        worker.host = host
        if not may_order(state, group, worker):
            return False
        worker.replaces = replaces
        state.next_worker += 1
        group.starting += 1
        if group.actor is not None:
            group.actor.worker = worker
            if group.id in state.values.handles:
                state.values.handles[group.id] = worker.id
        state.roster.add(worker)
        if worker.gpus and group.books is not None:
            for other in group.books.in_the_way(state, worker):
                self.endings.dismiss(other)
        objects = tuple(state.objects.columns(group.references)) if group.references else ()
        state.out.command(StartWorker(worker.id, group.spec, tuple(worker.gpus), objects, worker.host))
        return True

    # ---- moving work to idle workers ----

    def _rebalance(self) -> None:
        state = self._state
        for group in state.groups.values():
            if group.assigned < 2 or group.actor is not None:
                continue
            if has_idle(state, group):
                if slots_for(state, group):
                    self._recall_for(group)
            elif state.now >= group.look_at and slots_for(state, group):
                group.look_at = state.now + credit.STALE_S
                self._relieve(group)

    def _recall_for(self, group: Group) -> None:
        victim, count = self._victim(group)
        if victim is not None:
            victim.recalled = True
            self._state.out.command(Send(victim.id, Recall(count)))
            expect_answer(self._state, victim)

    def _relieve(self, group: Group) -> None:
        """Start a worker for tasks that sit behind a long one, if nobody idle could take them.

        When they were assigned they looked short enough for fewer workers than the group may use. The long one may
        even wait for one of them.
        """
        state = self._state
        victim, _ = self._victim(group)
        if victim is None:
            return
        due = victim.reported_at + credit.STALE_S
        if state.now < due:
            state.alarm(due + 1e-4)
        elif is_crowded(state, group):  # what is stuck in a task that waits is run by that
            state.alarm(group.root.moved_at + STARVED_S + 1e-4)
        elif (
            may_try(state, group)
            and not group.root.tree_starting()
            and slots_for(state, group) > expected_back(state, group.key)
        ):
            self.start_worker(group)

    def _victim(self, group: Group) -> tuple[Worker | None, int]:
        """Say who should give back tasks, and how many; where nobody should yet, see to it that we look again."""
        state = self._state
        best, count = None, 0
        for victim in group.workers.values():
            if victim.followers:
                victim.followers.intersection_update(victim.held)
            working = len(victim.held) - len(victim.waits) - len(victim.followers)
            if victim.recalled or victim.revocation.pending or working < 2:
                continue
            task = next(reversed(victim.held.values()))
            found = credit.recall_count(working, task.function.mean_s, state.now - victim.reported_at)
            if found > count:
                best, count = victim, found
            elif not found:
                # A little later than needed: a sum of floats must not fall short of what recall_count compares with.
                state.alarm(victim.reported_at + credit.STALE_S + 1e-4)
        return best, count

    # ---- waits inside tasks ----

    def begin_wait(self, worker: Worker, wanted: Sequence[int]) -> Wait:
        """A task of ``worker`` waits: lend its slot; it may run what it waits for itself."""
        if self._state.books is not None:
            self._state.books.begin_wait(worker)
        if not worker.held:  # the task that waits was taken from it meanwhile
            self._state.roster.unidle(worker)
        wait = Wait(wanted, worker.held)
        worker.waits.append(wait)
        worker.blocks += 1
        self.serve_in_place(worker)
        return wait

    def end_wait(self, worker: Worker) -> None:
        """The wait is over; the worker has given back what it had not started."""
        if worker.waits:
            group = worker.serving
            over = worker.waits.pop()
            if self._state.books is not None:
                self._state.books.end_wait(worker, over)
            if group is not None and not worker.is_bound_to(group):
                group.workers.pop(worker.id, None)
            if not worker.held:  # the task that waited was taken from it meanwhile
                self.detach(worker)

    def serve_in_place(self, worker: Worker) -> None:
        """Give a waiting worker some of the tasks that it waits for and that nobody has started."""
        wait = worker.waits[-1]
        if not worker.takes_work or len(worker.waits) > MAX_WAITS:
            return
        wanted = wait.wanted
        given = 0
        limit = 1
        waiting: list[int] = []
        while wanted and given < limit:
            task = self._state.tasks.get(wanted[0])
            if task is not None and task.state is TaskState.WAITING:
                waiting.append(wanted.popleft())
                continue
            if task is None or task.state is not TaskState.QUEUED or task.owner != worker.id:
                wanted.popleft()
                continue
            group = task.group
            # To stop it would be to stop the one that waits, and a stream may have to wait for that one to read on.
            if task.terms.time_limit_s or task.returns < 0:  # somebody else gets it
                wanted.popleft()
                continue
            if group.private or group.key != worker.key or not _may_run_in_place(worker, group):
                break
            if not given:
                room = credit.depth(task.function.mean_s)
                limit = credit.share(group.queued, max(1, group.cap), room)
            wanted.popleft()
            self._run_in_place(worker, task)
            given += 1
        wanted.extendleft(reversed(waiting))

    def _run_in_place(self, worker: Worker, task: Task) -> None:
        group = task.group
        group.forget_queued()
        group.assigned += 1
        task.move(TaskState.ASSIGNED, worker.id)
        self._assign(worker, (task,))
        self._attach(worker, group)


def _watch_for_starvation(state: HubState, group: Group) -> None:
    root = group.root
    if root.children:
        # A little later than needed: a difference of floats must not fall short of STARVED_S.
        due = root.moved_at + STARVED_S + 1e-4
        state.alarm(due if due > state.now else state.now + STARVED_S)


def _may_run_in_place(worker: Worker, group: Group) -> bool:
    current = worker.serving
    if group.books is not None and not group.books.may_run_in_place(worker, group):
        return False
    if current is not None and current is not group:
        return False
    return current is group or group.active() < group.cap


def _depth(group: Group) -> int:
    return group.depth
