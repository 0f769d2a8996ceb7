"""Tasks whose results are kept: what starts when, who is told what, and what is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _core.dialogue import Dialogue, dropped, ends, killed, runs, sent, started
from scalepool._core.commands import Inspect
from scalepool._core.events import Inspected
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.commands import Command


class Keeper(Dialogue):
    """One group of two, and its workers, both ready."""

    def __init__(self) -> None:
        super().__init__()
        self.group = self.opens(2)
        self.workers = self.starts_workers(self.group)

    def keeps(
        self,
        *needs: int,
        returns: int = 1,
        peer: int = DRIVER,
        group: int = 0,
        carries: Sequence[int] = (),
        parent: int = 0,
        max_retries: int = 0,
    ) -> int:
        """Submit a task that needs these values and makes ``returns``; return its id, which is its first value's."""
        task = self.new_id(peer)
        for _ in range(returns - 1):
            self.new_id(peer)
        message = m.Submit(
            group or self.group, max_retries, [7], [b"f"], [task], [7], [b"args"],
            [len(carries)] if carries else [], list(carries), [],
            0, parent, [returns], [len(needs)] if needs else [], needs,
        )  # fmt: skip
        self.says(peer, message)
        return task

    def ran_by(self, task: int) -> int:
        """The worker that has just been given ``task``."""
        (worker,) = [worker for worker, tasks in runs(self.heard).items() if task in tasks]
        return worker

    def run_of(self, task: int) -> m.Run:
        return next(run for run in sent(self.heard, m.Run) if task in run.tasks)

    def makes(
        self, worker: int, task: int, payload: bytes = b"value", *, objects: Sequence[int] = (), attempt: int = 1
    ) -> list[Command]:
        record = pack_result(task, attempt, Status.VALUE, len(objects) // 4, 5, payload)
        return self.says(worker, m.Done([record], objects))

    def fails(self, worker: int, task: int, error: bytes = b"error") -> list[Command]:
        return self.says(worker, m.Done([pack_result(task, 1, Status.ERROR, 0, 5, error)]))

    def holds(self, value: int) -> tuple[int, ...] | None:
        record = self.hub._state.values.get(value)
        return None if record is None else record.holders


def replies(commands: Sequence[Command], peer: int = DRIVER) -> dict[int, tuple[int, bytes]]:
    return {
        task: (status, payload)
        for message in sent(commands, m.Replies, peer)
        for task, status, payload in zip(message.tasks, message.statuses, message.payloads, strict=True)
    }


def test_a_task_that_needs_nothing_runs_at_once_and_its_value_is_kept() -> None:
    talk = Keeper()
    task = talk.keeps()
    worker = talk.ran_by(task)
    assert talk.run_of(task).returns == [1]
    talk.makes(worker, task)
    assert replies(talk.heard) == {task: (Status.VALUE, b"value")}
    assert talk.holds(task) == (DRIVER,)
    talk.says(DRIVER, m.Release([task]))
    assert talk.holds(task) is None


def test_a_task_waits_for_what_it_needs_and_gets_it() -> None:
    talk = Keeper()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first, first)
    assert runs(talk.heard) == {}
    assert talk.hub.statistics().queued == 0
    talk.makes(worker, first, b"one")
    run = talk.run_of(second)
    assert (run.need_counts, list(run.needs), run.values, run.value_payloads) == ([2], [first] * 2, [first], [b"one"])
    talk.makes(talk.ran_by(second), second)
    assert ends(talk.heard) == {second: Status.VALUE}


def test_a_value_that_is_there_already_makes_nobody_wait() -> None:
    talk = Keeper()
    first = talk.keeps()
    talk.makes(talk.ran_by(first), first)
    second = talk.keeps(first)
    assert talk.run_of(second).value_payloads == [b"value"]


def test_the_needed_value_lives_until_the_task_has_ended() -> None:
    talk = Keeper()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    talk.says(DRIVER, m.Release([first]))
    talk.makes(worker, first)
    assert replies(talk.heard) == {}  # the driver let go of it
    talk.makes(talk.ran_by(second), second)
    assert talk.holds(first) is None


