"""Tasks that go to a worker ahead of what they need, because that worker is about to make it.

In a chain each task needs the value of the one before. If each were sent when that value has come back, every step
would cost a round trip. So a task that alone waits for what one worker holds is given to that worker, too: it runs its
tasks in order, and has the value at hand. Where it has not, because the task before failed or was taken back, it
returns the follower, which then waits as any other.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, cast

from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING
from scalepool._core.workers import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["attach", "note_follower", "note_led"]

_UNMET_MAX: Final = 4


def note_led(state: HubState, tasks: Iterable[Task]) -> None:
    """A worker holds ``tasks``: have `attach` look at what waits for them."""
    for task in tasks:
        if task.returns:
            for value in (task.id,) if task.returns == 1 else cast("KeptTask", task).values:
                record = state.values.get(value)
                if record is not None and record.dependents is not None and len(record.dependents) == 1:
                    note_follower(state, record.dependents[0])


def note_follower(state: HubState, task: KeptTask) -> None:
    """Have `attach` look at a task that waits; one that waits for many values mostly waits for several workers.

    Calls of an actor have their order, and are not looked at.
    """
    if task.unmet <= _UNMET_MAX and task.group.actor is None:
        state.followers.append(task)


def attach(state: HubState) -> Iterator[tuple[Worker, KeptTask]]:
    """Move followers to the workers that hold what they wait for, as far as these have room; each is to be sent."""
    todo = deque(dict.fromkeys(state.followers))
    state.followers.clear()
    rooms: dict[int, int] = {}
    while todo:
        task = todo.popleft()
        worker = _leader(state, task) if task.state is TaskState.WAITING else None
        if worker is None:
            continue
        if worker.id not in rooms:
            rooms[worker.id] = worker.room(task.function.mean_s)
        if rooms[worker.id] <= 0:
            continue
        rooms[worker.id] -= 1
        task.group.waiting -= 1
        task.group.assigned += 1
        task.move(TaskState.ASSIGNED, worker.id)
        worker.followers.add(task.id)
        yield worker, task
        note_led(state, (task,))
        todo.extend(state.followers)
        state.followers.clear()


def _leader(state: HubState, task: KeptTask) -> Worker | None:
    """Return the worker that holds all that ``task`` waits for, if nobody else waits for that."""
    found = 0
    for need in task.needs:
        record = state.values.get(need)
        if record is None or record.status != PENDING:
            continue
        maker = record.maker
        if maker is None or maker.state is not TaskState.ASSIGNED or found not in (0, maker.worker):
            return None
        if maker.returns < 0:
            return None  # it runs for the sake of an item, and goes on after that
        if record.dependents is None or len(record.dependents) != 1:
            return None
        found = maker.worker
    if state.books is not None and state.books.reserved is not None:
        return None  # somebody waits for what the worker holds: it is not to go on and on
    worker = state.roster.workers.get(found)
    if worker is None or worker.state is not WorkerState.READY or worker.waits or worker.group is not task.group:
        return None
    return worker
