"""Items of streams and of dynamic tasks that are lost: which run makes them again, and when none can."""

from __future__ import annotations

import json

import pytest

from _core.dialogue import PID, runs, sent
from _core.test_keeping import replies
from _core.test_lineage import Loser
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result, pack_stream_end, pack_yielded


class Streaming(Loser):
    """A stream whose items lie in objects."""

    def __init__(self, limit: int = 3, max_retries: int = 1) -> None:
        super().__init__()
        self.task = self.keeps(returns=-limit, max_retries=max_retries)
        self.new_id()  # the right to read it
        self.made: dict[int, int] = {}
        """By value: the object that it lies in."""

    @property
    def remake(self) -> int:
        return self.task + 1

    def yields(self, position: int, *, task: int = 0, attempt: int = 1) -> int:
        worker = self.holder(task or self.task)
        value, made = self.new_id(worker), self.new_id(worker)
        self.made[value] = made
        columns = (made, PID + worker, 5, 1 << 20)
        message = m.Yield(task or self.task, attempt, position, [value], [b"%d" % made], (), columns)
        self.says(worker, message)
        return value

    def ends(self, number: int, status: Status = Status.VALUE, *, task: int = 0, attempt: int = 1) -> None:
        end = pack_stream_end(number, b"end")
        self.says(self.holder(task or self.task), m.Done([pack_result(task or self.task, attempt, status, 0, 5, end)]))

    def misses(self, value: int) -> None:
        self.says(DRIVER, m.Missing(value, [self.made[value]]))

    def lets_go(self, *values: int) -> None:
        objects = [one for record in map(self.hub._state.values.get, values) if record for one in record.objects]
        self.says(DRIVER, m.Release([*values, *objects]))

    def in_(self, value: int) -> bytes:
        record = self.hub._state.values.get(value)
        assert record is not None
        assert record.status == Status.VALUE
        return record.payload


def why(talk: Loser, value: int) -> str:
    status, payload = replies(talk.heard)[value]
    assert status == Status.LOST
    return str(json.loads(payload)["why"])


def test_another_run_makes_it_and_is_closed_then() -> None:
    talk = Streaming()
    values = [talk.yields(position) for position in range(3)]
    talk.ends(3)
    talk.misses(values[1])
    assert talk.run_of(talk.remake).attempts == [2]
    talk.yields(0, task=talk.remake, attempt=2)
    assert sent(talk.heard, m.Taken) == [m.Taken(talk.remake, 1)], "it never waits for a reader"
    assert sent(talk.heard, m.Yielded) == []
    again = talk.yields(1, task=talk.remake, attempt=2)
    assert sent(talk.heard, m.Taken) == [m.Taken(talk.remake, -1)]
    assert replies(talk.heard)[values[1]] == (Status.VALUE, b"%d" % talk.made[again])
    talk.says(DRIVER, m.Release([talk.made[values[1]]]))
    assert len(talk.hub._state.objects) == 3, "what it yields besides is dropped"
    talk.ends(2, task=talk.remake, attempt=2)
    talk.lets_go(talk.task, talk.remake, *values)
    assert (len(talk.hub._state.objects), len(talk.hub._state.values), talk.lineage.recipes) == (0, 0, {})


def test_several_that_are_lost_are_made_by_one_run() -> None:
    talk = Streaming()
    values = [talk.yields(position) for position in range(3)]
    talk.ends(3)
    talk.loses(*[talk.made[value] for value in values])
    assert list(runs(talk.heard).values()) == [[talk.remake]]
    again = [talk.yields(position, task=talk.remake, attempt=2) for position in range(3)]
    assert [talk.in_(value) for value in values] == [b"%d" % talk.made[value] for value in again]
    talk.ends(3, task=talk.remake, attempt=2)
    assert talk.hub.statistics().assigned == 0


def test_without_retries_nothing_is_made_again() -> None:
    talk = Streaming(max_retries=0)
    value = talk.yields(0)
    talk.ends(1)
    assert not talk.lineage.recipes
    talk.misses(value)
    assert "max_retries" in why(talk, value)


