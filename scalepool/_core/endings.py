"""How tasks, groups and workers end. Every task ends exactly once for its owner: here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.commands import Drop, KillWorker, Send
from scalepool._core.retry import MAX_ATTEMPTS, Verdict, after_death, without_item
from scalepool._core.task import KeptTask, Task, TaskState
from scalepool._core.workers import Worker, WorkerState
from scalepool._wire.messages import DRIVER, CancelAnswer, CancelTasks, CloseMode, Exit, GroupClosed, Status
from scalepool._wire.verdict import Loss, pack_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._core.actors import Actors
    from scalepool._core.groups import Group
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._wire.records import Part

__all__ = ["FORCE_AFTER_S", "GONE_AFTER_S", "Autopsy", "Endings", "begin_again", "keep_arguments"]

_ASSIGNED: Final = TaskState.ASSIGNED
_ENDED: Final = TaskState.ENDED
_WAITING: Final = TaskState.WAITING
FORCE_AFTER_S = 1.0
"""Time between the signal that a killed worker may handle and the one that it cannot."""
GONE_AFTER_S = 2.0
"""A process that is not gone so long after SIGKILL sits in the kernel; nobody waits for it any longer."""


class Autopsy(NamedTuple):
    """What is known of a worker that will not finish its tasks.

    Attributes
    ----------
    pid, exitcode
        The process and how it ended; see ``WorkerExited``.
    running
        The tasks that it had started, and the item that each worked on.
    lost
        Those of them that had ended, and whose results went with the worker's memory.
    reason
        What it ended of, where that is not in the exit code.
    report
        As in ``WorkerExited``.
    """

    pid: int
    exitcode: int | None = None
    running: Mapping[int, int] = {}
    reason: str = ""
    report: bytes = b""
    lost: Sequence[int] = ()

    def verdict(self, task: Task, item: int = 0) -> bytes:
        """Return what the owner of ``task`` is told."""
        attempt = 1 + task.terms.tried.count(item) if item else task.attempt
        reason = self.reason
        if not reason and task.id in self.lost:
            reason = "it had ended, but its result was too large to be saved from the memory of its worker"
        elif not reason and self.running and task.id != next(reversed(self.running)):
            reason = "it ended in a task that this one waited for, and that ran in the same process meanwhile"
        facts = {"pid": self.pid, "exitcode": self.exitcode, "attempt": attempt, "reason": reason, "task": task.id}
        return pack_verdict({**facts, "item": item, "limit_s": task.terms.time_limit_s}, self.report, task.payload)


def begin_again(task: Task, state: HubState) -> None:
    """Count another attempt."""
    task.attempt += 1
    if task.cancelling and task.returns >= 0:  # too late for that: it had started
        task.cancelling = False
        state.out.command(Send(task.owner, CancelAnswer((task.id,))))


class Endings:
    """Ends tasks, groups and workers. All state is in HubState."""

    __slots__ = ("_state", "actors", "keeping")

    def __init__(self, state: HubState) -> None:
        self._state = state
        self.keeping: Keeping
        self.actors: Actors

    # ---- tasks ----

    def finish(
        self,
        task: Task,
        status: int,
        micros: int,
        payload: bytes,
        objects: Sequence[int] = (),
        parts: Sequence[Part] = (),
    ) -> None:
        """End ``task`` and tell its owner, or whoever holds what it made."""
        state = self._state
        group = task.group
        workers = state.roster.workers
        if task.state is _ASSIGNED:
            group.assigned -= 1
            worker = workers.get(task.worker)
            if worker is not None:
                worker.held.pop(task.id, None)
        elif task.state is _WAITING:
            group.waiting -= 1
        else:
            group.forget_queued()
        task.move(_ENDED)
        del state.tasks[task.id]
        group.root.moved_at = state.now
        owner = group.owner
        if task.returns:
            self.keeping.ended(task, status, payload, objects, parts)  # type: ignore[arg-type]  # a KeptTask
        elif owner == DRIVER or owner in workers:
            if parts:
                payload = parts[0].payload
                state.values.hold(owner, parts[0].references)  # until the owner's Hold, or Release
            state.out.reply(owner, task.id, status, micros, payload, objects)
            if objects:
                state.objects.hold(owner, objects)
        if task.references:
            self.unpin(task.references)
        if objects:
            # Held by the owner of the task from here on, or free at once if that owner is gone.
            self.free(state.objects.unpin(objects))
        if group.closing is not None:
            self.close_if_done(group)

    def unpin(self, references: Sequence[int]) -> None:
        """A task that carried these objects and values has ended."""
        self.free(self._state.objects.unpin(references))
        if len(self._state.values):
            self.keeping.let_go(self._state.values.unpin(references))

    def requeue(self, tasks: Sequence[Task]) -> None:
        """Put tasks that came back before all others of their groups, in the order given.

        Those that are to be cancelled end here: they have not started.
        """
        for task in reversed(tasks):
            if task.cancelling:
                self.finish(task, Status.CANCELLED, 0, b"")
                continue
            task.group.assigned -= 1
            if isinstance(task, KeptTask) and task.needs:
                self.keeping.came_back(task)
                continue
            task.move(TaskState.QUEUED)
            task.group.push_front(task)
            self._state.ready[task.group.id] = task.group

    def judge(self, tasks: Sequence[Task], autopsy: Autopsy) -> None:
        """Decide what becomes of tasks that their worker will not finish."""
        requeue = []
        started = autopsy.running
        for task in tasks:
            terms = task.terms
            item = started.get(task.id, 0)
            if item and self._goes_on(task, item, Status.WORKER_DIED, autopsy):
                requeue.append(task)
                continue
            verdict = after_death(started=task.id in started, attempt=task.attempt, max_retries=terms.max_retries)
            if verdict is Verdict.FAIL:
                self.finish(task, Status.WORKER_DIED, 0, autopsy.verdict(task, started[task.id]))
                continue
            if verdict is Verdict.RETRY:
                begin_again(task, self._state)
            requeue.append(task)
        self.requeue(requeue)

    def _goes_on(self, task: Task, item: int, status: Status, autopsy: Autopsy) -> bool:
        """Whether a task that has many items can go on although its worker ended at ``item``; it is made ready to."""
        terms = without_item(task.terms, Loss(item, status, autopsy.verdict(task, item)))
        if terms is None or task.attempt >= MAX_ATTEMPTS:
            return False
        task.terms = terms
        self._state.out.has_losses = True
        begin_again(task, self._state)
        return True

    def free(self, freed: Sequence[tuple[int, int]]) -> None:
        """Let go of objects that nobody needs."""
        if freed:
            self._state.out.free([pair for pair in freed if pair[0] == DRIVER or pair[0] in self._state.roster.workers])
            self._state.out.command(Drop(tuple(object_id for _, object_id in freed)))

    # ---- groups ----

    def close(self, group: Group, mode: CloseMode) -> None:
        """No more tasks come; with TERMINATE or KILL what is there ends now."""
        if group.closing is None or mode > group.closing:
            group.closing = mode
        if mode is not CloseMode.DRAIN:
            doomed = self._workers_to_kill(group)
            keep_arguments(self._state, doomed)
            for child in list(group.children.values()):
                self.close(child, mode)
            self.stop(group, Status.CANCELLED, b"", doomed, force=mode is CloseMode.KILL)
        self.close_if_done(group)

    def fail(self, group: Group, failed: Worker, error: bytes) -> None:
        """The initializer raised in ``failed``: the group's tasks can run nowhere, now or later."""
        self.fail_as(group, failed, Status.INITIALIZER_FAILED, error)

    def fail_as(self, group: Group, failed: Worker, status: Status, payload: bytes) -> None:
        """End all tasks of ``group``, those to come too, as ``status``."""
        group.failure = (status, payload)
        doomed = [worker for worker in self._workers_to_kill(group) if worker is not failed]
        keep_arguments(self._state, doomed)
        self.stop(group, status, payload, doomed, force=False)

    def stop(self, group: Group, status: Status, payload: bytes, doomed: Sequence[Worker], *, force: bool) -> None:
        """End all unfinished tasks of ``group``, and the workers that are in one."""
        state = self._state
        left: dict[int, list[int]] = {}
        for task in [task for task in state.tasks.values() if task.group is group]:
            if task.state is _ENDED:
                continue  # it needed what another one of them was to make
            if task.state is TaskState.ASSIGNED:
                left.setdefault(task.worker, []).append(task.id)
                if (worker := state.roster.workers.get(task.worker)) is not None:  # else it has just died
                    worker.abandon(task, state.objects)
            self.finish(task, status, 0, payload)
        for worker in doomed:
            left.pop(worker.id, None)
            self.kill(worker, force=force)
        for worker_id, tasks in left.items():
            state.out.command(Send(worker_id, CancelTasks(tasks)))

    def _workers_to_kill(self, group: Group) -> list[Worker]:
        if group.private:
            return [worker for worker in self._state.roster.workers.values() if worker.key == group.key]
        # A shared worker whose task of another group waits for this one's (its own nested pool) must live.
        return [worker for worker in group.workers.values() if worker.group is group or not worker.waits]

    def abort_queued(self, group: Group, status: Status, payload: bytes) -> None:
        """End all tasks of ``group`` that no worker has."""
        # One that left the queue another way and came back is in the deque twice.
        for task in dict.fromkeys(task for task in group.ready if task.state is TaskState.QUEUED):
            self.finish(task, status, 0, payload)
        if group.waiting:
            for task in [task for task in self._state.tasks.values() if task.group is group]:
                if task.state is _WAITING:
                    self.finish(task, status, 0, payload)

    def abort_died(self, group: Group, autopsy: Autopsy) -> None:
        """End all tasks of ``group`` that no worker has: none of its workers can be started."""
        if group.actor is not None:
            self.actors.never_started(group, autopsy)
            return
        for task in dict.fromkeys(task for task in group.ready if task.state is TaskState.QUEUED):
            self.finish(task, Status.WORKER_DIED, 0, autopsy.verdict(task))

    def close_if_done(self, group: Group) -> None:
        """Tell the owner of a closed group when its last task has ended and its own workers are gone."""
        state = self._state
        if group.closing is None or group.unfinished or group.id not in state.groups:
            return
        if group.private:
            left = [worker for worker in state.roster.workers.values() if worker.key == group.key]
            for worker in left:
                self.dismiss(worker)
            if left:
                return
        self._strike(group)
        if group.owner == DRIVER or group.owner in state.roster.workers:
            state.out.command(Send(group.owner, GroupClosed(group.id)))

    def _strike(self, group: Group) -> None:
        state = self._state
        del state.groups[group.id]
        state.ready.pop(group.id, None)
        if group.actor is not None:
            self.actors.struck(group.actor)
        if group.parent is not None:
            group.parent.children.pop(group.id, None)
        if state.trouble and not any(other.key == group.key for other in state.groups.values()):
            state.trouble.pop(group.key, None)
        if group.references:
            self.unpin(group.references)
        if group.started_min:  # the workers that it kept from being dismissed
            state.alarm(state.now + state.idle_worker_s)
        for worker in group.workers.values():
            worker.forget(group)

    # ---- workers ----

    def dismiss(self, worker: Worker) -> None:
        """Let a worker go when it has nothing left to do."""
        if worker.state in (WorkerState.READY, WorkerState.LEAVING) and not worker.held:
            if worker.state is WorkerState.LEAVING and worker.force_at is not None:
                return
            worker.state = WorkerState.LEAVING
            # A worker that does not leave when told to is stuck in somebody's exit handler: it is killed later.
            worker.force_at = self._state.now + 10 * FORCE_AFTER_S
            self._state.alarm(worker.force_at)
            self._state.roster.unidle(worker)
            self._state.out.command(Send(worker.id, Exit()))

    def kill(self, worker: Worker, *, force: bool, grace_s: float = FORCE_AFTER_S) -> None:
        """Kill a worker now; what else it held goes back to its queue when it is gone.

        Without ``force`` by a signal that it may handle, and ``grace_s`` seconds later by the other.
        """
        if worker.state is WorkerState.KILLED and not force:
            return
        worker.state = WorkerState.KILLED
        self._state.roster.unidle(worker)
        if worker.pid:
            self._state.out.command(KillWorker(worker.id, force))
        if not force:
            worker.force_at = self._state.now + grace_s
            self._state.alarm(worker.force_at)
        elif worker.pid:
            worker.gone_by = self._state.now + GONE_AFTER_S
            self._state.alarm(worker.gone_by)

    def force_the_stubborn(self) -> None:
        """Kill for good those who outlived their time."""
        for worker in self._state.roster.workers.values():
            if worker.force_at is None:
                continue
            if self._state.now >= worker.force_at:
                worker.force_at = None
                self.kill(worker, force=True)
            else:
                self._state.alarm(worker.force_at)

    def lose(self, worker: Worker, autopsy: Autopsy) -> None:
        """The worker is gone: judge each task that it held."""
        state = self._state
        held, worker.held = list(worker.held.values()), {}
        again = []
        for task in held:
            if task.id in worker.condemned:
                status, item = worker.condemned[task.id]
                if item and status is Status.TIMED_OUT and self._goes_on(task, item, status, autopsy):
                    again.append(task)
                    continue
                payload = autopsy.verdict(task, item) if status is Status.TIMED_OUT else b""
                self.finish(task, status, 0, payload)
        left = [task for task in held if task.id not in worker.condemned]
        if worker.is_actor:
            self.actors.lost(worker, state.groups[-worker.key], left, autopsy)
        else:
            self.judge(left, autopsy)
        self.requeue(again)
        if state.books is not None:
            state.books.lose(worker)
        self.keeping.disinherit(worker)
        self.actors.forsake(worker.id)
        for group in list(state.groups.values()):
            group.workers.pop(worker.id, None)
            if group.owner == worker.id:
                self.close(group, CloseMode.TERMINATE)
        self.free([*state.objects.unpin(worker.guarded), *state.objects.forget_peer(worker.id)])
        state.functions.pop(worker.id, None)


def keep_arguments(state: HubState, doomed: Sequence[Worker]) -> None:
    """See to it that no argument's memory gets other contents while a task that will be killed can read it."""
    for worker in doomed:
        for task in worker.held.values():
            # Not held: a view of an earlier task, which the worker has just let go of, would take that away.
            state.objects.pin(task.references)
            worker.guarded.extend(task.references)
