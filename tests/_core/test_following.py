"""Tasks that are given to a worker ahead of the values that it is about to make."""

from __future__ import annotations

from _core.dialogue import killed, runs, sent
from _core.test_keeping import Keeper, replies
from scalepool._core.task import TaskState
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status


class Leading(Keeper):
    """Knows by experience that a call takes microseconds, so workers are given many."""

    def __init__(self) -> None:
        super().__init__()
        warm = self.keeps()
        self.makes(self.ran_by(warm), warm)
        self.says(DRIVER, m.Release([warm]))

    def state_of(self, task: int) -> TaskState:
        return self.hub._state.tasks[task].state


def test_what_alone_waits_for_a_worker_goes_to_that_worker() -> None:
    talk = Leading()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    assert runs(talk.heard) == {worker: [second]}
    run = talk.run_of(second)
    assert (list(run.needs), run.values) == ([first], [])
    third = talk.keeps(second)
    assert runs(talk.heard) == {worker: [third]}
    talk.makes(worker, first)
    talk.makes(worker, second)
    talk.makes(worker, third)
    assert replies(talk.heard) == {third: (Status.VALUE, b"value")}


def test_of_several_that_wait_for_one_value_none_goes_ahead() -> None:
    talk = Leading()
    gate = talk.keeps()
    worker = talk.ran_by(gate)
    first = talk.keeps(gate)
    second = talk.keeps(gate)
    assert (talk.state_of(first), talk.state_of(second)) == (TaskState.ASSIGNED, TaskState.WAITING)
    talk.makes(worker, gate)
    assert talk.run_of(second).value_payloads == [b"value"]


def test_what_waits_for_two_workers_goes_to_neither() -> None:
    talk = Leading()
    one = talk.keeps()
    tasks = talk.hub._state.tasks
    other = talk.keeps()
    assert tasks[one].worker != tasks[other].worker
    assert talk.state_of(talk.keeps(one, other)) is TaskState.WAITING


def test_a_follower_that_finds_nothing_comes_back_and_waits() -> None:
    talk = Leading()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    talk.says(worker, m.Returned([second], ()))
    assert talk.state_of(second) is TaskState.WAITING
    talk.makes(worker, first, b"late")
    assert talk.run_of(second).value_payloads == [b"late"]


def test_a_follower_of_what_has_failed_fails_when_it_comes_back() -> None:
    talk = Leading()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    third = talk.keeps(second)
    talk.fails(worker, first)
    assert replies(talk.heard) == {first: (Status.ERROR, b"error")}
    talk.says(worker, m.Returned([second], ()))
    assert replies(talk.heard) == {second: (Status.ERROR, b"error")}
    talk.says(worker, m.Returned([third], ()))
    assert replies(talk.heard) == {third: (Status.ERROR, b"error")}


def test_a_follower_is_cancelled_as_any_task() -> None:
    talk = Leading()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    talk.says(DRIVER, m.Cancel([second]))
    assert [message.tasks for message in sent(talk.heard, m.CancelTasks)] == [[second]]
    talk.says(worker, m.Returned([second], ()))
    assert replies(talk.heard) == {second: (Status.CANCELLED, b"")}
    assert killed(talk.heard) == {}


def test_followers_of_a_dead_worker_wait_for_the_next_attempt() -> None:
    talk = Leading()
    first = talk.keeps(max_retries=1)
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    talk.dies(worker, first)
    assert replies(talk.heard) == {}
    other = talk.hub._state.tasks[first].worker
    assert other != worker
    talk.makes(other, first, attempt=2)
    task = talk.hub._state.tasks[second]
    talk.makes(task.worker, second)
    assert replies(talk.heard) == {second: (Status.VALUE, b"value")}


def test_followers_are_not_recalled_for_an_idle_worker() -> None:
    talk = Leading()
    task = talk.keeps()
    worker = talk.ran_by(task)
    for _ in range(30):
        task = talk.keeps(task)
    assert len(talk.hub._state.roster.workers[worker].held) == 31
    assert sent(talk.later(1.0), m.Recall) == []