def test_what_a_value_lies_in_goes_to_the_task_and_is_freed_with_it() -> None:
    talk = Keeper()
    first = talk.keeps()
    worker = talk.ran_by(first)
    second = talk.keeps(first)
    place = (worker << 40 | 99, 1, 3, 4096)
    talk.makes(worker, first, objects=place)
    run = talk.run_of(second)
    assert (tuple(run.objects), list(run.references)) == (place, [place[0]])
    assert talk.holds(first) == (DRIVER,)
    second_worker = talk.ran_by(second)
    talk.says(DRIVER, m.Release([first, place[0]]))
    assert dropped(talk.heard) == []
    talk.makes(second_worker, second)
    assert dropped(talk.heard) == [place[0]]


@pytest.mark.parametrize("length", [1, 3000])
def test_a_failure_ends_all_that_needs_it_the_same_way(length: int) -> None:
    talk = Keeper()
    task = first = talk.keeps()
    worker = talk.ran_by(first)
    for _ in range(length if length == 1 else 0):
        task = talk.keeps(task)
    state = talk.hub._state
    if length > 1:  # in one message: the check after each event would take too long
        tasks = [talk.new_id() for _ in range(length)]
        needs = [first, *tasks[:-1]]
        talk.says(DRIVER, m.Submit(talk.group, 0, [], [], tasks, [7] * length, [b""] * length, (), (), (), 0, 0,
                                   [1] * length, [1] * length, needs))  # fmt: skip
    talk.fails(worker, first)
    assert len(replies(talk.heard)) == length + 1
    assert set(replies(talk.heard).values()) == {(Status.ERROR, b"error")}
    assert not state.tasks


def test_a_task_that_needs_what_has_failed_ends_at_once() -> None:
    talk = Keeper()
    first = talk.keeps()
    talk.fails(talk.ran_by(first), first)
    second = talk.keeps(first)
    assert replies(talk.heard) == {second: (Status.ERROR, b"error")}


def test_a_task_that_needs_what_nobody_knows_ends_as_lost() -> None:
    talk = Keeper()
    first = talk.keeps()
    second = talk.keeps(first, 12345)
    assert replies(talk.heard) == {second: (Status.LOST, b"")}
    assert talk.holds(first) == (DRIVER,)


def test_a_task_makes_several_values() -> None:
    talk = Keeper()
    task = talk.keeps(returns=3)
    worker = talk.ran_by(task)
    waiting = talk.keeps(task + 2)
    place = (worker << 40 | 99, 1, 3, 4096)
    body = pack_parts([Part(b"a"), Part(b"b", 1), Part(b"c", 0, [task])])
    talk.says(worker, m.Done([pack_result(task, 1, PARTS, 0, 5, body)], place))
    assert replies(talk.heard) == {task + n: (Status.VALUE, b"abc"[n : n + 1]) for n in range(3)}
    assert talk.run_of(waiting).value_payloads == [b"c"]
    talk.says(DRIVER, m.Release([task]))
    assert talk.holds(task) == ()  # the third has it inside
    talk.makes(talk.ran_by(waiting) if runs(talk.heard) else worker, waiting)
    talk.says(DRIVER, m.Release([task + 1, place[0]]))
    assert dropped(talk.heard) == [place[0]]


def test_a_result_with_the_wrong_number_of_values_leaves_nobody_waiting() -> None:
    talk = Keeper()
    task = talk.keeps(returns=2)
    talk.makes(talk.ran_by(task), task)
    assert replies(talk.heard) == {task: (Status.LOST, b""), task + 1: (Status.LOST, b"")}


def test_a_borrower_is_told_what_it_wants() -> None:
    talk = Keeper()
    first = talk.keeps()
    worker = talk.ran_by(first)
    (other,) = set(talk.workers) - {worker}
    talk.says(other, m.Hold([first]))
    talk.says(other, m.Want([first, first]))
    assert talk.heard == []
    talk.makes(worker, first)
    assert replies(talk.heard, other) == replies(talk.heard) == {first: (Status.VALUE, b"value")}
    talk.says(other, m.Want([first, 777]))
    assert replies(talk.heard, other) == {first: (Status.VALUE, b"value"), 777: (Status.LOST, b"")}
    talk.says(DRIVER, m.Release([first]))
    assert talk.holds(first) == (other,)
    talk.dies(other)
    assert talk.holds(first) is None


