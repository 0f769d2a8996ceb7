"""The transition table of a task."""

from __future__ import annotations

import itertools

import pytest

from scalepool._core.functions import FunctionRecord
from scalepool._core.groups import Group
from scalepool._core.task import IllegalTransition, KeptTask, Task, TaskState
from scalepool._wire.messages import DRIVER, OpenGroup

LEGAL = {
    (TaskState.WAITING, TaskState.QUEUED),
    (TaskState.WAITING, TaskState.ASSIGNED),
    (TaskState.WAITING, TaskState.ENDED),
    (TaskState.ASSIGNED, TaskState.WAITING),
    (TaskState.QUEUED, TaskState.ASSIGNED),
    (TaskState.QUEUED, TaskState.WAITING),
    (TaskState.QUEUED, TaskState.ENDED),
    (TaskState.ASSIGNED, TaskState.QUEUED),
    (TaskState.ASSIGNED, TaskState.ENDED),
}
ROUTES: dict[TaskState, tuple[TaskState, ...]] = {
    TaskState.WAITING: (),
    TaskState.QUEUED: (),
    TaskState.ASSIGNED: (TaskState.ASSIGNED,),
    TaskState.ENDED: (TaskState.ENDED,),
}


def task_in(state: TaskState) -> Task:
    group = Group(OpenGroup(1, 0, 1, 1, 0, 0, b""), DRIVER, None)
    task = KeptTask(5, group, FunctionRecord(7, b"f"), b"", ())
    if state is TaskState.WAITING:
        task.state = state
    for step in ROUTES[state]:
        task.move(step, worker=3)
    return task


@pytest.mark.parametrize(("before", "after"), list(itertools.product(TaskState, TaskState)))
def test_transitions(before: TaskState, after: TaskState) -> None:
    task = task_in(before)
    if (before, after) in LEGAL:
        task.move(after, worker=9)
        assert (task.state, task.worker) == (after, 9)
    else:
        held_by = task.worker
        with pytest.raises(IllegalTransition, match=f"task 5 cannot go from {before.value} to {after.value}"):
            task.move(after, worker=9)
        assert (task.state, task.worker) == (before, held_by)


def test_leaving_a_worker_forgets_it() -> None:
    task = task_in(TaskState.ASSIGNED)
    task.move(TaskState.QUEUED)
    assert task.worker == 0


def test_its_repr_tells_where_it_is() -> None:
    assert repr(task_in(TaskState.ASSIGNED)) == "<Task 5 assigned attempt=1 worker=3>"


def test_a_kept_task_makes_values_with_consecutive_ids() -> None:
    task = task_in(TaskState.QUEUED)
    assert isinstance(task, KeptTask)
    task.returns = 3
    assert list(task.values) == [5, 6, 7]
    assert Task.returns == 0