def test_not_more_often_than_retries_allow() -> None:
    talk = Streaming(max_retries=1)
    value = talk.yields(0)
    talk.ends(1)
    talk.misses(value)
    talk.made[value] = talk.made[talk.yields(0, task=talk.remake, attempt=2)]
    talk.ends(1, task=talk.remake, attempt=2)
    talk.misses(value)
    assert "2 times" in why(talk, value)


def test_each_item_has_its_own_count() -> None:
    talk = Streaming(max_retries=1)
    values = [talk.yields(position) for position in range(4)]
    talk.ends(4)
    for number, value in enumerate(values):
        talk.misses(value)
        assert talk.run_of(talk.remake).attempts == [2]
        for position in range(number + 1):
            talk.yields(position, task=talk.remake, attempt=2)
        talk.ends(number + 1, task=talk.remake, attempt=2)
        assert talk.status(value) == Status.VALUE


def test_a_stream_that_runs_goes_on_beside_the_other_run() -> None:
    talk = Streaming()
    first, second = talk.yields(0), talk.yields(1)
    talk.misses(first)
    assert list(runs(talk.heard).values()) == [[talk.remake]]
    talk.yields(0, task=talk.remake, attempt=2)
    assert talk.status(first) == Status.VALUE
    third = talk.yields(2)
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, [third])]
    talk.ends(1, task=talk.remake, attempt=2)
    talk.ends(3)
    talk.lets_go(talk.task, talk.remake, first, second, third)
    assert not talk.lineage.recipes


def test_an_attempt_that_begins_anew_makes_what_was_lost_before() -> None:
    talk = Streaming(max_retries=2)
    values = [talk.yields(position) for position in range(2)]
    talk.dies(talk.holder(talk.task), talk.task)
    assert talk.run_of(talk.task).attempts == [2]
    talk.loses(talk.made[values[0]])
    assert talk.remake not in talk.hub._state.tasks, "it is about to be yielded once more"
    again = talk.yields(0, attempt=2)
    assert talk.in_(values[0]) == b"%d" % talk.made[again]
    assert sent(talk.heard, m.Yielded) == []
    talk.loses(talk.made[values[1]])
    talk.yields(1, attempt=2)
    assert talk.status(values[1]) == Status.VALUE


def test_an_attempt_that_has_passed_what_is_lost_is_of_no_use_for_it() -> None:
    talk = Streaming(max_retries=3)
    value = talk.yields(0)
    talk.dies(talk.holder(talk.task), talk.task)
    talk.yields(0, attempt=2)
    talk.misses(value)
    assert talk.hub._state.tasks[talk.remake].attempt == 3


def test_what_is_lost_behind_another_run_has_one_of_its_own() -> None:
    talk = Streaming(max_retries=2)
    first, second = talk.yields(0), talk.yields(1)
    talk.ends(2)
    talk.misses(second)
    talk.yields(0, task=talk.remake, attempt=2)
    talk.misses(first)
    assert runs(talk.heard) == {}
    talk.yields(1, task=talk.remake, attempt=2)
    assert (talk.status(first), talk.status(second)) == (PENDING, Status.VALUE)
    talk.ends(2, task=talk.remake, attempt=2)
    assert talk.run_of(talk.remake).attempts == [2]
    talk.yields(0, task=talk.remake, attempt=2)
    assert talk.status(first) == Status.VALUE


def test_one_that_yields_fewer_the_second_time() -> None:
    talk = Streaming(max_retries=5)
    values = [talk.yields(position) for position in range(2)]
    talk.ends(2)
    talk.misses(values[1])
    talk.yields(0, task=talk.remake, attempt=2)
    talk.ends(1, task=talk.remake, attempt=2)
    assert "yielded 1 items only" in why(talk, values[1])
    assert talk.status(values[0]) == Status.VALUE


@pytest.mark.parametrize("status", [Status.ERROR, Status.WORKER_DIED, Status.CANCELLED])
def test_a_run_that_fails_ends_what_was_lost_and_what_needs_it(status: Status) -> None:
    talk = Streaming()
    value = talk.yields(0)
    talk.ends(1)
    talk.misses(value)
    run = talk.heard
    dependent = talk.keeps(value)
    assert talk.remake in {task for tasks in runs(run).values() for task in tasks}
    if status == Status.ERROR:
        talk.ends(0, status, task=talk.remake, attempt=2)
    elif status == Status.WORKER_DIED:
        talk.dies(talk.holder(talk.remake), talk.remake)
    else:
        talk.closes(talk.group, CloseMode.TERMINATE)
    found = {**replies(talk.heard)}
    assert found[value][0] == status
    assert dependent not in talk.hub._state.tasks


