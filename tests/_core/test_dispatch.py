"""Which worker gets which task, and when workers start or give tasks back."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, runs, sent, started
from scalepool._core.credit import STALE_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER


def warm_worker(talk: Dialogue, group: int, *, micros: int = 10) -> int:
    """One worker that has run one task of ``group``, so that the length of its tasks is known."""
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [task], micros=micros)
    return worker


# ---- starting ----


@pytest.mark.parametrize(("cap", "tasks", "expected"), [(1, 5, 1), (4, 3, 3), (4, 9, 4)])
def test_unknown_tasks_are_worth_a_worker_each_up_to_the_cap(cap: int, tasks: int, expected: int) -> None:
    talk = Dialogue()
    talk.submits(talk.opens(cap), tasks)
    assert len(started(talk.heard)) == expected


def test_workers_that_are_starting_are_counted() -> None:
    talk = Dialogue()
    group = talk.opens(4)
    talk.submits(group, 2)
    talk.submits(group, 1)
    assert len(started(talk.heard)) == 1


def test_asking_for_workers_counts_those_that_are_there() -> None:
    talk = Dialogue()
    warm_worker(talk, talk.opens(1))
    assert len(started(talk.says(DRIVER, m.StartWorkers(talk.opens(3))))) == 2


def test_idle_workers_are_shared_between_groups_and_each_is_introduced_once() -> None:
    talk = Dialogue()
    worker = warm_worker(talk, talk.opens(1))
    group = talk.opens(1)
    (task,) = talk.submits(group)
    assert runs(talk.heard) == {worker: [task]}
    assert sent(talk.heard, m.Enter) == [m.Enter(group, b"spec", group)]
    talk.finishes(worker, [task])
    talk.submits(group)
    assert sent(talk.heard, m.Enter) == []


# ---- assigning ----


def test_short_tasks_are_shared_out_in_batches() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    first, second = talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(next(iter(runs(talk.heard))), [warm], micros=10)
    tasks = talk.submits(group, 10)
    assert sorted(map(len, runs(talk.heard).values())) == [5, 5]
    assert sorted(task for held in runs(talk.heard).values() for task in held) == tasks
    assert set(runs(talk.heard)) == {first, second}


def test_idle_workers_left_over_get_nothing() -> None:
    talk = Dialogue()
    group = talk.opens(3)
    talk.starts_workers(group)
    talk.submits(group, 1)
    assert len(runs(talk.heard)) == 1


def test_a_function_travels_to_a_worker_once() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    warm_worker(talk, group)
    talk.submits(group)
    (run,) = sent(talk.heard, m.Run)
    assert (run.functions, run.blobs, run.calls) == ([], [], [7])


# ---- recall ----


def test_tasks_behind_a_long_one_go_to_an_idle_worker() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(next(iter(runs(talk.heard))), [warm], micros=10)
    tasks = talk.submits(group, 6)
    held = runs(talk.heard)
    busy, free = held
    talk.finishes(free, held[free], micros=10)
    assert sent(talk.heard, m.Recall) == []  # worth less than the message, as far as one can tell
    said = talk.later(2 * STALE_S)
    assert sent(said, m.Recall, busy) == [m.Recall(2)]
    assert sent(talk.later(1.0), m.Recall) == []  # asked once
    talk.says(busy, m.Returned(held[busy][1:], []))
    assert runs(talk.heard) == {free: held[busy][1:]}
    assert set(tasks) == set(held[busy]) | set(held[free])


def test_long_tasks_are_recalled_at_once() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    first, second = talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(second if second in runs(talk.heard) else first, [warm], micros=2000)
    talk.submits(group, 8)
    held = runs(talk.heard)
    talk.finishes(first, held[first], micros=2000)
    assert sent(talk.heard, m.Recall, second) == [m.Recall(2)]


def test_of_several_workers_the_one_that_hoards_most_gives_back() -> None:
    talk = Dialogue()
    group = talk.opens(3)
    workers = talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(next(iter(runs(talk.heard))), [warm], micros=1000)
    talk.submits(group, 18)
    held = runs(talk.heard)
    idle, short, rich = workers
    talk.finishes(short, held[short][:1], micros=1000)
    talk.finishes(idle, held[idle], micros=1000)
    assert sent(talk.heard, m.Recall, rich)
    assert not sent(talk.heard, m.Recall, short)


def test_an_idle_worker_that_has_not_answered_a_recall_is_waited_for() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(next(iter(runs(talk.heard))), [warm], micros=2000)
    talk.submits(group, 8)
    held = runs(talk.heard)
    free, busy = held
    talk.finishes(free, held[free], micros=2000)
    assert sent(talk.heard, m.Recall, busy)
    talk.finishes(busy, held[busy], micros=2000)  # it has run them all before it reads the recall
    talk.submits(group, 30)
    assert list(runs(talk.heard)) == [free]
    assert started(talk.heard) == []
    talk.says(busy, m.Returned([], []))
    assert list(runs(talk.heard)) == [busy]


def test_of_the_idle_workers_one_that_can_take_something_is_used() -> None:
    talk = Dialogue()
    group, other = talk.opens(2), talk.opens(1)
    talk.starts_workers(group)
    (warm,) = talk.submits(group)
    talk.finishes(next(iter(runs(talk.heard))), [warm], micros=2000)
    talk.submits(group, 8)
    held = runs(talk.heard)
    free, busy = held
    talk.finishes(free, held[free], micros=2000)
    talk.finishes(busy, held[busy], micros=2000)  # the last one used, and asked to give tasks back
    talk.submits(other)
    assert list(runs(talk.heard)) == [free]


def test_tasks_behind_a_long_one_get_a_new_worker_when_nobody_is_idle() -> None:
    # Given two tasks that look so short that one worker gets both ...
    talk = Dialogue()
    group = talk.opens(2)
    worker = warm_worker(talk, group)
    first, second = talk.submits(group, 2)
    assert runs(talk.heard) == {worker: [first, second]}
    # ... when the first one takes its time (it may wait for the second in a way that we cannot see)
    said = talk.later(0.1)
    # then the second one gets a worker of its own
    (helper,) = started(said)
    talk.gets_ready(helper)
    assert sent(talk.heard, m.Recall, worker) == [m.Recall(1)]
    talk.says(worker, m.Returned([second], []))
    assert runs(talk.heard) == {helper: [second]}


def test_a_worker_that_reports_is_not_relieved() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    worker = warm_worker(talk, group, micros=10)
    tasks = talk.submits(group, 5)
    for task in tasks:
        assert started(talk.later(STALE_S / 2)) == []
        talk.finishes(worker, [task], micros=10)
    assert started(talk.later(1.0)) == []


def test_workers_that_hold_one_task_each_need_no_relief() -> None:
    talk = Dialogue()
    talk.submits(talk.opens(3), 2)
    for worker in started(talk.heard):
        talk.gets_ready(worker)
    assert started(talk.later(1.0)) == []
    assert talk.hub.alarm_at is None  # nobody is idle, and that they have begun was seen once


def test_a_worker_in_time_is_not_relieved_yet() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    worker = warm_worker(talk, group, micros=3000)
    tasks = talk.submits(group, 2)
    assert runs(talk.heard) == {worker: tasks}
    assert started(talk.later(STALE_S * 0.9)) == []
    assert len(started(talk.later(STALE_S))) == 1


def test_nobody_is_relieved_beyond_the_cap() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    warm_worker(talk, group)
    talk.submits(group, 2)
    assert started(talk.later(0.1)) == []


def test_a_helper_that_cannot_be_started_is_not_tried_in_a_loop() -> None:
    talk = Dialogue()
    group = talk.opens(2)
    warm_worker(talk, group)
    talk.submits(group, 2)
    launches = 0
    for _ in range(100):
        for worker in started(talk.later(0.01)):
            launches += 1
            talk.fails_to_start(worker)
            launches += len(started(talk.heard))
            for other in started(talk.heard):
                talk.fails_to_start(other)
    assert 1 <= launches <= 5