def test_a_reference_in_arguments_keeps_a_value_until_the_task_has_ended() -> None:
    talk = Keeper()
    first = talk.keeps()
    talk.makes(talk.ran_by(first), first)
    second = talk.keeps(carries=[first])
    worker = talk.ran_by(second)
    talk.says(DRIVER, m.Release([first]))
    assert talk.holds(first) == ()
    talk.says(worker, m.Hold([first]))
    talk.makes(worker, second)
    assert talk.holds(first) == (worker,)
    talk.says(worker, m.Release([first]))
    assert talk.holds(first) is None


def test_a_reference_in_a_plain_result_makes_its_receiver_a_holder() -> None:
    talk = Keeper()
    (plain,) = talk.submits(talk.group)
    worker = talk.ran_by(plain)
    value = talk.new_id(worker)
    talk.says(worker, m.Keep(value, b"payload"))
    body = pack_parts([Part(b"result", 0, [value])])
    talk.says(worker, m.Done([pack_result(plain, 1, PARTS, 0, 5, body)]))
    assert replies(talk.heard) == {plain: (Status.VALUE, b"result")}
    talk.says(worker, m.Release([value]))
    assert talk.holds(value) == (DRIVER,)


def test_a_plain_task_that_carries_a_reference_keeps_the_value_until_it_has_ended() -> None:
    talk = Keeper()
    value = talk.new_id()
    talk.says(DRIVER, m.Keep(value, b"put"))
    (plain,) = talk.submits(talk.group, references=[value])
    worker = talk.ran_by(plain)
    talk.says(DRIVER, m.Release([value]))
    assert talk.holds(value) == ()
    talk.finishes(worker, [plain])
    assert talk.holds(value) is None


def test_a_value_that_was_put_serves_as_any_other() -> None:
    talk = Keeper()
    value = talk.new_id()
    place = (talk.new_id(), 1, 3, 4096)
    talk.says(DRIVER, m.Keep(value, b"put", [], place))
    task = talk.keeps(value)
    assert talk.run_of(task).value_payloads == [b"put"]
    talk.makes(talk.ran_by(task), task)
    talk.says(DRIVER, m.Release([value, place[0]]))
    assert dropped(talk.heard) == [place[0]]


def test_a_value_is_put_once() -> None:
    talk = Keeper()
    value = talk.new_id()
    talk.says(DRIVER, m.Keep(value, b"put"))
    with pytest.raises(ProtocolError, match="twice"):
        talk.says(DRIVER, m.Keep(value, b"again"))


# ---- cancelling ----


def test_a_waiting_task_is_cancelled_and_what_needs_it_with_it() -> None:
    talk = Keeper()
    first = talk.keeps()
    second = talk.keeps(first)
    third = talk.keeps(second)
    talk.says(DRIVER, m.Cancel([second]))
    assert {task: status for task, (status, _) in replies(talk.heard).items()} == {
        second: Status.CANCELLED, third: Status.CANCELLED
    }  # fmt: skip
    assert talk.hub._state.values.get(first).status == PENDING  # type: ignore[union-attr]


def test_a_started_task_is_cancelled_by_force_only() -> None:
    talk = Keeper()
    task = talk.keeps()
    worker = talk.ran_by(task)
    talk.says(DRIVER, m.Cancel([task]))
    assert [command.tasks for command in sent(talk.heard, m.CancelTasks)] == [[task]]
    talk.says(worker, m.Returned((), [task]))
    assert [list(answer.refused) for answer in sent(talk.heard, m.CancelAnswer)] == [[task]]
    talk.says(DRIVER, m.Stop([task]))
    assert [command.worker for command in talk.heard if isinstance(command, Inspect)] == [worker]
    talk.happens(Inspected(worker, (task,), (0,)))
    assert worker in killed(talk.heard)
    talk.dies(worker, task)
    assert replies(talk.heard) == {task: (Status.CANCELLED, b"")}


def test_recursive_reaches_what_the_task_has_submitted() -> None:
    talk = Keeper()
    outer = talk.keeps()
    worker = talk.ran_by(outer)
    inner_group = talk.opens(1, peer=worker, parent=talk.group)
    child = talk.keeps(outer, peer=worker, group=inner_group, parent=outer)
    grandchild = talk.keeps(child, peer=worker, group=inner_group, parent=child)
    other = talk.keeps(outer)
    talk.says(DRIVER, m.Cancel([outer], 1))
    assert set(replies(talk.heard, worker)) == {child, grandchild}
    assert other in talk.hub._state.tasks


