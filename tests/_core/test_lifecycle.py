"""Workers come, fail to come, and go."""

from __future__ import annotations

import pytest

from _core.dialogue import PID, Dialogue, closed, ends, killed, notes, runs, sent, started, told
from scalepool._core.events import WorkerExited, WorkerStarted
from scalepool._core.lifecycle import MAX_LAUNCH_FAILURES, RETRY_LAUNCH_S
from scalepool._wire import messages as m
from scalepool._wire.actors import PeerGone, WatchPeers
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import pack_result
from scalepool.errors import ProtocolError


def test_a_worker_is_welcomed_and_gets_the_task_it_was_started_for() -> None:
    talk = Dialogue()
    group = talk.opens()
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert told(talk.heard, m.Welcome) == [worker]
    assert sent(talk.heard, m.Enter) == [m.Enter(group, b"spec", group)]
    assert runs(talk.heard) == {worker: [task]}


def test_a_second_hello_changes_nothing() -> None:
    talk = Dialogue()
    (worker,) = talk.starts_workers(talk.opens(1))
    assert talk.gets_ready(worker) == []


def test_a_worker_whose_initializer_waits_may_speak_and_is_not_ready() -> None:
    talk = Dialogue()
    (task,) = talk.submits(group := talk.opens(1, private=True))
    (worker,) = started(talk.heard)
    assert talk.says(worker, m.Hello(m.WIRE_VERSION, worker, PID, b"", 0)) == []
    own = talk.opens(1, peer=worker)
    (nested,) = talk.submits(own, peer=worker)
    (helper,) = started(talk.heard)
    talk.gets_ready(helper)
    assert runs(talk.heard) == {helper: [nested]}
    talk.finishes(helper, [nested])
    talk.gets_ready(worker)
    assert runs(talk.heard) == {worker: [task]}
    assert group != own


def test_a_started_process_that_the_hub_no_longer_knows_is_no_news() -> None:
    assert Dialogue().happens(WorkerStarted(99, 1)) == []


@pytest.mark.parametrize("worker", [99, -3])
def test_news_of_the_end_of_a_worker_that_is_gone_is_ignored(worker: int) -> None:
    talk = Dialogue()
    assert talk.dies(worker) == []
    assert talk.fails_to_start(worker) == []


# ---- workers that do not start ----


def test_one_failed_launch_is_tried_again() -> None:
    talk = Dialogue()
    talk.submits(talk.opens(1))
    (worker,) = started(talk.heard)
    talk.fails_to_start(worker)
    assert len(started(talk.heard)) == 1
    assert "no more processes" in notes(talk.heard)[0]


def test_a_worker_that_dies_before_its_hello_counts_as_a_failed_launch() -> None:
    talk = Dialogue()
    talk.submits(talk.opens(1))
    talk.dies(*started(talk.heard), exitcode=3)
    assert "exit code 3" in notes(talk.heard)[0]


def test_after_too_many_failed_launches_the_tasks_fail() -> None:
    talk = Dialogue()
    talk.opens(kind=2)  # another sort of worker: none of its business
    tasks = talk.submits(talk.opens(2), 5)
    ordered, said = started(talk.heard), talk.heard
    for worker in ordered:  # grows meanwhile
        said = said + talk.fails_to_start(worker)
        ordered.extend(started(talk.heard))
    assert len(ordered) == MAX_LAUNCH_FAILURES
    assert ends(said) == dict.fromkeys(tasks, Status.WORKER_DIED)
    assert talk.hub.alarm_at is None


def test_failed_launches_do_not_hurt_a_task_that_runs_in_a_worker_about_to_leave() -> None:
    # Given a recycled worker in its last task, and a queue for which no other worker can be started
    talk = Dialogue()
    group = talk.opens(2, private=True, max_tasks=1)
    running, waiting = talk.submits(group, 2)
    first, second = started(talk.heard)
    coming = [second, *started(talk.gets_ready(first))]
    # When launches fail
    while coming:
        coming += started(talk.fails_to_start(coming.pop(0)))
    # Then only what waits fails
    assert ends(talk.heard) == {waiting: Status.WORKER_DIED}
    talk.finishes(first, [running])
    assert ends(talk.heard) == {running: Status.VALUE}


def test_launches_that_fail_while_a_worker_works_are_retried_without_haste() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    running, waiting = talk.submits(group, 2)
    first, second = started(talk.heard)
    talk.gets_ready(first)
    tries = 1
    talk.fails_to_start(second)
    while started(talk.heard):  # a shell whose engine refuses at once would never get out of here
        tries += 1
        assert tries <= MAX_LAUNCH_FAILURES
        talk.fails_to_start(started(talk.heard)[0])
    assert ends(talk.heard) == {}
    assert len(started(talk.later(RETRY_LAUNCH_S + 0.1))) == 1
    talk.finishes(first, [running])
    assert runs(talk.heard) == {first: [waiting]}


