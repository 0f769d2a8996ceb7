"""Streams: who is told what they yield, how far ahead they may be, and how they end."""

from __future__ import annotations

import pytest

from _core.dialogue import dropped, ends, runs, sent
from _core.test_keeping import Keeper, replies
from scalepool._core.events import WorkerExited
from scalepool._core.reports import LOST_AFTER_S
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import pack_result, pack_stream_end, pack_yielded
from scalepool.errors import ProtocolError


class Streaming(Keeper):
    """One stream, begun by a worker."""

    def __init__(self, limit: int = 3, max_retries: int = 0) -> None:
        super().__init__()
        self.task = self.keeps(returns=-limit, max_retries=max_retries)
        self.new_id()  # the right to read it
        self.worker = self.ran_by(self.task)

    def yields(
        self, position: int, *, attempt: int = 1, objects: tuple[int, ...] = (), refs: tuple[int, ...] = ()
    ) -> int:
        value = self.new_id(self.worker)
        self.says(self.worker, m.Yield(self.task, attempt, position, [value], [b"%d" % position], refs, objects))
        return value

    def says_end(self, sent: int, status: Status = Status.VALUE, attempt: int = 1) -> None:
        self.says(self.worker, m.Done([self.end(sent, status, attempt)]))

    def end(self, sent: int, status: Status = Status.VALUE, attempt: int = 1) -> bytes:
        return pack_result(self.task, attempt, status, 0, 5, pack_stream_end(sent, b"end"))

    def takes(self, taken: int) -> None:
        self.says(DRIVER, m.Taken(self.task, taken))

    def lets_go(self) -> None:
        self.says(DRIVER, m.Release([self.task + 1]))

    @property
    def values(self) -> int:
        return len(self.hub._state.values)


def test_what_it_yields_is_told_at_once_and_its_end_last() -> None:
    talk = Streaming()
    assert talk.run_of(talk.task).returns == [-3]
    for position in range(2):
        value = talk.yields(position)
        assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, [value])]
        assert replies(talk.heard) == {value: (Status.VALUE, b"%d" % position)}
        assert talk.holds(value) == (DRIVER,)
    talk.says_end(2)
    assert replies(talk.heard) == {talk.task: (Status.VALUE, b"end"), talk.task + 1: (Status.VALUE, b"end")}
    assert not talk.hub._state.streams
    talk.says(DRIVER, m.Release([talk.task, talk.task + 1, value, value - 1]))
    assert talk.values == 0


def test_what_was_taken_is_passed_on() -> None:
    talk = Streaming()
    for position in range(3):
        talk.yields(position)
    talk.takes(2)
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, 2)]
    talk.takes(99)
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, 3)], "no more than there was"
    talk.says_end(3)
    talk.takes(3)
    assert talk.heard == []


def test_only_its_reader_says_what_was_taken() -> None:
    talk = Streaming()
    talk.yields(0)
    talk.says(talk.workers[1], m.Taken(talk.task, 1))
    assert sent(talk.heard, m.Taken) == []


@pytest.mark.parametrize("status", [Status.ERROR])
def test_an_error_comes_after_what_was_yielded(status: Status) -> None:
    talk = Streaming()
    value = talk.yields(0)
    talk.says_end(1, status)
    assert replies(talk.heard)[talk.task] == (status, b"end")
    assert talk.holds(value) == (DRIVER,)


def test_a_death_comes_after_what_was_yielded() -> None:
    talk = Streaming()
    value = talk.yields(0)
    talk.dies(talk.worker, talk.task)
    assert ends(talk.heard)[talk.task] == Status.WORKER_DIED
    assert talk.holds(value) == (DRIVER,)
    assert not talk.hub._state.streams


@pytest.mark.parametrize("status", [Status.VALUE, Status.ERROR])
def test_a_death_that_took_values_along_is_the_end_whatever_the_worker_had_logged(status: Status) -> None:
    talk = Streaming()
    talk.yields(0)
    talk.dies(talk.worker, records=[talk.end(2, status)])
    assert ends(talk.heard)[talk.task] == Status.WORKER_DIED
    talk = Streaming(max_retries=1)
    talk.dies(talk.worker, records=[talk.end(1, status)])
    assert talk.ran_by(talk.task) != talk.worker


def test_another_attempt_tells_nothing_twice_and_hears_what_was_taken() -> None:
    talk = Streaming(max_retries=1)
    first, second = talk.yields(0), talk.yields(1)
    talk.takes(1)
    talk.dies(talk.worker, talk.task)
    talk.worker = talk.ran_by(talk.task)
    again = talk.yields(0, attempt=2)
    assert sent(talk.heard, m.Taken) == [m.Taken(talk.task, 1)]
    assert talk.holds(again) is None
    assert sent(talk.heard, m.Yielded) == []
    talk.yields(1, attempt=2)
    assert talk.heard == []
    third = talk.yields(2, attempt=2)
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, [third])]
    assert talk.holds(first) == talk.holds(second) == (DRIVER,)


