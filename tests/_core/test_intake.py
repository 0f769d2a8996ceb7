"""What peers submit, and what is refused."""

from __future__ import annotations

import pytest

from _core.dialogue import Dialogue, closed, dropped, ends, killed, runs, sent, started, submit, told
from scalepool._core.functions import KEEP_FUNCTIONS
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool.errors import ProtocolError


def working(talk: Dialogue, count: int = 1) -> tuple[int, int, list[int]]:
    """A group, its worker, and the tasks that this worker holds."""
    group = talk.opens(1)
    (warm,) = talk.submits(group)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    talk.finishes(worker, [warm], micros=10)
    return group, worker, talk.submits(group, count)


# ---- what makes no sense is refused, and changes nothing ----

VALID = m.Submit(1, 0, [7], [b"f"], [5, 6], [7, 7], [b"", b""])


@pytest.mark.parametrize(
    "message",
    [
        VALID._replace(blobs=[]),
        VALID._replace(calls=[7]),
        VALID._replace(payloads=[b""]),
        VALID._replace(tasks=[5, 5]),
        VALID._replace(tasks=[5, 3]),  # 3 is under way
        VALID._replace(calls=[7, 8]),  # never sent
        VALID._replace(reference_counts=[1], references=[10]),
        VALID._replace(reference_counts=[1, 1], references=[10]),
        VALID._replace(reference_counts=[2, -1], references=[10]),
        VALID._replace(references=[10]),
        VALID._replace(objects=[10, 1, 2]),
        m.OpenGroup(1, 0, 1, 1, 0, 0, b""),
        m.OpenGroup(0, 0, 1, 1, 0, 0, b""),
        m.OpenGroup(2, 0, -1, 1, 0, 0, b""),
        m.OpenGroup(2, 0, 1, 1, 1, -1, b""),
        m.CloseGroup(1, 9),
        m.Put([1, 2, 3]),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(message: m.Message) -> None:
    talk = Dialogue()
    assert talk.opens() == 1
    talk.says(DRIVER, submit(1, [3]))
    before = talk.hub.statistics()
    with pytest.raises(ProtocolError):
        talk.says(DRIVER, message)
    talk.hub.check()
    assert talk.hub.statistics() == before
    talk.says(DRIVER, VALID)
    assert talk.hub.statistics().queued == before.queued + 2


@pytest.mark.parametrize("message", [VALID, m.StartWorkers(1), m.CloseGroup(1, CloseMode.KILL)])
def test_a_group_belongs_to_who_opened_it(message: m.Message) -> None:
    talk = Dialogue()
    assert talk.opens() == 1
    (worker,) = talk.starts_workers(talk.opens(1))
    with pytest.raises(ProtocolError, match="has not opened"):
        talk.says(worker, message)


@pytest.mark.parametrize("message", [m.StartWorkers(99), m.CloseGroup(99, CloseMode.DRAIN)])
def test_a_group_that_is_gone_needs_nothing(message: m.Message) -> None:
    assert Dialogue().says(DRIVER, message) == []


# ---- functions ----


def test_a_function_stays_known_although_its_first_group_was_gone() -> None:
    # The peer knows that it has sent the function, not that the group was terminated meanwhile.
    talk = Dialogue()
    talk.says(DRIVER, submit(99, [1]))
    assert ends(talk.heard) == {1: Status.CANCELLED}
    group = talk.opens()
    talk.says(DRIVER, submit(group, [2], functions=()))
    assert started(talk.heard)


def test_both_ends_forget_the_same_functions() -> None:
    # Given a peer that has called as many functions as both ends remember
    talk = Dialogue()
    group = talk.opens()
    functions = list(range(100, 100 + KEEP_FUNCTIONS))
    talk.says(DRIVER, submit(group, [1000 + f for f in functions], calls=functions, functions=functions))
    # When it calls the oldest one again, and a new one, in one message
    talk.says(DRIVER, submit(group, [1, 2], calls=[100, 99], functions=[99]))
    # Then the second oldest made room
    with pytest.raises(ProtocolError, match="never sent"):
        talk.says(DRIVER, submit(group, [3], calls=[101], functions=()))
    talk.says(DRIVER, submit(group, [4], calls=[100], functions=()))


def test_one_message_may_call_more_functions_than_are_remembered() -> None:
    talk = Dialogue()
    group = talk.opens()
    talk.says(DRIVER, submit(group, [1], calls=[1], functions=[1]))
    functions = list(range(100, 101 + KEEP_FUNCTIONS))
    talk.says(DRIVER, submit(group, range(1000, 1002 + KEEP_FUNCTIONS), calls=[*functions, 1], functions=functions))
    assert talk.hub.statistics().queued == KEEP_FUNCTIONS + 3


# ---- tasks for groups that are over ----


@pytest.mark.parametrize("mode", [CloseMode.TERMINATE, CloseMode.KILL])
def test_tasks_for_a_terminated_group_are_cancelled(mode: CloseMode) -> None:
    talk = Dialogue()
    group = talk.opens(private=True)
    talk.says(DRIVER, m.StartWorkers(group))
    talk.closes(group, mode)
    (task,) = talk.submits(group)
    assert ends(talk.heard) == {task: Status.CANCELLED}


def test_tasks_for_a_closed_group_that_still_works_are_taken() -> None:
    talk = Dialogue()
    group, worker, (task,) = working(talk)
    talk.closes(group)
    (late,) = talk.submits(group)
    talk.finishes(worker, [task, late], micros=10)
    assert closed(talk.heard) == [group]


def test_a_message_without_tasks_is_fine() -> None:
    talk = Dialogue()
    talk.submits(talk.opens(), 0)
    assert talk.heard == []
    talk.says(DRIVER, m.Submit(talk.opens(), 0, [], [], [], [], []))  # no functions either
    assert talk.heard == []


def test_a_closed_group_starts_no_workers() -> None:
    talk = Dialogue()
    group, _, _ = working(talk)
    talk.closes(group)
    assert started(talk.says(DRIVER, m.StartWorkers(group))) == []


# ---- cancelling ----


def test_a_queued_task_is_cancelled_at_once() -> None:
    talk = Dialogue()
    tasks = talk.submits(talk.opens(), 2)
    talk.says(DRIVER, m.Cancel([tasks[0], tasks[0]]))
    assert ends(talk.heard) == {tasks[0]: Status.CANCELLED}
    assert sent(talk.heard, m.CancelAnswer) == []


def test_of_an_assigned_task_its_worker_decides() -> None:
    talk = Dialogue()
    _, worker, (running, prefetched) = working(talk, 2)
    talk.says(DRIVER, m.Cancel([running, prefetched]))
    assert sent(talk.heard, m.CancelTasks, worker) == [m.CancelTasks([running, prefetched])]
    talk.says(worker, m.Returned([prefetched], [running]))
    assert ends(talk.heard) == {prefetched: Status.CANCELLED}
    assert sent(talk.heard, m.CancelAnswer) == [m.CancelAnswer((running,))]


def test_what_is_over_or_not_ones_own_cannot_be_cancelled() -> None:
    talk = Dialogue()
    _, worker, (running,) = working(talk)
    talk.says(worker, m.Cancel([running, 12345]))
    assert sent(talk.heard, m.CancelAnswer, worker) == [m.CancelAnswer([running, 12345])]


# ---- objects ----

PLACE = (10, 1000, 3, 4096)


def test_an_argument_lives_as_long_as_its_task() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (task,) = talk.submits(group, references=[10], objects=PLACE)
    (worker,) = started(talk.heard)
    talk.gets_ready(worker)
    assert sent(talk.heard, m.Run)[0].objects == list(PLACE)
    talk.finishes(worker, [task])
    assert sent(talk.heard, m.Free, DRIVER) == [m.Free([10])]
    assert dropped(talk.heard) == [10]


def test_an_object_that_was_put_lives_until_it_is_released() -> None:
    talk = Dialogue()
    talk.says(DRIVER, m.Put(PLACE))
    group = talk.opens(1)
    (task,) = talk.submits(group, references=[10])
    talk.says(DRIVER, m.Put(PLACE))  # a duplicate changes nothing
    talk.says(DRIVER, m.Cancel([task]))
    assert dropped(talk.heard) == []
    assert dropped(talk.says(DRIVER, m.Release([10]))) == [10]


def test_an_object_that_no_task_carries_is_freed_at_once() -> None:
    talk = Dialogue()
    talk.submits(talk.opens(), objects=PLACE)
    assert dropped(talk.heard) == [10]


def test_the_arguments_of_tasks_that_come_too_late_are_freed() -> None:
    talk = Dialogue()
    talk.says(DRIVER, submit(99, [1], references=[10], objects=PLACE))
    assert dropped(talk.heard) == [10]


def test_a_reference_to_what_is_gone_never_frees_what_comes_later() -> None:
    talk = Dialogue()
    group = talk.opens(1)
    (early,) = talk.submits(group, references=[10])
    talk.submits(group, references=[10], objects=PLACE)
    talk.says(DRIVER, m.Cancel([early]))
    assert dropped(talk.heard) == []


def test_killing_is_for_groups_that_are_there() -> None:
    talk = Dialogue()
    group, worker, _ = working(talk)
    assert killed(talk.closes(group, CloseMode.KILL)) == {worker: True}
    assert told(talk.heard, m.GroupClosed) == [DRIVER]
    assert runs(talk.heard) == {}


def test_a_group_that_makes_no_sense_is_not_known_to_the_one_above_it() -> None:
    talk = Dialogue()
    parent = talk.opens()
    with pytest.raises(ProtocolError, match="needs"):
        talk.says(DRIVER, m.OpenGroup(talk.new_id(), parent, 1, 1, 0, 0, b"", lease=-1))
    talk.hub.check()
    talk.closes(parent)
    assert closed(talk.heard) == [parent]