def test_a_run_whose_worker_dies_is_tried_again() -> None:
    talk = Streaming(max_retries=2)
    values = [talk.yields(position) for position in range(2)]
    talk.ends(2)
    talk.misses(values[1])
    talk.yields(0, task=talk.remake, attempt=2)
    talk.dies(talk.holder(talk.remake), talk.remake)
    assert talk.run_of(talk.remake).attempts == [3]
    talk.yields(0, task=talk.remake, attempt=3)
    talk.yields(1, task=talk.remake, attempt=3)
    assert talk.status(values[1]) == Status.VALUE


def test_when_nobody_wants_it_any_more_the_run_ends() -> None:
    talk = Streaming()
    values = [talk.yields(position) for position in range(2)]
    talk.ends(2)
    talk.misses(values[1])
    worker = talk.holder(talk.remake)
    talk.lets_go(talk.task, talk.remake, *values)
    assert sent(talk.heard, m.CancelTasks, worker) == [m.CancelTasks((talk.remake,))]
    talk.says(worker, m.Returned([], [talk.remake]))
    talk.ends(0, task=talk.remake, attempt=2)
    assert (len(talk.hub._state.values), talk.lineage.recipes) == (0, {})


def test_what_is_lost_while_the_other_run_is_being_closed() -> None:
    talk = Streaming(max_retries=2)
    values = [talk.yields(position) for position in range(3)]
    talk.ends(3)
    talk.misses(values[0])
    talk.yields(0, task=talk.remake, attempt=2)
    assert sent(talk.heard, m.Taken) == [m.Taken(talk.remake, -1)]
    talk.misses(values[2])
    talk.ends(1, task=talk.remake, attempt=2)
    assert talk.run_of(talk.remake).attempts == [2], "that it ended early was our wish"


def test_a_stream_that_goes_on_keeps_no_more_than_is_held() -> None:
    talk = Streaming()
    for position in range(20):
        value = talk.yields(position)
        talk.says(DRIVER, m.Taken(talk.task, position + 1))
        talk.lets_go(value)
        (recipe,) = talk.lineage.recipes.values()
        assert recipe.items is not None
        assert not recipe.items.positions
        assert not talk.hub._state.values.recipes
    talk.ends(20)
    assert not talk.lineage.recipes


def test_a_forgotten_item_is_made_again_for_what_was_made_of_it() -> None:
    talk = Streaming()
    value, other = talk.yields(0), talk.yields(1)
    talk.ends(2)
    task = talk.keeps(value, max_retries=1)
    made = talk.makes_large(task)
    talk.lets_go(value, other)
    assert talk.status(value) is None
    talk.says(DRIVER, m.Missing(task, [made]))
    assert list(runs(talk.heard).values()) == [[talk.remake]]
    talk.yields(0, task=talk.remake, attempt=2)
    assert talk.run_of(task).attempts == [2]
    talk.makes_large(task, attempt=2)
    talk.ends(1, task=talk.remake, attempt=2)
    talk.lets_go(task, talk.task, talk.remake)
    assert (talk.lineage.recipes, talk.hub._state.values.recipes) == ({}, {})


def test_items_that_came_out_of_a_dead_workers_record_are_known_too() -> None:
    talk = Streaming(max_retries=2)
    worker = talk.holder(talk.task)
    value, plain = talk.yields(0), talk.new_id(worker)
    talk.dies(worker, talk.task, records=[pack_yielded(talk.task, 1, 1, plain, b"plain")])
    (recipe,) = talk.lineage.recipes.values()
    assert recipe.items is not None
    assert recipe.items.positions == {value: 0, plain: 1}