def test_launch_failures_of_a_closed_private_group_are_forgotten() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.says(DRIVER, m.Cancel([task]))
    talk.closes(group)
    talk.fails_to_start(worker)
    assert closed(talk.heard) == [group]


@pytest.mark.parametrize("closes_first", [True, False])
def test_launch_failures_of_shared_workers_that_no_group_wants_are_forgotten(closes_first: bool) -> None:
    talk = Dialogue()
    group = talk.opens(1)
    talk.submits(group)
    (worker,) = started(talk.heard)
    if closes_first:
        talk.closes(group, CloseMode.KILL)
        talk.fails_to_start(worker)
    else:
        talk.fails_to_start(worker)
        talk.closes(group, CloseMode.KILL)
    assert talk.hub._state.trouble == {}


def test_a_worker_that_dies_before_hello_lets_its_closed_private_group_end() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    (worker,) = started(talk.says(DRIVER, m.StartWorkers(group)))
    talk.closes(group)
    assert closed(talk.heard) == []
    talk.dies(worker, exitcode=1)
    assert closed(talk.heard) == [group]


# ---- initializers ----


def test_a_failed_initializer_ends_all_tasks_and_all_workers_of_its_group() -> None:
    talk = Dialogue()
    group = talk.opens(3, private=True)
    tasks = talk.submits(group, 6)
    first, second, third = started(talk.heard)
    talk.gets_ready(first)
    talk.gets_ready(second)
    talk.says(first, m.InitializerFailed(b"error"))
    assert ends(talk.heard) == dict.fromkeys(tasks, Status.INITIALIZER_FAILED)
    assert told(talk.heard, m.Exit) == [first]
    assert killed(talk.heard) == {second: False}  # it would go on with what has ended for its owner
    talk.happens(WorkerStarted(third, PID + third))
    assert killed(talk.heard) == {third: True}
    talk.dies(first, exitcode=0)
    talk.dies(second)
    talk.dies(third)
    talk.closes(group)
    assert closed(talk.heard) == [group]


def test_a_group_with_a_failed_initializer_takes_no_tasks_and_starts_no_workers() -> None:
    talk = Dialogue()
    group = talk.opens(2, private=True)
    talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.says(worker, m.InitializerFailed(b"error"))
    (late,) = talk.submits(group)
    assert sent(talk.heard, m.Replies)[0].payloads == [b"error"]
    assert ends(talk.heard) == {late: Status.INITIALIZER_FAILED}
    assert started(talk.says(DRIVER, m.StartWorkers(group))) == []
    assert talk.hub.group_statistics(group).failed  # type: ignore[union-attr]


def test_a_shared_worker_has_no_initializer() -> None:
    talk = Dialogue()
    (worker,) = talk.starts_workers(talk.opens(1))
    with pytest.raises(ProtocolError, match="shared"):
        talk.says(worker, m.InitializerFailed(b""))


# ---- private workers ----


def test_a_private_worker_that_says_hello_to_a_closed_group_is_sent_home() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    (worker,) = started(talk.says(DRIVER, m.StartWorkers(group)))
    talk.closes(group)
    talk.gets_ready(worker)
    assert told(talk.heard, m.Exit) == [worker]
    talk.dies(worker, exitcode=0)
    assert closed(talk.heard) == [group]


def test_a_worker_killed_before_it_has_a_process_is_killed_when_it_has() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    (worker,) = started(talk.says(DRIVER, m.StartWorkers(group)))
    talk.closes(group, CloseMode.TERMINATE)
    assert killed(talk.heard) == {}
    talk.later(5.0)
    talk.happens(WorkerStarted(worker, PID))
    assert killed(talk.heard) == {worker: True}
    assert talk.says(worker, m.Hello(m.WIRE_VERSION, worker, PID, b"")) == []
    talk.dies(worker)
    assert notes(talk.heard) == []  # it was not its fault
    assert closed(talk.heard) == [group]


# ---- workers that nobody uses ----


def test_an_idle_shared_worker_is_dismissed_and_then_forced() -> None:
    talk = Dialogue(idle_worker_s=30.0)
    group = talk.opens(1)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [task])
    assert told(talk.later(29.9), m.Exit) == []
    assert told(talk.later(0.2), m.Exit) == [worker]
    assert killed(talk.later(20.0)) == {worker: True}
    talk.dies(worker)
    assert talk.hub.statistics().workers == 0


def test_a_worker_that_was_busy_when_the_alarm_came_is_dismissed_later() -> None:
    talk = Dialogue(idle_worker_s=30.0)
    group = talk.opens(1)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.later(31.0)
    talk.finishes(worker, [task])
    assert told(talk.later(30.1), m.Exit) == [worker]


