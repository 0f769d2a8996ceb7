"""What workers report, and what becomes of it."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, dropped, ends, killed, runs, sent, started, told
from scalepool._core.events import WorkerExited
from scalepool._core.reports import LOST_AFTER_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result
from scalepool.errors import ProtocolError

PLACE = (1 << 40 | 10, 1001, 3, 4096)
OBJECT = PLACE[0]


def working(
    talk: Dialogue, count: int = 1, *, private: bool = False, max_tasks: int = 0, max_retries: int = 0
) -> tuple[int, int, list[int]]:
    """A group of cap 1, its worker, and the tasks that this worker holds."""
    group = talk.opens(1, private=private, max_tasks=max_tasks)
    (warm,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [warm], micros=10)
    return group, worker, talk.submits(group, count, max_retries=max_retries)


def record(task: int, *, objects: int = 0, attempt: int = 1) -> bytes:
    return pack_result(task, attempt, Status.VALUE, objects, 5, b"v")


def test_a_result_goes_to_the_owner() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    talk.says(worker, m.Done([pack_result(task, 1, Status.ERROR, 0, 17, b"error")]))
    assert sent(talk.heard, m.Replies, DRIVER) == [m.Replies([task], [Status.ERROR], [17], [b"error"], [], [])]


@pytest.mark.parametrize("attempt", [0, 2])
def test_a_result_of_another_attempt_or_a_second_one_is_dropped(attempt: int) -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    assert ends(talk.says(worker, m.Done([record(task, attempt=attempt)]))) == {}
    assert ends(talk.says(worker, m.Done([record(task), record(task)]))) == {task: Status.VALUE}


@pytest.mark.parametrize(
    "message",
    [
        m.Done([b"short"]),
        m.Done([pack_result(1, 1, Status.CANCELLED, 0, 0, b"")]),
        m.Done([pack_result(1, 1, Status.VALUE, 0, -3, b"")]),
        m.Done([], [1, 2, 3]),
    ],
)
def test_a_damaged_report_is_refused_as_a_whole(message: m.Done) -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    with pytest.raises(ProtocolError):
        talk.says(worker, message._replace(records=[record(task), *message.records]))
    talk.hub.check()
    assert talk.hub.received_from(worker) == 1
    assert ends(talk.finishes(worker, [task])) == {task: Status.VALUE}


@pytest.mark.parametrize("message", [m.Done([]), m.Returned([], []), m.Block([]), m.Unblock(), m.Sync()])
def test_only_workers_report(message: m.Message) -> None:
    with pytest.raises(ProtocolError, match="peer 0 is not a worker"):
        Dialogue().says(DRIVER, message)


# ---- objects in results ----


def test_the_owner_holds_the_objects_of_a_result() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    talk.says(worker, m.Done([record(task, objects=1)], PLACE))
    assert sent(talk.heard, m.Replies)[0].objects == list(PLACE)
    assert dropped(talk.heard) == []
    talk.says(DRIVER, m.Release([OBJECT]))
    assert dropped(talk.heard) == [OBJECT]
    assert sent(talk.heard, m.Free, worker) == [m.Free([OBJECT])]


def test_the_objects_of_a_late_result_are_freed() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    talk.says(worker, m.Done([record(task, objects=1, attempt=7)], PLACE))
    assert dropped(talk.heard) == [OBJECT]


def test_objects_that_no_result_names_are_freed() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    talk.says(worker, m.Done([record(task)], PLACE))
    assert dropped(talk.heard) == [OBJECT]


def test_an_argument_that_the_worker_still_maps_stays_until_it_says_otherwise() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (task,) = talk.submits(group, references=[5], objects=(5, 1, 2, 3))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.says(worker, m.Done([record(task)], (), [5]))
    assert dropped(talk.heard) == []
    assert dropped(talk.says(worker, m.Release([5]))) == [5]


def test_a_lost_result_is_judged_when_its_worker_is_gone() -> None:
    talk = Dialogue()
    _, worker, (task, other) = working(talk, 2)
    talk.says(worker, m.Done([record(task, objects=1)], (0, 0, 0, 0)))
    assert ends(talk.heard) == {}
    talk.dies(worker)
    assert ends(talk.heard) == {task: Status.WORKER_DIED}
    assert b"its result was too large to be saved" in sent(talk.heard, m.Replies)[0].payloads[0]
    assert other not in ends(talk.heard)
    assert talk.hub.statistics().queued == 1


def test_a_lost_result_is_judged_although_its_worker_lives_on() -> None:
    talk = Dialogue()
    _, worker, (first, second) = working(talk, 2)
    talk.says(worker, m.Done([record(first, objects=2)], (*PLACE, 0, 0, 0, 0)))
    assert dropped(talk.heard) == [OBJECT]
    assert ends(talk.later(LOST_AFTER_S / 2)) == {}
    talk.says(worker, m.Done([record(second, objects=1)], (0, 0, 0, 0)))
    assert ends(talk.later(LOST_AFTER_S * 2)) == {first: Status.WORKER_DIED, second: Status.WORKER_DIED}
    assert b"could not be read" in sent(talk.heard, m.Replies)[0].payloads[0]
    assert talk.hub.statistics().idle == 1


def test_a_lost_result_may_be_made_again() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk, max_retries=1)
    talk.says(worker, m.Done([record(task, objects=1)]))
    talk.says(worker, m.Done([record(task, objects=1)]))
    said = talk.later(LOST_AFTER_S + 0.1)
    assert [run.attempts for run in sent(said, m.Run)] == [[2]]
    assert ends(talk.says(worker, m.Done([record(task, attempt=2)]))) == {task: Status.VALUE}


# ---- tasks that come back ----


def test_returned_tasks_are_queued_before_all_others() -> None:
    talk = Dialogue()
    _, worker, (first, second, third) = working(talk, 3)
    talk.says(worker, m.Returned([second, third, second, 99], []))
    assert ends(talk.finishes(worker, [first], micros=10)) == {first: Status.VALUE}
    talk.says(worker, m.Returned([], []))
    assert talk.hub.statistics().assigned == 2


def test_a_refusal_for_a_task_that_nobody_wanted_to_cancel_tells_nobody() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk)
    assert sent(talk.says(worker, m.Returned([], [task, 99])), m.CancelAnswer) == []


def test_a_recycled_worker_that_gave_tasks_back_may_get_others() -> None:
    talk = Dialogue()
    group, worker, tasks = working(talk, 2, private=True, max_tasks=3)
    assert runs(talk.heard) == {worker: tasks}
    talk.says(worker, m.Returned([tasks[1]], []))
    assert runs(talk.heard) == {worker: [tasks[1]]}
    assert told(talk.finishes(worker, tasks, micros=10), m.Exit) == [worker]
    assert talk.hub.group_statistics(group) is not None


def test_a_recycled_worker_leaves_after_its_last_task() -> None:
    talk = Dialogue()
    _, worker, tasks = working(talk, 5, private=True, max_tasks=3)
    assert runs(talk.heard) == {worker: tasks[:2]}
    assert len(started(talk.heard)) == 1  # its successor
    talk.finishes(worker, tasks[:2], micros=10)
    assert told(talk.heard, m.Exit) == [worker]
    assert not started(talk.heard)
    assert talk.says(worker, m.Returned([], [])) == []  # too late: it is leaving
    assert killed(talk.later(11.0)) == {worker: True}


# ---- waits ----


def test_a_waiting_task_lends_its_slot() -> None:
    talk = Dialogue()
    group, worker, (task,) = working(talk)
    (other,) = talk.submits(group)
    talk.says(worker, m.Block([]))
    assert runs(talk.heard) == {}
    talk.says(worker, m.Returned([other], []))  # sent to it before the hub knew
    assert runs(talk.heard) == {}
    (helper,) = started(talk.heard)
    talk.gets_ready(helper)
    assert runs(talk.heard) == {helper: [other]}
    talk.says(worker, m.Unblock())
    assert talk.hub.group_statistics(group).active == 2  # type: ignore[union-attr]
    talk.finishes(worker, [task])
    assert talk.hub.statistics().idle == 1


def test_an_unblock_without_a_block_changes_nothing() -> None:
    talk = Dialogue()
    _, worker, _ = working(talk)
    assert talk.says(worker, m.Unblock()) == []


# ---- the rest ----


def test_sync_tells_how_much_has_arrived() -> None:
    talk = Dialogue()
    _, worker, _ = working(talk)
    assert [run.acked for run in sent(talk.says(worker, m.Sync()), m.Run, worker)] == [1]


def test_output_goes_to_the_driver() -> None:
    talk = Dialogue()
    _, worker, _ = working(talk)
    output = m.Output(1, b"text")
    assert sent(talk.says(worker, output), m.Output, DRIVER) == [output]


def test_captured_output_goes_to_the_owner_of_its_task() -> None:
    talk = Dialogue()
    _, worker, (task,) = working(talk, 1)
    output = m.Output(1, b"text", task)
    assert sent(talk.says(worker, output), m.Output, DRIVER) == [output]
    talk.finishes(worker, [task])
    assert not sent(talk.says(worker, output), m.Output)


def test_a_result_that_could_be_saved_from_a_dead_worker_is_a_result() -> None:
    talk = Dialogue()
    _, worker, (task, other) = working(talk, 2)
    records = (record(task, objects=1),)
    talk.happens(WorkerExited(worker, -9, (), records, objects=PLACE))
    assert ends(talk.heard) == {task: Status.VALUE}
    assert sent(talk.heard, m.Replies)[0].objects == [*PLACE]
    assert dropped(talk.says(DRIVER, m.Release([OBJECT]))) == [OBJECT]
    assert other not in ends(talk.heard)


def test_a_result_of_which_one_part_could_not_be_saved_is_lost_and_no_other() -> None:
    talk = Dialogue()
    _, worker, (first, second) = working(talk, 2)
    records = (record(first, objects=2), record(second, objects=1))
    lost = (0, 0, 0, 0)
    talk.happens(WorkerExited(worker, -9, (), records, objects=(OBJECT + 1, 1, 2, 3, *lost, *PLACE)))
    assert ends(talk.heard) == {first: Status.WORKER_DIED, second: Status.VALUE}
    assert dropped(talk.heard) == [OBJECT + 1]


def test_what_was_saved_for_a_worker_that_nobody_knows_any_more_is_dropped() -> None:
    talk = Dialogue()
    talk.happens(WorkerExited(77, -9, (), (record(5, objects=1),), objects=PLACE))
    assert dropped(talk.heard) == [OBJECT]
