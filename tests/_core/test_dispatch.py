"""Which worker gets which task, and when workers start or give tasks back."""

from __future__ import annotations

import pytest
from _core.dialogue import Dialogue, ends, runs, sent, started, submit

from scalepool._core.credit import STALE_S
from scalepool._core.groups import STARVED_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status

HELPER = 2
"""The worker that a group below the root gets as soon as it has tasks, before anybody waits for them."""


def warm_worker(talk: Dialogue, group: int, *, micros: int = 10) -> int:
    """One worker that has run one task of ``group``, so that the length of its tasks is known."""
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [task], micros=micros)
    return worker


def waiting(talk: Dialogue, count: int, *, outer_cap: int = 1, cap: int = 1, wanted: int | None = None) -> tuple[int, int, int, list[int]]:
    """A worker whose task waits for (some of) ``count`` tasks of a group of its own."""
    outer = talk.opens(outer_cap)
    talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.opens(cap, peer=worker, parent=outer)
    tasks = [talk.new_id(worker) for _ in range(count)]
    talk.says(worker, submit(inner, tasks))
    talk.says(worker, m.Block(tasks[:wanted]))
    return outer, worker, inner, tasks


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
    assert sent(talk.heard, m.Enter) == [m.Enter(group, b"spec")]
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


# ---- waits ----


def test_a_waiting_worker_runs_what_it_waits_for() -> None:
    talk = Dialogue()
    outer, worker, inner, tasks = waiting(talk, 3)
    assert runs(talk.heard) == {worker: tasks[:1]}
    talk.finishes(worker, tasks[:1], micros=10)
    assert runs(talk.heard) == {worker: tasks[1:]}
    talk.finishes(worker, tasks[1:], micros=10)
    talk.says(worker, m.Unblock())
    assert talk.hub.group_statistics(outer).active == 1  # type: ignore[union-attr]
    assert talk.hub.group_statistics(inner).active == 0  # type: ignore[union-attr]


def test_a_waiting_worker_gets_nothing_that_it_does_not_wait_for() -> None:
    # It would give that back at once, get it again, and so on, while the task stands still.
    talk = Dialogue()
    _, worker, _, (wanted, other, _) = waiting(talk, 3, outer_cap=2, cap=2, wanted=1)
    assert runs(talk.heard) == {worker: [wanted]}
    talk.gets_ready(HELPER)
    assert runs(talk.heard) == {HELPER: [other]}


def test_tasks_that_others_have_are_not_run_in_place() -> None:
    talk = Dialogue()
    outer = talk.opens(2)
    talk.submits(outer, 2)
    first, second = started(talk.heard)
    talk.gets_ready(first)
    inner = talk.opens(2, peer=first, parent=outer)
    mine = [talk.new_id(first), talk.new_id(first)]
    talk.says(first, submit(inner, mine))
    talk.says(first, m.Cancel(mine[:1]))
    assert runs(talk.says(first, m.Block([*mine, 12345]))) == {first: mine[1:]}
    assert second


def test_a_task_of_somebody_else_is_not_run_in_place() -> None:
    talk = Dialogue()
    outer = talk.opens(1)
    _, queued = talk.submits(outer, 2)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert worker not in runs(talk.says(worker, m.Block([queued])))


def test_private_tasks_are_not_run_in_place() -> None:
    talk = Dialogue()
    outer = talk.opens(1)
    talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.opens(1, peer=worker, parent=outer, private=True)
    tasks = talk.submits(inner, 1, peer=worker)
    assert runs(talk.says(worker, m.Block(tasks))) == {}
    assert talk.hub.statistics().workers == 2


def test_a_wait_for_a_group_at_its_cap_runs_nothing_in_place() -> None:
    talk = Dialogue()
    outer = talk.opens(2)
    talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    (helper,) = talk.starts_workers(outer)
    inner = talk.opens(1, peer=worker, parent=outer)
    first, second = talk.submits(inner, 2, peer=worker)
    assert runs(talk.heard) == {helper: [first]}
    assert runs(talk.says(worker, m.Block([first, second]))) == {}
    talk.finishes(helper, [first])
    assert runs(talk.heard) == {helper: [second]}


def test_one_wait_serves_one_group_at_a_time() -> None:
    talk = Dialogue()
    outer, worker, inner, _ = waiting(talk, 0)
    other = talk.opens(1, peer=worker, parent=outer)
    (first,) = talk.submits(inner, peer=worker)
    (second,) = talk.submits(other, peer=worker)
    talk.says(worker, m.Block([first, second]))
    assert runs(talk.heard) == {worker: [first]}
    talk.finishes(worker, [first])
    assert runs(talk.heard) == {worker: [second]}


def test_a_batch_for_a_wait_is_of_one_group_too() -> None:
    talk = Dialogue()
    outer, worker, inner, _ = waiting(talk, 0)
    (warm,) = talk.submits(inner, peer=worker)
    talk.says(worker, m.Block([warm]))
    talk.finishes(worker, [warm], micros=10)  # short tasks: several go together from now on
    talk.says(worker, m.Unblock())
    other = talk.opens(1, peer=worker, parent=outer)
    first, _, _ = talk.submits(inner, 3, peer=worker)
    (second,) = talk.submits(other, peer=worker)
    assert runs(talk.says(worker, m.Block([first, second]))) == {worker: [first]}


