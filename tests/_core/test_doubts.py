"""Who counts as one of a group's workers although it does not answer, and for how long."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, ends, runs, started
from scalepool._core.doubts import DOUBT_S
from scalepool._core.events import Inspected
from scalepool._core.revoking import PATIENCE_S, SETTLE_S
from scalepool._wire import messages as m
from scalepool._wire.messages import Status

WORKERS = 4


class Silence:
    """A full group whose workers have all been given a task, and are silent until what they held is taken back."""

    def __init__(self, *, is_stopped: bool) -> None:
        self.talk = talk = Dialogue()
        self.group = talk.opens(WORKERS)
        self.workers = talk.starts_workers(self.group)
        self.tasks = talk.submits(self.group, WORKERS)
        assert len(runs(talk.heard)) == WORKERS
        talk.later(PATIENCE_S + 1e-3)
        for worker in self.workers:
            talk.looks(worker)
        talk.later(2 * SETTLE_S)
        self.replaced: list[int] = []
        for worker in self.workers:
            self.replaced += started(talk.happens(Inspected(worker, (), (), 1, is_stopped=is_stopped)))


def test_those_that_are_stopped_are_replaced_at_once() -> None:
    assert len(Silence(is_stopped=True).replaced) == WORKERS


def test_those_that_are_only_slow_are_waited_for() -> None:
    story = Silence(is_stopped=False)
    talk = story.talk
    assert story.replaced == []
    assert started(talk.later(0.9 * DOUBT_S)) == []
    given: dict[int, list[int]] = {}
    for worker, task in zip(story.workers, story.tasks, strict=True):
        given.update(runs(talk.says(worker, m.Returned([task], (), 1))))
    assert set(given) <= set(story.workers)
    assert sorted(task for tasks in given.values() for task in tasks) == sorted(story.tasks)
    for worker, tasks in given.items():
        assert set(ends(talk.finishes(worker, tasks)).values()) == {Status.VALUE}
    assert started(talk.later(3 * DOUBT_S)) == []


def test_whoever_stays_silent_is_replaced_in_the_end_one_after_the_other() -> None:
    story = Silence(is_stopped=False)
    talk = story.talk
    run: list[int] = []
    for _ in range(WORKERS):
        (successor,) = started(talk.later(1.01 * DOUBT_S))
        given = runs(talk.gets_ready(successor))
        assert list(given) == [successor]
        run += given[successor]
    assert sorted(run) == sorted(story.tasks)
    assert started(talk.later(WORKERS * DOUBT_S)) == []


@pytest.mark.parametrize("stuck", range(1, WORKERS))
def test_others_do_what_the_silent_ones_held(stuck: int) -> None:
    story = Silence(is_stopped=False)
    talk = story.talk
    queue: list[tuple[int, list[int]]] = []
    for worker in story.workers[stuck:]:
        queue += runs(talk.says(worker, m.Returned([], (), 1))).items()
    ended: dict[int, Status | int] = {}
    while queue:
        worker, tasks = queue.pop(0)
        assert worker in story.workers[stuck:]
        ended |= ends(talk.finishes(worker, tasks))
        queue += runs(talk.heard).items()
    assert ended == dict.fromkeys(story.tasks, Status.VALUE)
