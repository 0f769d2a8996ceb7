"""Tasks that wait for others: what runs in place, and how many a tree of groups runs at once."""

from __future__ import annotations

from _core.dialogue import Dialogue, ends, runs, started, submit
from scalepool._core.groups import STARVED_S
from scalepool._wire import messages as m
from scalepool._wire.messages import CloseMode, Status

HELPER = 2
"""The worker that a group below the root gets as soon as it has tasks, before anybody waits for them."""


def warm_worker(talk: Dialogue, group: int, *, micros: int = 10) -> int:
    """One worker that has run one task of ``group``, so that the length of its tasks is known."""
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [task], micros=micros)
    return worker


def waiting(
    talk: Dialogue, count: int, *, outer_cap: int = 1, cap: int = 1, wanted: int | None = None
) -> tuple[int, int, int, list[int]]:
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


def test_while_a_group_is_above_its_cap_nobody_gets_more_and_who_is_through_first_stops() -> None:
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
    # When the first one goes on, then nobody gets more until one of them has nothing left
    talk.says(worker, m.Unblock())
    more = talk.submits(outer, 2)
    assert runs(talk.heard) == {}
    talk.finishes(worker, [parent])
    assert runs(talk.heard) == {helper: more}
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
