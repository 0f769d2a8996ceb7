"""How tasks, groups and workers end."""

from __future__ import annotations

from _core.dialogue import PID, Dialogue, closed, dropped, ends, killed, runs, sent, started, told
from scalepool._core.endings import FORCE_AFTER_S, GONE_AFTER_S
from scalepool._core.lifecycle import MAX_LAUNCH_FAILURES
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.verdict import unpack_verdict

PLACE = (10, 1000, 3, 4096)


def nested(talk: Dialogue, *, children: int = 1) -> tuple[int, int, int, int, list[int]]:
    """A driver's group, its worker in a task that waits, and the group and tasks that it waits for."""
    outer = talk.opens(1)
    (parent,) = talk.submits(outer)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    inner = talk.opens(1, peer=worker, parent=outer)
    tasks = [talk.new_id(worker) for _ in range(children)]
    talk.says(worker, m.Submit(inner, 0, [7], [b"f"], tasks, [7] * children, [b""] * children))
    talk.says(worker, m.Block(tasks))
    return outer, parent, worker, inner, tasks


# ---- workers that die ----


def test_a_started_task_fails_and_the_others_are_queued_again_in_order() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (warm,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [warm], micros=10)
    tasks = talk.submits(group, 3)
    talk.dies(worker, tasks[0])
    assert ends(talk.heard) == {tasks[0]: Status.WORKER_DIED}
    verdict = unpack_verdict(sent(talk.heard, m.Replies)[0].payloads[0])
    facts = {"pid": PID + worker, "exitcode": -9, "attempt": 1, "reason": "", "task": tasks[0], "item": 0}
    assert verdict.facts == {**facts, "limit_s": 0.0}
    assert verdict.arguments == b"arguments %d" % tasks[0]
    (second,) = started(talk.heard)
    talk.gets_ready(second)
    assert runs(talk.heard) == {second: tasks[1:]}


def test_a_started_task_with_retries_left_is_tried_again() -> None:
    talk = Dialogue()
    (task,) = talk.submits(talk.opens(1), max_retries=1)
    for attempt in (1, 2):
        (worker,) = started(talk.heard)
        talk.gets_ready(worker)
        assert [run.attempts for run in sent(talk.heard, m.Run)] == [[attempt]]
        talk.dies(worker, task)
    assert ends(talk.heard) == {task: Status.WORKER_DIED}


def test_a_task_that_was_to_be_cancelled_does_not_run_after_its_worker_died() -> None:
    talk = Dialogue()
    (task,) = talk.submits(talk.opens(1))
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.says(DRIVER, m.Cancel([task]))
    talk.dies(worker)
    assert ends(talk.heard) == {task: Status.CANCELLED}


def test_a_task_that_is_tried_again_was_started_so_it_cannot_be_cancelled() -> None:
    talk = Dialogue()
    (task,) = talk.submits(talk.opens(1), max_retries=1)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.says(DRIVER, m.Cancel([task]))
    talk.dies(worker, task)
    assert sent(talk.heard, m.CancelAnswer) == [m.CancelAnswer((task,))]
    (second,) = started(talk.heard)
    talk.gets_ready(second)
    talk.says(second, m.Returned([task], []))  # a recall, say: nobody wants to cancel it any more
    assert ends(talk.heard) == {}


def test_what_a_dead_worker_owned_ends_with_it() -> None:
    talk = Dialogue()
    outer, parent, worker, inner, tasks = nested(talk, children=2)
    talk.says(worker, m.Put(PLACE))
    talk.dies(worker, parent, tasks[0])
    assert ends(talk.heard) == {parent: Status.WORKER_DIED}  # nobody is told of the children
    assert dropped(talk.heard) == [10]
    assert sent(talk.heard, m.Free) == []
    assert talk.hub.group_statistics(inner) is None
    assert talk.hub.group_statistics(outer) is not None
    assert (talk.hub.statistics().queued, talk.hub.statistics().assigned) == (0, 0)


# ---- terminate ----


def test_terminate_cancels_what_waits_and_kills_what_runs() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    running, waiting = talk.submits(group, 2)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.closes(group, CloseMode.TERMINATE)
    assert ends(talk.heard) == {running: Status.CANCELLED, waiting: Status.CANCELLED}
    assert killed(talk.heard) == {worker: False}
    assert closed(talk.heard) == [group]
    assert killed(talk.later(FORCE_AFTER_S + 0.1)) == {worker: True}
    assert killed(talk.later(60.0)) == {}


def test_kill_after_terminate_is_by_force() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert killed(talk.closes(group, CloseMode.TERMINATE)) == {worker: False}
    assert killed(talk.closes(group, CloseMode.TERMINATE)) == {}
    assert killed(talk.closes(group, CloseMode.KILL)) == {worker: True}
    assert closed(talk.closes(group, CloseMode.DRAIN)) == []
    talk.dies(worker)
    assert closed(talk.heard) == [group]


