"""Queues and slots of groups, and of trees of groups."""

from __future__ import annotations

import pytest

from scalepool._core.functions import FunctionRecord
from scalepool._core.groups import STARVED_S, Group
from scalepool._core.task import Task, TaskState
from scalepool._core.workers import Wait, Worker
from scalepool._wire.messages import DRIVER, OpenGroup

FUNCTION = FunctionRecord(7, b"f")


def make_group(
    number: int = 1, *, cap: int = 2, parent: Group | None = None, private: int = 0, max_tasks: int = 0
) -> Group:
    return Group(OpenGroup(number, 0, 5, cap, private, max_tasks, b""), DRIVER, parent)


def make_task(group: Group, number: int) -> Task:
    return Task(number, group, FUNCTION, b"", ())


def serve(group: Group, count: int, first: int = 1) -> list[Worker]:
    workers = [Worker(number, group) for number in range(first, first + count)]
    for worker in workers:
        worker.group = group
        group.workers[worker.id] = worker
    return workers


def test_tasks_leave_in_the_order_they_came_and_returned_ones_first() -> None:
    group = make_group()
    first, second, third = (make_task(group, number) for number in (1, 2, 3))
    group.push([second])
    group.push([third])
    group.push_front(first)
    assert group.assign(3, 7) == [first, second, third]
    assert (group.queued, group.assigned) == (0, 3)


def test_a_task_that_left_by_another_way_is_passed_over() -> None:
    group = make_group()
    first, second = make_task(group, 1), make_task(group, 2)
    group.push([first])
    group.push([second])
    first.move(TaskState.ENDED)
    group.forget_queued()
    assert group.assign(1, 7) == [second]
    assert group.queued == 0


def test_the_queue_lets_go_of_everything_when_the_last_task_left() -> None:
    group = make_group()
    task = make_task(group, 1)
    group.push([task])
    task.move(TaskState.ENDED)
    group.forget_queued()
    assert not group.ready


@pytest.mark.parametrize(("private", "key"), [(0, 5), (1, -1)])
def test_private_groups_have_a_key_of_their_own(private: int, key: int) -> None:
    assert make_group(private=private).key == key


def test_only_private_workers_are_recycled() -> None:
    assert make_group(max_tasks=3).max_tasks == 0
    assert make_group(max_tasks=3, private=1).max_tasks == 3


def test_a_cap_is_at_least_one() -> None:
    assert make_group(cap=0).cap == 1


@pytest.mark.parametrize(("active", "free"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_free_slots_of_a_group_alone(active: int, free: int) -> None:
    group = make_group(cap=2)
    serve(group, active)
    assert group.free_slots(0.0) == free


# root cap 2, child cap 2: (active in root, active in child, seconds without progress) -> free slots of (root, child)
TREE = [
    (0, 0, 0.0, 2, 2),
    (1, 0, 0.0, 1, 1),
    (2, 0, 0.0, 0, 1),  # the child may always run one
    (1, 1, 0.0, 0, 0),
    (0, 2, 0.0, 0, 0),
    (0, 2, STARVED_S, 1, 0),
    (1, 1, STARVED_S, 1, 1),  # starved: one more
    (2, 1, STARVED_S, 0, 1),
]


@pytest.mark.parametrize(("in_root", "in_child", "idle_s", "free_root", "free_child"), TREE)
def test_free_slots_in_a_tree(in_root: int, in_child: int, idle_s: float, free_root: int, free_child: int) -> None:
    root = make_group(1)
    child = make_group(2, parent=root)
    serve(root, in_root)
    serve(child, in_child, first=10)
    assert (root.free_slots(idle_s), child.free_slots(idle_s)) == (free_root, free_child)


def test_a_worker_that_waits_lends_its_slot() -> None:
    group = make_group(cap=1)
    (worker,) = serve(group, 1)
    worker.waits.append(Wait([]))
    assert (group.active(), group.free_slots(0.0)) == (0, 1)


def test_starting_workers_are_counted_over_the_tree() -> None:
    root = make_group(1)
    child = make_group(2, parent=root)
    root.starting, child.starting = 1, 2
    assert (root.tree_starting(), child.tree_starting()) == (3, 2)
    assert (child.depth, child.root, root.children) == (1, root, {2: child})


def test_its_repr_counts() -> None:
    assert repr(make_group()) == "<Group 1 cap=2 queued=0 assigned=0 workers=0>"
