"""Values that are lost: which are made again, in what order, how often, and what becomes of the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from _core.dialogue import PID, dropped, ends, runs, sent, started
from _core.test_keeping import Keeper, replies
from scalepool._core.events import ObjectsLost
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.actors import OpenActor
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import MISSING, PARTS, Part, pack_missing, pack_parts, pack_result

if TYPE_CHECKING:
    from scalepool._core.commands import Command
    from scalepool._core.lineage import Lineage


class Loser(Keeper):
    """Values lie in objects here, and objects get lost."""

    @property
    def lineage(self) -> Lineage:
        return self.hub._endings.keeping.lineage

    def makes_large(self, task: int, *, attempt: int = 1) -> int:
        """Whoever has this task makes a value in an object; returns the object."""
        worker = self.holder(task)
        made = self.new_id(worker)
        columns = (made, PID + worker, 5, 1 << 20)
        self.makes(worker, task, b"in %d" % made, objects=columns, attempt=attempt)
        return made

    def gives_back(self, task: int) -> None:
        """Its worker was given the task because it makes what that needs, and has not made it."""
        if task in self.hub._state.tasks and (worker := self.holder(task)):
            self.says(worker, m.Returned([task], ()))

    def holder(self, task: int) -> int:
        return self.hub._state.tasks[task].worker

    def loses(self, *objects: int) -> list[Command]:
        return self.happens(ObjectsLost(objects))

    def cannot_begin(self, task: int, value: int, lost: int, *, attempt: int = 1) -> list[Command]:
        record = pack_result(task, attempt, MISSING, 0, 5, pack_missing(value, lost))
        return self.says(self.holder(task), m.Done([record]))

    def status(self, value: int) -> int | None:
        record = self.hub._state.values.get(value)
        return None if record is None else record.status


def why(commands: list[Command], value: int) -> str:
    status, payload = replies(commands)[value]
    assert status == Status.LOST
    return str(json.loads(payload)["why"])


def test_a_lost_value_is_made_again_and_its_readers_are_told() -> None:
    talk = Loser()
    task = talk.keeps(max_retries=1)
    first = talk.makes_large(task)
    talk.loses(first)
    assert talk.status(task) == PENDING
    assert talk.run_of(task).attempts == [2]
    second = talk.makes_large(task, attempt=2)
    assert talk.hub._state.values.get(task).objects == (second,)  # type: ignore[union-attr]
    talk.says(DRIVER, m.Release([task, first, second]))
    assert not talk.hub._state.objects
    assert not talk.lineage.recipes


def test_who_reports_that_it_cannot_read_a_value_gets_the_new_one() -> None:
    talk = Loser()
    task = talk.keeps(max_retries=1)
    lost = talk.makes_large(task)
    talk.says(DRIVER, m.Missing(task, [lost]))
    assert talk.run_of(task).attempts == [2]
    worker = talk.holder(task)
    made = talk.new_id(worker)
    talk.makes(worker, task, b"again", objects=(made, PID + worker, 6, 1 << 20), attempt=2)
    assert replies(talk.heard) == {task: (Status.VALUE, b"again")}
    talk.says(DRIVER, m.Missing(task, [lost]))
    assert replies(talk.heard) == {task: (Status.VALUE, b"again")}, "that was about the old one"


def test_without_retries_nothing_is_made_again() -> None:
    talk = Loser()
    task = talk.keeps()
    lost = talk.makes_large(task)
    assert not talk.lineage.recipes
    talk.says(DRIVER, m.Missing(task, [lost]))
    assert "max_retries" in why(talk.heard, task)
    talk.says(DRIVER, m.Want([task]))
    assert "max_retries" in why(talk.heard, task), "and it stays so"


def test_what_was_put_is_gone() -> None:
    talk = Loser()
    value, made = talk.new_id(), talk.new_id()
    talk.says(DRIVER, m.Keep(value, b"data", (), (made, 1, 5, 1 << 20)))
    talk.says(DRIVER, m.Missing(value, [made]))
    assert "put()" in why(talk.heard, value)


def test_a_value_is_not_made_more_often_than_retries_allow() -> None:
    talk = Loser()
    task = talk.keeps(max_retries=2)
    for attempt in (1, 2):
        talk.loses(talk.makes_large(task, attempt=attempt))
        assert talk.run_of(task).attempts == [attempt + 1]
    made = talk.makes_large(task, attempt=3)
    talk.says(DRIVER, m.Missing(task, [made]))
    assert "3 times" in why(talk.heard, task)


def test_deaths_and_losses_count_together() -> None:
    talk = Loser()
    task = talk.keeps(max_retries=1)
    talk.dies(talk.holder(task), task)
    made = talk.makes_large(task, attempt=2)
    talk.says(DRIVER, m.Missing(task, [made]))
    assert "2 times" in why(talk.heard, task)


def test_what_is_needed_and_forgotten_is_made_again_first() -> None:
    talk = Loser()
    first = talk.keeps(max_retries=1)
    talk.makes_large(first)
    second = talk.keeps(first, max_retries=1)
    third = talk.keeps(second, max_retries=1)
    talk.makes_large(second)
    lost = talk.makes_large(third)
    talk.says(DRIVER, m.Release([first, second]))
    assert [talk.status(one) for one in (first, second)] == [None, None]
    assert len(talk.lineage.recipes) == 3
    talk.loses(lost)
    assert next(iter(runs(talk.heard).values()))[0] == first
    talk.makes_large(first, attempt=2)
    talk.makes_large(second, attempt=2)
    talk.makes_large(third, attempt=2)
    assert talk.status(third) == Status.VALUE
    assert [talk.status(one) for one in (first, second)] == [None, None], "they were needed for that alone"
    assert len(talk.lineage.recipes) == 3
    talk.says(DRIVER, m.Release([third]))
    assert not talk.lineage.recipes
    assert talk.lineage.size_bytes == 0


def test_what_is_needed_and_still_there_is_used() -> None:
    talk = Loser()
    first = talk.keeps()
    talk.makes(talk.ran_by(first), first, b"small")
    second = talk.keeps(first, max_retries=1)
    talk.loses(talk.makes_large(second))
    run = talk.run_of(second)
    assert (run.attempts, list(run.value_payloads)) == ([2], [b"small"])


def test_what_is_needed_and_cannot_be_made_makes_the_value_hopeless() -> None:
    talk = Loser()
    first = talk.keeps()
    talk.makes(talk.ran_by(first), first, b"small")
    second = talk.keeps(first, max_retries=1)
    lost = talk.makes_large(second)
    talk.says(DRIVER, m.Release([first]))
    talk.says(DRIVER, m.Missing(second, [lost]))
    assert f"value {first} that its task needs" in why(talk.heard, second)


def test_a_queued_task_waits_for_the_new_value() -> None:
    talk = Loser()
    first = talk.keeps(max_retries=1)
    lost = talk.makes_large(first)
    second = talk.keeps(first, group=talk.opens(1, kind=2))
    (worker,) = started(talk.heard)
    assert talk.hub._state.tasks[second].state.value == "queued"
    talk.loses(lost)
    assert talk.hub._state.tasks[second].state.value == "waiting"
    talk.gets_ready(worker)
    assert worker not in runs(talk.heard)
    made = talk.makes_large(first, attempt=2)
    run = talk.run_of(second)
    assert list(run.value_payloads) == [b"in %d" % made]
    assert made in list(run.objects)[::4]
    talk.makes(talk.holder(second), second)
    assert talk.status(second) == Status.VALUE


def test_a_task_that_could_not_read_its_input_runs_when_that_is_there_again() -> None:
    talk = Loser()
    first = talk.keeps(max_retries=1)
    lost = talk.makes_large(first)
    second = talk.keeps(first)
    talk.cannot_begin(second, first, lost)
    talk.gives_back(second)
    assert talk.hub._state.tasks[second].state.value == "waiting"
    assert talk.status(first) == PENDING
    made = talk.makes_large(first, attempt=2)
    run = talk.run_of(second)
    assert (run.attempts, list(run.value_payloads)) == ([1], [b"in %d" % made]), "it had not begun: nobody counts that"
    talk.makes(talk.holder(second), second)
    assert ends(talk.heard) == {second: Status.VALUE}


def test_tasks_that_need_what_is_gone_for_good_end_as_lost() -> None:
    talk = Loser()
    first = talk.keeps()
    lost = talk.makes_large(first)
    second = talk.keeps(first)
    third = talk.keeps(second)
    talk.cannot_begin(second, first, lost)
    assert json.loads(replies(talk.heard)[second][1])["value"] == first
    talk.gives_back(third)
    assert talk.status(third) == talk.status(second) == Status.LOST


def test_a_task_that_is_made_again_and_fails_ends_all_that_wait() -> None:
    talk = Loser()
    first = talk.keeps(max_retries=1)
    lost = talk.makes_large(first)
    second = talk.keeps(first)
    talk.cannot_begin(second, first, lost)
    talk.gives_back(second)
    talk.says(talk.holder(first), m.Done([pack_result(first, 2, Status.ERROR, 0, 5, b"error")]))
    assert ends(talk.heard) == {first: Status.ERROR, second: Status.ERROR}
    assert not talk.lineage.recipes


def test_of_several_values_only_the_lost_ones_are_replaced() -> None:
    talk = Loser()
    task = talk.keeps(returns=3, max_retries=1)
    worker = talk.ran_by(task)
    made = [talk.new_id(worker) for _ in range(3)]

    def parts(made: list[int]) -> tuple[bytes, list[int]]:
        payload = pack_parts([Part(b"%d" % one, 1) for one in made])
        return payload, [number for one in made for number in (one, PID, 5, 1 << 20)]

    payload, columns = parts(made)
    talk.says(worker, m.Done([pack_result(task, 1, PARTS, 0, 5, payload)], columns))
    talk.says(DRIVER, m.Release([task + 2]))
    talk.loses(made[1])
    assert [talk.status(task + at) for at in range(3)] == [Status.VALUE, PENDING, None]
    worker = talk.holder(task)
    again = [talk.new_id(worker) for _ in range(3)]
    payload, columns = parts(again)
    talk.says(worker, m.Done([pack_result(task, 2, PARTS, 0, 5, payload)], columns))
    assert replies(talk.heard) == {task + 1: (Status.VALUE, b"%d" % again[1])}
    assert {again[0], again[2]} <= set(dropped(talk.heard))


def test_arguments_are_kept_for_another_run_and_freed_with_the_value() -> None:
    talk = Loser()
    carried = talk.new_id()
    talk.says(DRIVER, m.Put((carried, 1, 9, 1000)))
    task = talk.keeps(max_retries=1, carries=[carried])
    lost = talk.makes_large(task)
    talk.says(DRIVER, m.Release([carried]))
    assert carried in talk.hub._state.objects
    talk.loses(lost)
    assert list(talk.run_of(task).references) == [carried]
    talk.makes_large(task, attempt=2)
    talk.says(DRIVER, m.Release([task]))
    assert carried in dropped(talk.heard)


def test_recipes_take_no_more_than_their_budget() -> None:
    talk = Loser()
    talk.lineage.limit_bytes = 5000
    tasks = [talk.keeps(max_retries=1) for _ in range(30)]
    lost = {}
    while any(task in talk.hub._state.tasks for task in tasks):
        for task in tasks:
            if task in talk.hub._state.tasks and talk.holder(task):
                lost[task] = talk.makes_large(task)
    assert 0 < len(talk.lineage.recipes) < 10
    assert talk.lineage.size_bytes <= 5000
    forgotten = next(task for task in tasks if task not in talk.lineage.recipes)
    talk.says(DRIVER, m.Missing(forgotten, [lost[forgotten]]))
    assert "lineage_limit_bytes" in why(talk.heard, forgotten)


def test_large_arguments_beyond_the_budget_are_not_kept() -> None:
    talk = Loser()
    talk.lineage.limit_bytes = 5000
    carried = talk.new_id()
    talk.says(DRIVER, m.Put((carried, 1, 9, 100_000)))
    task = talk.keeps(max_retries=1, carries=[carried])
    lost = talk.makes_large(task)
    talk.says(DRIVER, m.Release([carried]))
    assert carried not in talk.hub._state.objects
    talk.says(DRIVER, m.Missing(task, [lost]))
    assert "lineage_limit_bytes" in why(talk.heard, task)


def test_nothing_is_run_for_a_group_that_is_gone() -> None:
    talk = Loser()
    task = talk.keeps(max_retries=1)
    lost = talk.makes_large(task)
    talk.closes(talk.group, CloseMode.DRAIN)
    talk.says(DRIVER, m.Missing(task, [lost]))
    assert "submitted" in why(talk.heard, task)


def test_a_lost_value_that_nobody_holds_any_more_is_made_for_the_task_that_needs_it() -> None:
    talk = Loser()
    first = talk.keeps(max_retries=1)
    lost = talk.makes_large(first)
    second = talk.keeps(first)
    talk.says(DRIVER, m.Release([first]))
    talk.cannot_begin(second, first, lost)
    talk.makes_large(first, attempt=2)
    talk.makes(talk.holder(second), second)
    assert ends(talk.heard) == {second: Status.VALUE}
    assert talk.status(first) is None
    assert not talk.lineage.recipes


def test_a_long_chain_of_recipes_is_made_and_forgotten_without_recursion() -> None:
    talk = Loser()
    talk.hub.check = lambda: None  # type: ignore[method-assign]  # it would look at all of them each time
    before = 0
    for _ in range(3000):
        task = talk.keeps(*([before] if before else ()), max_retries=1)
        lost = talk.makes_large(task)
        if before:
            talk.says(DRIVER, m.Release([before]))
        before = task
    assert len(talk.lineage.recipes) == 3000
    talk.loses(lost)
    assert len(talk.hub._state.tasks) == 3000
    while talk.hub._state.tasks:
        (task,) = [one.id for worker in talk.hub._state.roster.workers.values() for one in worker.held.values()][:1]
        talk.makes_large(task, attempt=2)
    talk.says(DRIVER, m.Release([before]))
    assert not talk.lineage.recipes


def test_calls_of_an_actor_keep_their_order_when_an_argument_is_lost() -> None:
    talk = Loser()
    value = talk.keeps(max_retries=1)
    lost = talk.makes_large(value)
    actor = talk.new_id()
    talk.says(DRIVER, OpenActor(actor, talk.group, b"spec", 0, 1, 0, b"", b"Actor", b"meta"))
    talk.says(DRIVER, m.Submit(actor, 0, [9], [b"make"], [actor], [9], [b"args"], returns=[1]))
    worker = max(talk.hub._state.roster.workers)
    calls = [talk.keeps(value, group=actor), talk.keeps(group=actor), talk.keeps(value, group=actor)]
    talk.loses(lost)
    talk.gets_ready(worker)
    talk.says(worker, m.Done([pack_result(actor, 1, Status.VALUE, 0, 5, b"")]))
    assert all(task not in run.tasks for run in sent(talk.heard, m.Run) for task in calls)
    talk.makes_large(value, attempt=2)
    ran = []
    while any(task in talk.hub._state.tasks for task in calls):
        task = next(iter(talk.hub._state.roster.workers[worker].held))
        ran.append(task)
        talk.makes(worker, task)
    assert ran == calls


@pytest.mark.parametrize("objects", [(), (1 << 50,)])
def test_reports_about_what_is_not_there_change_nothing(objects: tuple[int, ...]) -> None:
    talk = Loser()
    task = talk.keeps(max_retries=1)
    talk.makes_large(task)
    talk.loses(*objects)
    talk.says(DRIVER, m.Missing(task + 1000, objects))
    assert replies(talk.heard) == {task + 1000: (Status.LOST, b"")}
    talk.says(DRIVER, m.Missing(task, (1 << 50,)))
    assert replies(talk.heard)[task][0] == Status.VALUE
    assert talk.status(task) == Status.VALUE
