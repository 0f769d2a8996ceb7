"""Time limits of tasks, and tasks that are stopped by force, with a clock that stands still until it is moved."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, closed, ends, inspected, killed, notes, runs, sent, started, told
from scalepool._core.deadlines import CONDEMNED_GRACE_S, look_interval_s
from scalepool._core.events import WorkerExited, WorkerStarted
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.verdict import unpack_losses, unpack_verdict

LIMIT_S = 1.0


def working(
    talk: Dialogue, count: int = 1, *, cap: int = 1, limit_s: float = LIMIT_S, max_retries: int = 0
) -> tuple[int, int, list[int]]:
    """A group whose one warm worker holds ``count`` tasks with a limit."""
    group = talk.opens(cap)
    (warm,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [warm], micros=10)
    tasks = talk.submits(group, count, time_limit_ms=int(limit_s * 1000), max_retries=max_retries)
    assert runs(talk.heard) == {worker: tasks}
    return group, worker, tasks


def watch(talk: Dialogue, seconds: float, worker: int, *running: int, items: tuple[int, ...] = ()) -> dict[int, bool]:
    """Let time pass while the worker's record says this; returns whom the hub killed."""
    end = talk.now + seconds
    while talk.hub.alarm_at is not None and talk.hub.alarm_at <= end:
        said = talk.later(max(0.0, talk.hub.alarm_at - talk.now))
        if found := killed(said):
            return found
        for one in inspected(said):
            assert one == worker
            if found := killed(talk.looks(worker, *running, items=items)):
                return found
    talk.later(end - talk.now)
    return {}


def test_a_task_that_is_found_running_for_its_limit_is_killed_and_no_other_suffers() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 3)

    assert watch(talk, 0.9 * LIMIT_S, worker, tasks[0]) == {}
    assert watch(talk, 0.3 * LIMIT_S, worker, tasks[0]) == {worker: False}
    assert LIMIT_S <= talk.now <= LIMIT_S + 2 * look_interval_s(LIMIT_S)
    assert ends(talk.heard) == {}  # not before its process is gone: until then it may still finish

    said = talk.dies(worker, tasks[0], exitcode=-15)
    assert ends(said) == {tasks[0]: Status.TIMED_OUT}
    verdict = unpack_verdict(sent(said, m.Replies)[0].payloads[0])
    assert verdict.facts["limit_s"] == LIMIT_S
    (second,) = started(said)
    talk.gets_ready(second)
    assert runs(talk.heard) == {second: tasks[1:]}
    assert sent(talk.heard, m.Run)[0].attempts == [1, 1]


def test_a_limit_counts_from_the_start_of_each_task() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 3)

    for task in tasks:
        assert watch(talk, 0.9 * LIMIT_S, worker, task) == {}
        talk.finishes(worker, [task])
    assert watch(talk, 5 * LIMIT_S, worker) == {}
    assert talk.hub.statistics().assigned == 0


def test_a_limit_counts_for_each_item_of_a_task() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)

    for item in (1, 2, 3):
        assert watch(talk, 0.9 * LIMIT_S, worker, task, items=(item,)) == {}
    assert watch(talk, 1.2 * LIMIT_S, worker, task, items=(4,)) == {worker: False}
    said = talk.happens(WorkerExited(worker, -15, (task,), (), (4,)))
    (second,) = started(said)
    (run,) = sent(talk.gets_ready(second), m.Run)
    assert (list(run.tasks), list(run.attempts)) == ([task], [2])  # the rest of it goes on
    (loss,) = unpack_losses(run.losses[0]).values()
    assert (loss.item, loss.status) == (4, Status.TIMED_OUT)
    assert unpack_verdict(loss.verdict).facts["limit_s"] == LIMIT_S
    assert ends(talk.finishes(second, [task], attempt=2)) == {task: Status.VALUE}


def test_a_task_that_has_not_started_does_not_use_up_its_limit() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (blocker,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    (waiting,) = talk.submits(group, time_limit_ms=1000)
    assert watch(talk, 10.0, worker, blocker) == {}
    talk.finishes(worker, [blocker])
    assert watch(talk, 0.9, worker, waiting) == {}
    assert watch(talk, 0.3, worker, waiting) == {worker: False}


def test_a_result_that_comes_while_its_worker_is_being_killed_counts() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    assert watch(talk, 2 * LIMIT_S, worker, task) == {worker: False}
    assert ends(talk.finishes(worker, [task])) == {task: Status.VALUE}
    assert ends(talk.dies(worker, exitcode=-15)) == {}


def test_a_worker_that_ignores_the_first_signal_gets_the_second() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    watch(talk, 2 * LIMIT_S, worker, task)
    assert killed(talk.later(CONDEMNED_GRACE_S * 1.01)) == {worker: True}


def test_a_task_that_ran_too_long_is_not_tried_again() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk, max_retries=3)
    watch(talk, 2 * LIMIT_S, worker, task)
    assert ends(talk.dies(worker, task)) == {task: Status.TIMED_OUT}


def test_nobody_is_looked_at_again_and_again_for_tasks_without_a_limit() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    talk.submits(group, 3)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert inspected(talk.later(100.0)) == [worker]  # once, to see that it has begun; see revoking


def test_looking_ends_with_the_last_task_that_has_a_limit() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 2)
    talk.finishes(worker, tasks)
    assert inspected(talk.later(1.0)) == []


