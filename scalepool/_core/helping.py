"""What a worker does while its task waits for one that runs elsewhere: it helps that one.

A task that waits for its own children runs those in place that nobody has started. When all have started, its worker
has nothing to do, and the process would be lent for nothing: another one would have to be started for its slot. So it
takes what the tasks that it waits for wait for themselves, as far as nobody has started that, and so on down. Such a
task has to end before the wait can, so it never holds up who waits; and since everybody takes only what is below what
he waits for, nobody can wait in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import Send
from scalepool._core.groups import STARVED_S
from scalepool._core.sharing import room
from scalepool._core.task import TaskState
from scalepool._core.workers import WorkerState
from scalepool._wire.messages import Help

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["MAX_WAITS", "has_idle", "help_out", "is_crowded", "slots_for"]

MAX_WAITS: Final = 40
"""Blocking waits inside each other in one worker, beyond which it runs nothing in place: bounds its stack."""


def help_out(state: HubState) -> Iterator[tuple[Worker, Task]]:
    """Yield workers that wait and have nothing to do, each with a queued task that it may run in place.

    The caller assigns it before it asks for the next.
    """
    for worker in list(state.roster.workers.values()):
        if not worker.waits or not worker.rests or len(worker.waits) > MAX_WAITS:
            continue
        if not worker.takes_work:
            continue
        task = _below(state, worker)
        if task is not None and task.group.free_slots(state.now):
            if task.id not in worker.waits[-1].awaited:
                state.out.command(Send(worker.id, Help(worker.blocks, (task.id,))))
            yield worker, task


def _below(state: HubState, worker: Worker) -> Task | None:
    """Return a queued task that has to end before what ``worker`` waits for can, and that it can run."""
    todo = [worker.waits[-1]]
    seen = set(map(id, todo))
    while todo:
        wait = todo.pop()
        wait.awaited = [task_id for task_id in wait.awaited if task_id in state.tasks]
        for task_id in wait.awaited:
            task = state.tasks[task_id]
            if task.state is TaskState.QUEUED and _can_run(worker, task):
                return task
            maker = state.roster.workers.get(task.worker) if task.state is TaskState.ASSIGNED else None
            for other in maker.waits if maker is not None else ():
                # What began after the task did, in the same process, has to end before the task can.
                if task_id in other.below and id(other) not in seen:
                    seen.add(id(other))
                    todo.append(other)
    return None


def _can_run(worker: Worker, task: Task) -> bool:
    # One with a time limit is not run in place: to stop it would be to stop the one that waits. Nor is a stream, which
    # may have to wait for that one to read on. And the GPUs of a process that waits are still its own, so one that
    # needs some would need others.
    group = task.group
    if task.terms.time_limit_s or task.returns < 0 or group.gpus:
        return False
    return not group.private and group.key == worker.key


def slots_for(state: HubState, group: Group) -> int:
    """Return how many more workers may run tasks of ``group`` at once.

    Beyond the cap of its tree only where nobody else will run them; see ``Group.free_slots``.
    """
    free = group.free_slots(state.now)
    root = group.root
    if not free:
        return 0
    if root is group:
        return min(free, room(state, group)) if state.share else free
    left = _left(state, group)
    if left > 0:
        return min(free, left)
    return free if state.now - root.moved_at >= STARVED_S or not _will_be_run_in_place(state, group) else 0


def is_crowded(state: HubState, group: Group) -> bool:
    """Whether the tree of ``group`` has no slot left, and has not been without progress for long."""
    root = group.root
    if root is group or state.now - root.moved_at >= STARVED_S:
        return False
    return _left(state, group) <= 0


def _left(state: HubState, group: Group) -> int:
    """Return how many slots there are for ``group`` beside those whose owners are about to use them again."""
    root = group.root
    returning = _about_to_go_on(state, root)
    if group.books is not None:
        return group.books.left_beside(group, returning)
    return root.cap - root.tree_active() - len(returning)


def _about_to_go_on(state: HubState, root: Group) -> list[Worker]:
    """Return the workers of a tree that have got all that they wait for: they use their slots again in a moment."""
    return [
        worker
        for worker in state.roster.workers.values()
        if worker.waits
        and worker.waits[-1].lends
        and worker.group is not None
        and worker.group.root is root
        and not any(task_id in state.tasks for task_id in worker.waits[-1].awaited)
    ]


def _will_be_run_in_place(state: HubState, group: Group) -> bool:
    """Whether the worker that has opened ``group`` waits for tasks of it that are queued: in the end it runs them."""
    owner = state.roster.workers.get(group.owner)
    if owner is None or len(owner.waits) > MAX_WAITS or owner.state is not WorkerState.READY:
        return False
    if owner.revocation.pending:  # it is stopped, or stuck
        return False
    return any(
        task.group is group and task.state is TaskState.QUEUED and _can_run(owner, task)
        for wait in owner.waits
        for task_id in wait.awaited
        if (task := state.tasks.get(task_id)) is not None
    )


def has_idle(state: HubState, group: Group) -> bool:
    """Whether some idle worker could run tasks of ``group``, as far as its host is concerned."""
    if group.books is None or state.hosts is None or not state.roster.has_idle(group.key):
        return state.roster.has_idle(group.key)
    rooms = group.books.rooms(group, state.now)
    return any(rooms.get(worker.host, 0) > 0 for worker in state.roster.idle_of(group.key))