def test_terminate_kills_a_task_that_waits_for_its_children() -> None:
    talk = Dialogue()
    outer, parent, worker, inner, (child,) = nested(talk)
    talk.closes(outer, CloseMode.TERMINATE)
    assert ends(talk.heard) == {parent: Status.CANCELLED, child: Status.CANCELLED}
    assert killed(talk.heard) == {worker: False}
    assert closed(talk.heard) == [inner, outer]


def test_terminating_a_nested_group_spares_the_task_that_waits_for_it() -> None:
    talk = Dialogue()
    outer, parent, worker, inner, tasks = nested(talk, children=3)
    in_place = [task for tasks in runs(talk.heard).values() for task in tasks]
    assert in_place == tasks[:1]
    talk.says(worker, m.CloseGroup(inner, CloseMode.TERMINATE))
    assert killed(talk.heard) == {}
    assert ends(talk.heard) == dict.fromkeys(tasks, Status.CANCELLED)
    assert sent(talk.heard, m.CancelTasks, worker) == [m.CancelTasks(in_place)]  # if it has not begun with them
    talk.says(worker, m.Returned(in_place, []))
    talk.says(worker, m.Unblock())
    assert ends(talk.finishes(worker, [parent])) == {parent: Status.VALUE}
    assert closed(talk.closes(outer)) == [outer]


def test_the_arguments_of_a_killed_task_are_kept_until_its_process_is_dead() -> None:
    # Else their memory could get other contents while the task still reads it.
    talk = Dialogue()
    group = talk.opens(1)
    talk.submits(group, references=[10], objects=PLACE)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.closes(group, CloseMode.TERMINATE)
    assert dropped(talk.heard) == []
    talk.says(worker, m.Release([10]))  # of a view that an earlier task had left there
    assert dropped(talk.heard) == []
    talk.dies(worker)
    assert dropped(talk.heard) == [10]


def test_a_task_that_left_its_queue_and_came_back_ends_once() -> None:
    talk = Dialogue()
    _, _, worker, inner, tasks = nested(talk, children=2)
    talk.says(worker, m.Block([]))
    talk.says(worker, m.Returned(tasks[:1], []))  # taken in place, not started
    helper = worker + 1
    for number in range(MAX_LAUNCH_FAILURES):
        talk.fails_to_start(helper + number)
    assert ends(talk.heard) == dict.fromkeys(tasks, Status.WORKER_DIED)
    assert sorted(talk.hub.group_statistics(inner).workers) == [(worker, PID + worker)]  # type: ignore[union-attr]


def test_a_stubborn_worker_is_looked_at_again_at_its_own_time() -> None:
    talk = Dialogue()
    first, second = talk.opens(1, private=True), talk.opens(1, private=True)
    (one,), (two,) = talk.starts_workers(first), talk.starts_workers(second)
    talk.closes(first, CloseMode.TERMINATE)
    talk.now += FORCE_AFTER_S / 2
    talk.closes(second, CloseMode.TERMINATE)
    assert killed(talk.later(FORCE_AFTER_S * 0.6)) == {one: True}
    assert killed(talk.later(FORCE_AFTER_S * 0.6)) == {two: True}


# ---- closing ----


def test_a_closed_group_ends_with_its_last_task() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (task,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert closed(talk.closes(group)) == []
    assert talk.hub.busy
    assert closed(talk.finishes(worker, [task])) == [group]
    assert not talk.hub.busy
    assert talk.hub.statistics().idle == 1


def test_an_empty_group_closes_at_once() -> None:
    talk = Dialogue()
    group = talk.opens()
    assert closed(talk.closes(group)) == [group]


def test_a_private_group_closes_when_its_workers_are_gone() -> None:
    talk = Dialogue()
    group = talk.opens(2, private=True)
    first, second = talk.starts_workers(group)
    talk.closes(group)
    assert sorted(told(talk.heard, m.Exit)) == [first, second]
    assert closed(talk.dies(first, exitcode=0)) == []
    assert closed(talk.closes(group)) == []
    assert closed(talk.dies(second, exitcode=0)) == [group]


def test_a_worker_that_does_not_leave_is_killed() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    (worker,) = talk.starts_workers(group)
    talk.closes(group)
    assert killed(talk.later(9 * FORCE_AFTER_S)) == {}
    assert killed(talk.later(2 * FORCE_AFTER_S)) == {worker: True}


def test_a_process_that_survives_its_kill_is_not_waited_for() -> None:
    talk = Dialogue()
    group = talk.opens(1, private=True)
    talk.submits(group, 2)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.closes(group, CloseMode.KILL)
    assert closed(talk.heard) == []

    assert closed(talk.later(GONE_AFTER_S * 1.1)) == [group]
    assert talk.dies(worker) == []


def test_a_worker_that_waits_while_it_holds_nothing_is_not_idle_until_the_wait_is_over() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    tasks = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, tasks)
    talk.closes(group)
    assert talk.hub.statistics().idle == 1
    talk.says(worker, m.Block([]))
    assert talk.hub.statistics().idle == 0
    talk.says(worker, m.Unblock())
    assert talk.hub.statistics().idle == 1