def test_a_wait_may_end_before_what_ran_in_place_has_come_back() -> None:
    talk = Dialogue()
    outer, worker, inner, (child,) = waiting(talk, 1)
    talk.says(worker, m.Unblock())
    assert talk.hub.group_statistics(inner).active == 0  # type: ignore[union-attr]
    assert talk.hub.group_statistics(outer).active == 1  # type: ignore[union-attr]
    assert ends(talk.finishes(worker, [child])) == {child: Status.VALUE}


def test_waits_inside_waits_end_from_the_inside() -> None:
    talk = Dialogue()
    outer, worker, inner, (child, more) = waiting(talk, 2, wanted=1)
    # The child, run in place, waits for another task of the same group.
    talk.says(worker, m.Block([more]))
    assert runs(talk.heard) == {worker: [more]}
    talk.finishes(worker, [more])
    talk.says(worker, m.Unblock())
    assert talk.hub.group_statistics(inner).active == 1  # type: ignore[union-attr]
    talk.finishes(worker, [child])
    talk.says(worker, m.Unblock())
    assert talk.hub.group_statistics(inner).active == 0  # type: ignore[union-attr]
    assert talk.hub.group_statistics(outer).active == 1  # type: ignore[union-attr]


def test_a_wait_too_deep_runs_nothing_in_place() -> None:
    talk = Dialogue()
    _, worker, _, _ = waiting(talk, 0)
    for _ in range(40):
        talk.says(worker, m.Block([]))
    inner = talk.opens(1, peer=worker)
    tasks = talk.submits(inner, 1, peer=worker)
    assert worker not in runs(talk.says(worker, m.Block(tasks)))


# ---- trees ----


def test_a_root_waits_while_the_tree_below_it_uses_its_slots() -> None:
    # Else each waiting task would let in the next one, until all of them are there at once.
    talk = Dialogue()
    outer, _, _, _ = waiting(talk, 1)
    talk.submits(outer, 10)
    assert started(talk.heard) == []
    assert runs(talk.gets_ready(HELPER)) == {}
    assert talk.hub.statistics().workers == 2


def test_a_task_that_goes_on_above_the_cap_brings_no_more_work_to_its_worker() -> None:
    # Given a group of one slot, whose second worker got the slot that the first one had lent
    talk = Dialogue()
    outer = talk.opens(1)
    worker = warm_worker(talk, outer)
    (parent,) = talk.submits(outer)
    talk.says(worker, m.Block([]))
    (task,) = talk.submits(outer)
    (helper,) = started(talk.heard)
    talk.gets_ready(helper)
    tasks = talk.submits(outer, 2)
    assert runs(talk.heard) == {helper: tasks}
    # When the first one goes on, then only the second one gets more
    talk.says(worker, m.Unblock())
    more = talk.submits(outer, 2)
    assert runs(talk.heard) == {helper: more}
    talk.finishes(worker, [parent])
    assert runs(talk.heard) == {}
    assert task not in more


def test_the_deepest_group_is_served_first() -> None:
    talk = Dialogue()
    outer = talk.opens(2)
    talk.submits(outer, 3)
    first, second = started(talk.heard)
    talk.gets_ready(first)
    inner = talk.opens(1, peer=first, parent=outer)
    (child,) = talk.submits(inner, peer=first)
    talk.gets_ready(second)
    assert runs(talk.heard) == {second: [child]}


def test_a_starved_tree_gets_one_worker_more() -> None:
    # Given a tree whose only slot is used by a task that runs in place
    talk = Dialogue()
    _, _, _, (_, second, _) = waiting(talk, 3, cap=3)
    talk.gets_ready(HELPER)
    assert runs(talk.later(STARVED_S / 2)) == {}
    # When that makes no progress (it waits in a way that we cannot see), then one more may run
    assert runs(talk.later(STARVED_S)) == {HELPER: [second]}


def test_a_queue_behind_a_long_task_does_not_keep_the_hub_awake() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    talk.submits(group, 5)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.later(25.0)  # fails when it is ticked all the time
    assert talk.hub.group_statistics(group).queued == 4  # type: ignore[union-attr]


def test_a_starved_tree_does_not_keep_the_hub_awake() -> None:
    talk = Dialogue()
    waiting(talk, 3)
    talk.later(25.0)
    assert talk.hub.statistics().queued == 2


def test_closing_a_group_that_a_wait_serves_lets_the_wait_serve_others() -> None:
    talk = Dialogue()
    outer, worker, inner, _ = waiting(talk, 1)
    talk.says(worker, m.CloseGroup(inner, CloseMode.TERMINATE))
    other = talk.opens(1, peer=worker, parent=outer)
    (task,) = talk.submits(other, peer=worker)
    talk.says(worker, m.Block([task]))
    assert runs(talk.heard) == {worker: [task]}
    assert ends(talk.finishes(worker, [task])) == {task: Status.VALUE}