def test_workers_that_an_open_group_asked_for_are_kept_until_it_closes() -> None:
    talk = Dialogue(idle_worker_s=30.0)
    group = talk.opens(2)
    workers = talk.starts_workers(group)
    other = talk.opens(3)
    extra = talk.starts_workers(other)
    assert len(extra) == 1
    talk.closes(other)
    assert told(talk.later(100.0), m.Exit) == workers[:1]  # three are there, two are asked for
    talk.dies(workers[0], exitcode=0)
    talk.closes(group)
    assert sorted(told(talk.later(100.0), m.Exit)) == [workers[1], *extra]


def test_private_workers_are_not_dismissed_for_being_idle() -> None:
    talk = Dialogue(idle_worker_s=1.0)
    talk.starts_workers(talk.opens(1, private=True))
    assert told(talk.later(10.0), m.Exit) == []


def test_a_group_that_asked_for_its_workers_gets_new_ones_for_those_that_die() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    first, _ = talk.starts_workers(group)
    talk.dies(first)
    assert len(started(talk.heard)) == 1


# ---- last words ----


def test_a_dead_workers_flight_record_counts_like_messages() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    first, second = talk.submits(group, 2)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [first], micros=1)
    talk.dies(worker, records=[pack_result(second, 1, Status.VALUE, 0, 5, b"v")])
    assert ends(talk.heard) == {second: Status.VALUE}


def test_a_dead_worker_with_a_damaged_flight_record_is_buried_all_the_same() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.dies(worker, task, records=[b"scribble"])
    assert ends(talk.heard) == {task: Status.WORKER_DIED}
    assert "cannot be read" in notes(talk.heard)[0]
    assert talk.hub.statistics().workers == 0


def test_a_result_whose_object_died_with_its_maker_counts_as_started() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.dies(worker, records=[pack_result(task, 1, Status.VALUE, 1, 5, b"v")])
    assert ends(talk.heard) == {task: Status.WORKER_DIED}


def test_who_asks_is_told_of_each_worker_that_is_gone_and_the_dead_are_not() -> None:
    talk = Dialogue()
    group = talk.opens(3)
    talk.submits(group, 300)
    workers = started(talk.heard)
    for worker in workers:
        talk.gets_ready(worker)
    first, second, third = workers
    talk.says(first, WatchPeers())
    talk.says(second, WatchPeers())
    talk.dies(third)
    assert sent(talk.heard, PeerGone, first) == sent(talk.heard, PeerGone, second) == [PeerGone(third)]
    talk.dies(second)
    assert sent(talk.heard, PeerGone) == [PeerGone(second)]
    talk.dies(first)
    assert sent(talk.heard, PeerGone) == []


# ---- nobody can look what a worker was in ----


def holds_three(max_retries: int) -> tuple[Dialogue, int, list[int]]:
    """Return a talk with one worker that holds three tasks, none of which has ended as far as is known."""
    talk = Dialogue()
    group = talk.opens(1)
    (first,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [first], micros=10)
    tasks = talk.submits(group, 3, max_retries=max_retries)
    assert runs(talk.heard) == {worker: tasks}
    return talk, worker, tasks


def test_what_a_lost_host_may_have_begun_fails_where_it_may_run_once() -> None:
    talk, worker, tasks = holds_three(max_retries=0)
    assert talk.hub.may_have_begun(worker) == tuple(tasks)
    talk.happens(WorkerExited(worker, None, talk.hub.may_have_begun(worker), reason="lost", is_moot=True))
    assert ends(talk.heard) == dict.fromkeys(tasks, Status.WORKER_DIED)
    assert started(talk.heard) == []


def test_what_a_lost_host_may_have_begun_counts_as_begun_where_it_may_run_again() -> None:
    talk, worker, tasks = holds_three(max_retries=1)
    talk.happens(WorkerExited(worker, None, talk.hub.may_have_begun(worker), reason="lost", is_moot=True))
    assert ends(talk.heard) == {}
    (another,) = started(talk.heard)
    talk.gets_ready(another)
    talk.happens(WorkerExited(another, None, talk.hub.may_have_begun(another), reason="lost", is_moot=True))
    assert ends(talk.heard) == dict.fromkeys(tasks, Status.WORKER_DIED)


def test_nobody_knows_what_a_process_has_begun_that_does_not_end_when_it_is_killed() -> None:
    talk, worker, (stuck, *others) = holds_three(max_retries=0)
    talk.says(DRIVER, m.Stop([stuck]))
    talk.looks(worker, stuck)
    assert killed(talk.heard) == {worker: False}
    said = talk.later(60.0)
    assert killed(said) == {worker: True}
    assert ends(said) == {stuck: Status.CANCELLED, **dict.fromkeys(others, Status.WORKER_DIED)}


def test_of_a_worker_that_is_gone_nothing_is_known() -> None:
    assert Dialogue().hub.may_have_begun(7) == ()