def test_letting_go_of_one_that_runs_closes_it() -> None:
    talk = Streaming()
    value = talk.yields(0)
    talk.lets_go()
    assert sent(talk.heard, m.CancelTasks, talk.worker) == [m.CancelTasks((talk.task,))]
    talk.says(talk.worker, m.Returned((), (talk.task,)))
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, -1)]
    late = talk.yields(1)
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, -1)]
    assert talk.holds(late) is None
    talk.says_end(2)
    assert replies(talk.heard) == {talk.task: (Status.VALUE, b"end")}, "who waits for the end is told that it is there"
    talk.says(DRIVER, m.Release([talk.task, value]))
    assert talk.values == 0


def test_letting_go_of_one_that_waits_or_has_not_started_ends_it() -> None:
    talk = Streaming()
    running = [talk.keeps() for _ in range(40)]
    need = running[-1]
    waiting = talk.keeps(need, returns=-5)
    talk.new_id()
    talk.says(DRIVER, m.Release([waiting, waiting + 1]))
    assert waiting not in talk.hub._state.tasks
    assert waiting not in talk.hub._state.streams
    talk.lets_go()
    talk.says(talk.worker, m.Returned((talk.task,), ()))
    assert ends(talk.heard)[talk.task] == Status.CANCELLED


def test_letting_go_of_the_end_alone_changes_nothing() -> None:
    talk = Streaming()
    talk.says(DRIVER, m.Release([talk.task]))
    assert talk.heard == []
    value = talk.yields(0)
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, [value])]


def test_cancelling_one_that_runs_closes_it_and_says_so() -> None:
    talk = Streaming()
    talk.says(DRIVER, m.Cancel([talk.task]))
    talk.says(talk.worker, m.Returned((), (talk.task,)))
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, -1)]
    assert sent(talk.heard, m.CancelAnswer) == []
    talk.says_end(1)
    assert ends(talk.heard) == {talk.task: Status.CANCELLED, talk.task + 1: Status.CANCELLED}


@pytest.mark.parametrize("by", ["reader", "wish"])
def test_one_that_nobody_wants_is_not_tried_again(by: str) -> None:
    talk = Streaming(max_retries=5)
    if by == "reader":
        talk.lets_go()
    else:
        talk.says(DRIVER, m.Cancel([talk.task]))
    talk.says(talk.worker, m.Returned((), (talk.task,)))
    talk.dies(talk.worker, talk.task)
    assert ends(talk.heard)[talk.task] == Status.CANCELLED
    assert runs(talk.heard) == {}


def test_one_whose_task_has_ended_here_is_told_to_close() -> None:
    talk = Streaming()
    talk.closes(talk.group, CloseMode.TERMINATE)
    assert ends(talk.heard)[talk.task] == Status.CANCELLED
    talk.yields(0)
    assert sent(talk.heard, m.Taken, talk.worker) == [m.Taken(talk.task, -1)]


def test_large_values_live_as_long_as_their_references() -> None:
    talk = Streaming()
    made = talk.new_id(talk.worker)
    value = talk.yields(0, objects=(made, 1, 2, 4096))
    talk.says(DRIVER, m.Release([value]))
    assert dropped(talk.heard) == [], "the driver was given the object, and has not let go of it"
    talk.says(DRIVER, m.Release([made]))
    assert dropped(talk.heard) == [made]
    inner = talk.keeps()
    outer = talk.yields(1, refs=(inner,))
    talk.says(DRIVER, m.Release([inner]))
    assert talk.holds(inner) == (), "the value refers to it"
    talk.says(DRIVER, m.Release([outer]))
    assert talk.holds(inner) is None


def test_a_value_that_nobody_can_open_ends_the_attempt() -> None:
    talk = Streaming()
    talk.yields(0, objects=(0, 0, 0, 0))
    assert sent(talk.heard, m.Yielded) == []
    talk.yields(1)
    assert sent(talk.heard, m.Yielded) == []
    talk.says_end(2)
    assert ends(talk.heard) == {}, "with a value missing this is no end"
    said = talk.later(LOST_AFTER_S * 2)
    assert sent(said, m.Taken, talk.worker) == [m.Taken(talk.task, -1)], "it may wait for its reader"
    assert ends(said)[talk.task] == Status.WORKER_DIED


def test_nobody_runs_a_stream_in_the_place_of_who_waits_for_it() -> None:
    talk = Keeper()
    parent = talk.keeps()
    worker = talk.ran_by(parent)
    group = talk.opens(2, peer=worker, parent=talk.group)
    other = next(one for one in talk.workers if one != worker)
    task = talk.keeps(returns=-1, peer=worker, group=group)
    talk.says(worker, m.Block([task]))
    assert worker not in runs(talk.heard)
    assert talk.hub._state.tasks[task].worker in (0, other)


