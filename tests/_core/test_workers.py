"""One worker's room for tasks, and the roster."""

from __future__ import annotations

import pytest

from scalepool._core.functions import FunctionRecord
from scalepool._core.groups import Group
from scalepool._core.task import Task
from scalepool._core.workers import Roster, Wait, Worker, WorkerState
from scalepool._wire.messages import DRIVER, OpenGroup
from scalepool.errors import ProtocolError


def make_group(number: int = 1, *, private: int = 0, max_tasks: int = 0) -> Group:
    return Group(OpenGroup(number, 0, 5, 2, private, max_tasks, b""), DRIVER, None)


def make_worker(
    number: int = 1, *, held: int = 0, max_tasks: int = 0, state: WorkerState = WorkerState.READY
) -> Worker:
    group = make_group(private=int(max_tasks > 0), max_tasks=max_tasks)
    worker = Worker(number, group)
    worker.state = state
    worker.held = {task: Task(task, group, FunctionRecord(7, b""), b"", ()) for task in range(held)}
    worker.assigned_total = held
    return worker


# mean of the function, held, waits, max_tasks -> room
ROOM = [
    (None, 0, 0, 0, 1),
    (None, 1, 0, 0, 0),
    (0.001, 0, 0, 0, 15),
    (0.001, 4, 0, 0, 11),
    (0.001, 12, 0, 0, 3),
    (0.001, 13, 0, 0, 0),  # less than a quarter is not worth a message
    (0.001, 20, 0, 0, 0),
    (0.001, 1, 1, 0, 15),  # a task that waits for its children is no work
    (0.001, 0, 1, 0, 15),
    (0.001, 2, 0, 5, 3),
    (0.001, 5, 0, 5, 0),
]


@pytest.mark.parametrize(("mean_s", "held", "waits", "max_tasks", "room"), ROOM)
def test_room(mean_s: float | None, held: int, waits: int, max_tasks: int, room: int) -> None:
    worker = make_worker(held=held, max_tasks=max_tasks)
    worker.waits = [Wait([]) for _ in range(waits)]
    assert worker.room(mean_s) == room


@pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.LEAVING, WorkerState.KILLED])
def test_only_a_ready_worker_has_room(state: WorkerState) -> None:
    assert make_worker(state=state).room(None) == 0


def test_a_worker_that_is_to_give_back_gets_nothing() -> None:
    worker = make_worker()
    worker.recalled = True
    assert worker.room(None) == 0


@pytest.mark.parametrize(("given", "max_tasks", "used_up"), [(9, 0, False), (1, 2, False), (2, 2, True)])
def test_used_up(given: int, max_tasks: int, used_up: bool) -> None:
    assert make_worker(held=given, max_tasks=max_tasks).used_up is used_up


def test_inside_a_wait_it_serves_the_group_it_works_for_in_place() -> None:
    worker, outer, inner = make_worker(), make_group(2), make_group(3)
    worker.group = outer
    assert worker.runs_for(outer)
    worker.waits.append(Wait([]))
    assert worker.serving is None
    worker.waits[-1].group = inner
    assert worker.runs_for(inner)


def test_it_forgets_a_group_wherever_it_knows_it_from() -> None:
    worker, outer, inner = make_worker(), make_group(2), make_group(3)
    worker.group = outer
    worker.waits = [Wait([]), Wait([])]
    worker.waits[0].group = inner
    worker.forget(inner)
    assert (worker.group, worker.waits[0].group) == (outer, None)
    worker.forget(outer)
    assert worker.group is None


def test_the_worker_that_was_used_last_is_taken_first() -> None:
    roster = Roster()
    first, second = make_worker(1), make_worker(2)
    for worker in (first, second):
        roster.add(worker)
        roster.idle(worker, 3.0)
    assert roster.idle_of(5) == [second, first]
    assert roster.idle_of(6) == []
    assert (roster.has_idle(5), roster.has_idle(6), roster.any_idle) == (True, False, True)
    assert first.idle_since == 3.0


def test_nobody_is_idle_after_the_last_got_something_to_do() -> None:
    roster = Roster()
    worker = make_worker()
    roster.add(worker)
    roster.idle(worker, 0.0)
    roster.unidle(worker)
    roster.unidle(worker)
    assert roster.all_idle() == []
    assert not roster.any_idle


def test_one_of_two_got_something_to_do() -> None:
    roster = Roster()
    first, second = make_worker(1), make_worker(2)
    roster.idle(first, 0.0)
    roster.idle(second, 0.0)
    roster.unidle(first)
    assert roster.all_idle() == [second]


def test_striking_off_a_worker() -> None:
    roster = Roster()
    worker = make_worker()
    roster.add(worker)
    roster.idle(worker, 0.0)
    assert roster.known(1) is worker
    assert roster.remove(1) is worker
    assert roster.remove(1) is None
    assert roster.all_idle() == []
    with pytest.raises(ProtocolError, match="peer 1 is not a worker"):
        roster.known(1)


def test_of_key_lists_those_that_live_and_stay() -> None:
    roster = Roster()
    for number, state in enumerate(WorkerState):
        roster.add(make_worker(number, state=state))
    assert [worker.state for worker in roster.of_key(5)] == [WorkerState.STARTING, WorkerState.READY]
    assert roster.of_key(4) == []


def test_its_repr_tells_how_it_stands() -> None:
    assert repr(make_worker(held=2)) == "<Worker 1 pid=0 ready held=2 waits=0>"