def test_a_recipe_at_work_is_not_dropped_for_lack_of_room() -> None:
    talk = Streaming()
    value = talk.yields(0)
    talk.ends(1)
    talk.misses(value)
    talk.lineage.limit_bytes = 700
    other = talk.keeps(max_retries=1)
    talk.makes_large(other)
    talk.yields(0, task=talk.remake, attempt=2)
    assert talk.status(value) == Status.VALUE


class Collecting(Loser):
    """A task whose value is a list of references to its items."""

    def __init__(self, max_retries: int = 1) -> None:
        super().__init__()
        self.task = self.keeps(max_retries=max_retries)
        self.made: dict[int, int] = {}

    def keeps_item(self, position: int, *, attempt: int = 1, status: Status = Status.VALUE) -> int:
        worker = self.holder(self.task)
        value, made = self.new_id(worker), self.new_id(worker)
        self.made[value] = made
        columns = (made, PID + worker, 5, 1 << 20)
        self.says(worker, m.Keep(value, b"%d" % made, (), columns, int(status), self.task, attempt, position))
        return value

    def ends_with(self, values: list[int], *, attempt: int = 1) -> None:
        worker = self.holder(self.task)
        parts = pack_parts([Part(b"list", 0, values)])
        heard = self.says(worker, m.Done([pack_result(self.task, attempt, PARTS, 0, 5, parts)]))
        self.says(DRIVER, m.Hold(values))
        self.says(worker, m.Release([*values, *(self.made[value] for value in values)]))
        self.heard = heard


def test_an_item_of_a_list_is_made_again() -> None:
    talk = Collecting()
    values = [talk.keeps_item(position) for position in range(3)]
    talk.ends_with(values)
    talk.says(DRIVER, m.Missing(values[1], [talk.made[values[1]]]))
    assert talk.run_of(talk.task).attempts == [2]
    again = [talk.keeps_item(position, attempt=2) for position in range(3)]
    record = talk.hub._state.values.get(values[1])
    assert record is not None
    assert record.objects == (talk.made[again[1]],)
    talk.ends_with(again, attempt=2)
    talk.says(DRIVER, m.Release(again))
    assert len(talk.hub._state.values) == 4, "copies of the others are gone"
    assert len(talk.hub._state.objects) == 3
    talk.says(DRIVER, m.Release([talk.task, *values, talk.made[again[1]]]))
    assert (len(talk.hub._state.values), talk.lineage.recipes) == (0, {})


def test_an_item_that_raises_the_second_time() -> None:
    talk = Collecting()
    (value,) = values = [talk.keeps_item(0)]
    talk.ends_with(values)
    talk.says(DRIVER, m.Missing(value, [talk.made[value]]))
    talk.keeps_item(0, attempt=2, status=Status.ERROR)
    assert replies(talk.heard)[value][0] == Status.ERROR


def test_a_list_that_is_shorter_the_second_time() -> None:
    talk = Collecting(max_retries=3)
    values = [talk.keeps_item(position) for position in range(2)]
    talk.ends_with(values)
    talk.says(DRIVER, m.Missing(values[1], [talk.made[values[1]]]))
    again = talk.keeps_item(0, attempt=2)
    talk.ends_with([again], attempt=2)
    assert "yielded 1 items only" in why(talk, values[1])


def test_items_of_an_attempt_that_died_are_forgotten() -> None:
    talk = Collecting(max_retries=2)
    talk.keeps_item(0)
    talk.dies(talk.holder(talk.task), talk.task)
    assert talk.hub._state.values.recipes.keys() == {talk.task}
    value = talk.keeps_item(0, attempt=2)
    talk.ends_with([value], attempt=2)
    talk.says(DRIVER, m.Missing(value, [talk.made[value]]))
    assert talk.run_of(talk.task).attempts == [3]


@pytest.mark.parametrize("attempt", [2, 1])
def test_what_is_said_to_be_an_item_and_is_none(attempt: int) -> None:
    talk = Collecting()
    other = talk.keeps(returns=2, max_retries=1)
    worker = talk.holder(other)
    task = talk.task if attempt == 2 else other
    talk.says(worker, m.Keep(talk.new_id(worker), b"x", (), (), int(Status.VALUE), task, attempt, 0))
    assert not talk.hub._state.values.recipes