@pytest.mark.parametrize("position", [1, 7])
def test_a_gap_is_an_error(position: int) -> None:
    talk = Streaming()
    with pytest.raises(ProtocolError, match="yielded value"):
        talk.yields(position)


def test_what_makes_no_sense() -> None:
    talk = Streaming()
    with pytest.raises(ProtocolError, match="not four for each"):
        talk.yields(0, objects=(1, 2))
    with pytest.raises(ProtocolError, match="how many values"):
        talk.keeps(returns=0)


def test_tasks_for_a_group_that_is_no_more() -> None:
    talk = Keeper()
    talk.closes(talk.group, CloseMode.KILL)
    for worker in talk.workers:
        talk.dies(worker)
    task = talk.keeps(returns=-4)
    assert ends(talk.heard) == {task: Status.CANCELLED, task + 1: Status.CANCELLED}


def test_several_values_in_one_message() -> None:
    talk = Streaming(limit=10, max_retries=1)
    first = talk.yields(0)
    values = [talk.new_id(talk.worker) for _ in range(3)]
    talk.says(talk.worker, m.Yield(talk.task, 1, 1, values, [b"1", b"2", b"3"]))
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, values)]
    assert replies(talk.heard) == {value: (Status.VALUE, b"%d" % (at + 1)) for at, value in enumerate(values)}
    talk.dies(talk.worker, talk.task)
    talk.worker = talk.ran_by(talk.task)
    again = [talk.new_id(talk.worker) for _ in range(6)]
    talk.says(talk.worker, m.Yield(talk.task, 2, 0, again, [b"%d" % at for at in range(6)]))
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, again[4:])], "what was told before is not told twice"
    assert replies(talk.heard) == {again[4]: (Status.VALUE, b"4"), again[5]: (Status.VALUE, b"5")}
    assert talk.holds(first) == talk.holds(values[2]) == talk.holds(again[5]) == (DRIVER,)
    assert talk.holds(again[3]) is None


@pytest.mark.parametrize(
    "change",
    [{"payloads": [b""]}, {"values": [], "payloads": []}, {"references": [5]}, {"objects": [9, 1, 1, 8]}],
)
def test_messages_with_values_that_make_no_sense(change: dict[str, list[int]]) -> None:
    talk = Streaming()
    values = [talk.new_id(talk.worker) for _ in range(2)]
    message = m.Yield(talk.task, 1, 0, values, [b"", b""])
    with pytest.raises(ProtocolError):
        talk.says(talk.worker, message._replace(**change))
    talk.hub.check()
    talk.says(talk.worker, message)
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, values)]


def test_values_that_a_dead_worker_had_not_sent_come_before_the_news_of_its_death() -> None:
    talk = Streaming(limit=10)
    talk.yields(0)
    values = [talk.new_id(talk.worker) for _ in range(4)]
    records = [pack_yielded(talk.task, 1, at, value, b"%d" % at) for at, value in enumerate(values)]
    records.insert(2, pack_yielded(talk.task, 9, 2, values[2], b"of another attempt"))
    records.append(pack_yielded(99, 1, 0, 1, b"of no task"))
    talk.happens(WorkerExited(talk.worker, -9, (talk.task,), tuple(records)))
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, (value,)) for value in values[1:]]
    told = replies(talk.heard)
    assert [told[value] for value in values[1:]] == [(Status.VALUE, b"%d" % at) for at in (1, 2, 3)]
    assert ends(talk.heard)[talk.task] == Status.WORKER_DIED
    talk.hub.check()


def test_with_its_end_they_are_the_whole_stream() -> None:
    talk = Streaming(limit=10)
    value = talk.new_id(talk.worker)
    end = pack_result(talk.task, 1, Status.VALUE, 0, 9, pack_stream_end(1, b"end"))
    talk.happens(WorkerExited(talk.worker, -9, (), (end, pack_yielded(talk.task, 1, 0, value, b"0"))))
    assert sent(talk.heard, m.Yielded) == [m.Yielded(talk.task, (value,))]
    assert ends(talk.heard)[talk.task] == Status.VALUE


@pytest.mark.parametrize("how", ["gap", "closing", "known value"])
def test_of_no_use_are_those_after_a_gap_or_that_nobody_wants(how: str) -> None:
    talk = Streaming(limit=10)
    value = talk.new_id(talk.worker)
    if how == "closing":
        talk.says(DRIVER, m.Release([talk.task + 1]))
    if how == "known value":
        value = talk.yields(0)
    position = {"gap": 1, "closing": 0, "known value": 1}[how]
    talk.happens(WorkerExited(talk.worker, -9, (talk.task,), (pack_yielded(talk.task, 1, position, value, b""),)))
    assert sent(talk.heard, m.Yielded) == []
    talk.hub.check()