def test_a_task_with_a_limit_is_not_run_inside_another() -> None:
    talk = Dialogue()
    outer = talk.opens(2)
    (parent,) = talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.opens(2, peer=worker, parent=outer)
    (limited,) = talk.submits(inner, peer=worker, time_limit_ms=1000)
    (helper,) = started(talk.heard)
    assert runs(talk.says(worker, m.Block([limited]))) == {}
    talk.gets_ready(helper)
    assert runs(talk.heard) == {helper: [limited]}
    assert ends(talk.finishes(helper, [limited])) == {limited: Status.VALUE}
    assert ends(talk.says(worker, m.Unblock())) == {}
    assert ends(talk.finishes(worker, [parent])) == {parent: Status.VALUE}


@pytest.mark.parametrize("limit_s", [0.001, 0.1, 1.0, 60.0, 1e6])
def test_how_often_a_worker_is_looked_at(limit_s: float) -> None:
    assert 0.01 <= look_interval_s(limit_s) <= 0.25


# ---- stopping by force ----


def test_a_running_task_is_stopped_together_with_its_worker() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 2, limit_s=0)

    said = talk.says(DRIVER, m.Stop([tasks[0]]))
    assert inspected(said) == [worker]
    assert killed(talk.looks(worker, tasks[0])) == {worker: False}
    assert ends(talk.dies(worker, tasks[0], exitcode=-15)) == {tasks[0]: Status.CANCELLED}
    (second,) = started(talk.heard)
    talk.gets_ready(second)
    assert runs(talk.heard) == {second: tasks[1:]}


def test_a_worker_that_says_first_that_it_runs_is_looked_at_again() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk, limit_s=0)
    talk.says(DRIVER, m.Stop([task]))
    said = talk.says(worker, m.Returned([], [task]))
    assert told(said, m.CancelAnswer) == []
    assert watch(talk, 1.0, worker, task) == {worker: False}


def test_a_worker_that_says_that_it_runs_while_it_is_being_killed_changes_nothing() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk, limit_s=0)
    talk.says(DRIVER, m.Stop([task]))
    assert killed(talk.looks(worker, task)) == {worker: False}
    assert told(talk.says(worker, m.Returned([], [task])), m.CancelAnswer) == []
    assert ends(talk.dies(worker, task)) == {task: Status.CANCELLED}


def test_a_task_that_has_not_started_is_given_back_and_nobody_is_killed() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 2, limit_s=0)
    talk.says(DRIVER, m.Stop([tasks[1]]))
    talk.looks(worker, tasks[0])
    assert ends(talk.says(worker, m.Returned([tasks[1]], []))) == {tasks[1]: Status.CANCELLED}
    assert watch(talk, 1.0, worker, tasks[0]) == {}
    assert ends(talk.finishes(worker, [tasks[0]])) == {tasks[0]: Status.VALUE}


def test_a_queued_task_is_cancelled_at_once_and_one_that_is_over_is_refused() -> None:
    talk = Dialogue()
    _, worker, (over,) = working(talk, limit_s=0)
    talk.finishes(worker, [over])
    queued = talk.submits(talk.opens(1, private=True))[0]
    said = talk.says(DRIVER, m.Stop([over, queued]))
    assert ends(said) == {queued: Status.CANCELLED}
    assert [list(answer.refused) for answer in sent(said, m.CancelAnswer)] == [[over]]


def test_a_task_that_runs_inside_another_is_not_stopped() -> None:
    talk = Dialogue()
    outer = talk.opens(1)
    (parent,) = talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.opens(1, peer=worker, parent=outer)
    (child,) = talk.submits(inner, peer=worker)
    talk.says(worker, m.Block([child]))
    talk.says(worker, m.Stop([child]))
    said = talk.looks(worker, parent, child)
    assert killed(said) == {}
    assert [list(answer.refused) for answer in sent(said, m.CancelAnswer)] == [[child]]


# ---- initializers ----


def test_an_initializer_that_takes_too_long_fails_the_group_once() -> None:
    talk = Dialogue()
    group = talk.opens(2, private=True, initializer_ms=2000)
    tasks = talk.submits(group, 2)
    workers = started(talk.heard)
    for worker in workers:
        talk.happens(process_of(worker))

    assert killed(talk.later(1.9)) == {}
    assert killed(talk.later(0.2)) == dict.fromkeys(workers, False)
    said = talk.dies(workers[0], exitcode=-15)
    assert ends(said) == dict.fromkeys(tasks, Status.INITIALIZER_TIMED_OUT)
    assert started(said) == notes(said) == []
    talk.dies(workers[1], exitcode=-15)

    (late,) = talk.submits(group)
    assert ends(talk.heard) == {late: Status.INITIALIZER_TIMED_OUT}
    talk.closes(group, CloseMode.DRAIN)
    assert closed(talk.heard) == [group]


def test_an_initializer_that_ends_in_time_is_left_alone() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True, initializer_ms=2000)
    talk.submits(group)
    (worker,) = started(talk.heard)
    talk.happens(process_of(worker))
    talk.later(1.9)
    talk.gets_ready(worker)
    assert killed(talk.later(10.0)) == {}


def process_of(worker: int) -> WorkerStarted:
    return WorkerStarted(worker, 1000 + worker)
