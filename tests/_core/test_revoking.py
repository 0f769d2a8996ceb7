"""What is taken back from a worker that does not answer, and when it is trusted again."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, ends, runs, sent, started, told
from scalepool._core.commands import Command, Inspect, Revoke
from scalepool._core.events import Inspected
from scalepool._core.revoking import PATIENCE_S, SETTLE_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from scalepool._wire.records import pack_result


class Story:
    """Two workers, of which one holds three tasks, and the other one has nothing to do."""

    def __init__(self) -> None:
        self.talk = talk = Dialogue()
        self.group = talk.opens(2)
        self.stuck, self.other = talk.starts_workers(self.group)
        (warm,) = talk.submits(self.group)
        (worker,) = runs(talk.heard)
        talk.finishes(worker, [warm], micros=4000)
        self.stuck, self.other = worker, ({self.stuck, self.other} - {worker}).pop()
        self.tasks = talk.submits(self.group, 6)
        given = runs(talk.heard)
        self.held = given[self.stuck]
        talk.finishes(self.other, given[self.other], micros=4000)
        assert len(self.held) == 3

    def waits(self, seconds: float) -> list[Command]:
        return self.talk.later(seconds)

    def record(self, *running: int, finished: tuple[int, ...] = (), number: int = 1) -> dict[int, list[int]]:
        """What the stuck worker's flight record says when the hub asks for it; returns who gets which tasks then."""
        records = tuple(pack_result(task, 1, Status.VALUE, 0, 10, b"") for task in finished)
        return runs(self.talk.happens(Inspected(self.stuck, running, (0,) * len(running), number, records)))


def test_a_recall_that_is_not_answered_becomes_a_revocation() -> None:
    story = Story()
    assert sent(story.talk.heard, m.Recall) != []
    said = story.waits(PATIENCE_S * 0.9)
    assert not any(isinstance(command, Revoke) for command in said)
    said = story.waits(PATIENCE_S * 0.2 + SETTLE_S)
    assert [command for command in said if isinstance(command, Revoke)] == [Revoke(story.stuck, 1)]
    assert [command for command in said if isinstance(command, Inspect)][-1] == Inspect(story.stuck, 1)
    assert told(said, m.Revoke) == [story.stuck]


def test_the_number_is_written_before_anybody_looks() -> None:
    story = Story()
    kinds = [type(one) for one in story.waits(2 * PATIENCE_S)]
    assert kinds.index(Revoke) < kinds.index(Inspect)


def test_what_has_not_begun_runs_elsewhere_at_once() -> None:
    story = Story()
    story.waits(2 * PATIENCE_S)
    assert story.record(story.held[0]) == {story.other: story.held[1:]}


def test_what_is_finished_but_was_not_reported_is_not_taken_back() -> None:
    story = Story()
    story.waits(2 * PATIENCE_S)
    assert story.record(story.held[1], finished=(story.held[0],)) == {story.other: story.held[2:]}
    assert ends(story.talk.finishes(story.stuck, story.held[:2])) == dict.fromkeys(story.held[:2], Status.VALUE)


def test_what_was_reported_finished_but_whose_result_is_lost_is_not_taken_back() -> None:
    story = Story()
    lost = pack_result(story.held[0], 1, Status.VALUE, 1, 10, b"")
    story.talk.says(story.stuck, m.Done([lost], [0, 0, 0, 0]))
    story.waits(2 * PATIENCE_S)
    assert story.record(story.held[1]) == {story.other: story.held[2:]}


def test_a_record_that_cannot_be_read_leaves_all_where_it_is() -> None:
    story = Story()
    story.waits(2 * PATIENCE_S)
    event = Inspected(story.stuck, (story.held[0],), (0,), 1, (b"?",))
    assert runs(story.talk.happens(event)) == {}


def test_a_look_that_was_ordered_before_the_number_was_written_proves_nothing() -> None:
    story = Story()
    story.waits(2 * PATIENCE_S)
    assert story.record(story.held[0], number=0) == {}


def test_it_gets_nothing_until_it_has_answered() -> None:
    story = Story()
    talk = story.talk
    story.waits(2 * PATIENCE_S)
    story.record(story.held[0])
    talk.finishes(story.stuck, story.held[:1])  # it goes on...
    more = talk.submits(story.group, 40)
    assert story.stuck not in runs(talk.heard)
    talk.says(story.stuck, m.Returned((), ()))  # ... answers the recall...
    assert story.stuck not in runs(talk.heard)
    talk.says(story.stuck, m.Returned(story.held[1:], (), 1))  # ... and gives back what it has no more
    assert set(runs(talk.heard)) == {story.stuck}
    assert set(runs(talk.heard)[story.stuck]) <= set(more)


def test_what_it_gives_back_although_it_was_seen_to_begin_runs_elsewhere() -> None:
    story = Story()
    story.waits(2 * PATIENCE_S)
    story.record(*story.held[:2])
    again = story.talk.says(story.stuck, m.Returned([story.held[1]], ()))
    assert runs(again) == {story.other: [story.held[1]]}


def test_one_that_has_begun_nothing_is_replaced() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (worker,) = talk.starts_workers(group)
    (task,) = talk.submits(group)
    said = talk.later(2 * PATIENCE_S)
    assert [command for command in said if isinstance(command, Inspect)] == [Inspect(worker)]
    talk.looks(worker)
    talk.later(2 * SETTLE_S)
    (successor,) = started(talk.happens(Inspected(worker, (), (), 1, is_stopped=True)))
    assert runs(talk.gets_ready(successor)) == {successor: [task]}
    talk.says(worker, m.Returned([], (), 1))
    assert ends(talk.finishes(successor, [task])) == {task: Status.VALUE}


def test_one_that_runs_a_long_task_is_left_in_peace() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (worker,) = talk.starts_workers(group)
    (task,) = talk.submits(group)
    talk.later(2 * PATIENCE_S)
    talk.looks(worker, task)
    said = talk.later(100.0)
    assert not any(isinstance(command, (Revoke, Inspect)) for command in said)


@pytest.mark.parametrize("begun", [True, False])
def test_a_cancel_that_is_not_answered_cancels_what_has_not_begun(begun: bool) -> None:
    story = Story()
    talk, task = story.talk, story.held[1]
    talk.says(DRIVER, m.Cancel([task]))
    story.waits(2 * PATIENCE_S)
    story.record(*(story.held[: 2 if begun else 1]))
    assert ends(talk.heard) == ({} if begun else {task: Status.CANCELLED})
    assert sent(talk.heard, m.CancelAnswer) == ([m.CancelAnswer((task,))] if begun else [])


def test_what_comes_back_late_is_not_what_the_worker_was_given_again() -> None:
    # Given a worker that was stopped right before it began a task, which was taken back, and given to it again
    talk = Dialogue()
    group = talk.opens(1)
    (worker,) = talk.starts_workers(group)
    (task,) = talk.submits(group)
    talk.later(2 * PATIENCE_S)
    talk.looks(worker)
    talk.later(2 * SETTLE_S)
    talk.happens(Inspected(worker, (), (), 1))
    assert runs(talk.says(worker, m.Returned([], (), 1))) == {worker: [task]}
    # When it tells that it has not run it the first time, then that says nothing of the second time
    assert runs(talk.says(worker, m.Returned([task], ()))) == {}
    assert ends(talk.finishes(worker, [task])) == {task: Status.VALUE}
    # Nor does it hold for ever: another task may come back
    (other,) = talk.submits(group)
    assert runs(talk.says(worker, m.Returned([other], ()))) == {worker: [other]}