def test_whoever_holds_a_value_may_cancel_its_task() -> None:
    talk = Keeper()
    blocker = talk.keeps()
    task = talk.keeps(blocker)
    worker = talk.workers[0]
    talk.says(worker, m.Cancel([task]))
    assert [list(answer.refused) for answer in sent(talk.heard, m.CancelAnswer)] == [[task]]
    talk.says(worker, m.Hold([task]))
    talk.says(worker, m.Cancel([task]))
    assert replies(talk.heard) == {task: (Status.CANCELLED, b"")}


# ---- deaths ----


def test_a_task_whose_worker_died_runs_again_with_its_needs() -> None:
    talk = Keeper()
    first = talk.keeps()
    talk.makes(talk.ran_by(first), first)
    second = talk.keeps(first, max_retries=1)
    talk.dies(talk.ran_by(second), second)
    run = talk.run_of(second)
    assert (list(run.attempts), run.value_payloads) == ([2], [b"value"])
    talk.dies(talk.ran_by(second), second)
    assert ends(talk.heard) == {second: Status.WORKER_DIED}


def test_what_others_hold_outlives_the_worker_that_submitted_it() -> None:
    talk = Keeper()
    outer = talk.keeps()
    worker = talk.ran_by(outer)
    inner_group = talk.opens(1, peer=worker, parent=talk.group)
    wanted = talk.keeps(outer, peer=worker, group=inner_group, parent=outer)
    unwanted = talk.keeps(outer, peer=worker, group=inner_group, parent=outer)
    talk.says(DRIVER, m.Hold([wanted]))
    talk.says(DRIVER, m.Want([wanted]))
    talk.makes(worker, outer)
    (other,) = set(talk.workers) - {worker}
    talk.says(other, m.Returned([], ()))
    talk.dies(worker)
    assert unwanted not in talk.hub._state.values
    task = talk.hub._state.tasks[wanted]
    assert task.owner == DRIVER
    talk.makes(task.worker, wanted, b"late")
    assert replies(talk.heard)[wanted] == (Status.VALUE, b"late")
    assert inner_group not in talk.hub._state.groups


def test_a_terminated_group_ends_its_waiting_tasks() -> None:
    talk = Keeper()
    first = talk.keeps()
    second = talk.keeps(first)
    talk.closes(talk.group, CloseMode.TERMINATE)
    assert {task: status for task, (status, _) in replies(talk.heard).items()} == {
        first: Status.CANCELLED, second: Status.CANCELLED
    }  # fmt: skip


def test_a_group_that_drains_waits_for_its_waiting_tasks() -> None:
    talk = Keeper()
    first = talk.keeps()
    second = talk.keeps(first)
    worker = talk.hub._state.tasks[first].worker
    talk.closes(talk.group)
    assert sent(talk.heard, m.GroupClosed) == []
    talk.makes(worker, first)
    talk.makes(talk.ran_by(second), second)
    assert [message.group for message in sent(talk.heard, m.GroupClosed)] == [talk.group]


def test_a_task_for_a_group_that_is_gone_is_cancelled_and_so_is_what_needs_it() -> None:
    talk = Keeper()
    worker = talk.workers[0]
    task = talk.keeps(peer=worker, group=worker << 40 | 555)
    assert replies(talk.heard, worker) == {task: (Status.CANCELLED, b"")}
    second = talk.keeps(task)
    assert replies(talk.heard) == {second: (Status.CANCELLED, b"")}


# ---- nonsense ----


@pytest.mark.parametrize(
    ("returns", "counts", "needs", "why"),
    [
        ([1, 1], [], [], "how many values"),
        ([0], [], [], "how many values"),
        ([], [1], [5], "how many values"),
        ([1], [2], [5], "needs that do not match"),
        ([1], [-1], [], "needs that do not match"),
    ],
)
def test_columns_that_do_not_fit_are_refused(returns: list[int], counts: list[int], needs: list[int], why: str) -> None:
    talk = Keeper()
    message = m.Submit(
        talk.group, 0, [7], [b"f"], [talk.new_id()], [7], [b""], (), (), (), 0, 0, returns, counts, needs
    )
    with pytest.raises(ProtocolError, match=why):
        talk.says(DRIVER, message)
    talk.hub.check()
    assert started(talk.heard) == []
