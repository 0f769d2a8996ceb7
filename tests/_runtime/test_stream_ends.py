"""Both ends of a stream against a fake pump: what the reader's process says and hears, and what the producer's does."""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, Any

import pytest

from _runtime.test_values import Holder
from scalepool._runtime.generators import ObjectRefGenerator, generator_of
from scalepool._runtime.kept import Collecting, Dropping
from scalepool._runtime.producing import Producer, in_turn
from scalepool._runtime.returning import AHEAD, Returning, yields
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool.errors import SerializationError, TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence


class Reader(Holder):
    """A driver that reads one stream; what a worker yields has ids of its own."""

    def __init__(self, limit: int = 8) -> None:
        super().__init__()
        self.gen: ObjectRefGenerator[Any] | None = generator_of(self.keep(1, returns=-limit))
        (self.submit_message,) = self.said()
        self.task = self.submit_message.tasks[0]  # type: ignore[union-attr]

    def gets(self, *positions: int) -> None:
        for position in positions:
            value = 1 << 40 | position
            self.client.receive(m.Yielded(self.task, [value]))
            self.hears(value)

    def ends(self, status: Status = Status.VALUE) -> None:
        self.hears(self.task, self.task + 1, status=status)

    def takes(self, number: int) -> list[int]:
        assert self.gen is not None
        return [next(self.gen).id & 0xFFFF for _ in range(number)]


def taken(messages: Sequence[m.Message]) -> list[int]:
    return [message.taken for message in messages if type(message) is m.Taken]


def test_a_stream_is_submitted_with_its_limit_and_read_in_order() -> None:
    reader = Reader(limit=8)
    assert reader.submit_message.returns == [-8]  # type: ignore[union-attr]
    reader.gets(0, 1, 2)
    assert reader.takes(3) == [0, 1, 2]
    reader.ends()
    assert list(reader.gen or ()) == []
    assert "ready" in repr(reader.gen)


def test_who_waits_is_woken_by_the_next_value() -> None:
    reader = Reader()
    reader.pump.on_wait = lambda: reader.gets(0)
    assert reader.takes(1) == [0]
    reader.pump.on_wait = reader.ends
    assert list(reader.gen or ()) == []
    assert reader.gen is not None
    reader.pump.on_wait = lambda: None
    slow = Reader()
    assert slow.gen is not None
    with pytest.raises(TimeoutError, match="f yielded nothing within 0 seconds"):
        slow.gen.next(timeout=0)


def test_what_was_taken_is_told_now_and_then() -> None:
    reader = Reader(limit=8)
    reader.gets(*range(6))
    reader.takes(1)
    assert taken(reader.said()) == []
    reader.takes(1)
    assert taken(reader.said()) == [2]
    reader.takes(3)
    assert taken(reader.said()) == [4]
    closely = Reader(limit=1)
    closely.gets(0)
    closely.takes(1)
    assert taken(closely.said()) == [1]


def test_a_failure_is_the_last_reference() -> None:
    reader = Reader()
    reader.gets(0)
    reader.ends(Status.CANCELLED)
    first, last = list(reader.gen or ())
    assert reader.values.load(first._slot()) == 5
    with pytest.raises(TaskCancelledError):
        reader.values.load(last._slot())
    assert list(reader.gen or ()) == []


def test_dropping_it_lets_go_of_all_that_nobody_has_taken() -> None:
    reader = Reader()
    reader.gets(0, 1, 2)
    kept = next(reader.gen or iter(()))
    reader.said()
    reader.gen = None
    gc.collect()
    released = [value for _ in range(3) for said in reader.said() if type(said) is m.Release for value in said.objects]
    assert set(released) >= {reader.task + 1, 1 << 40 | 1, 1 << 40 | 2}
    assert kept.id not in released
    assert not reader.values.streams
    reader.gets(7)
    assert [said for said in reader.said() if type(said) is m.Release] == [m.Release([1 << 40 | 7])], "it came too late"
    reader.ends()
    reader.said()
    assert list(reader.values.table) == [kept.id]


def test_a_slot_to_watch_is_over_when_there_is_something() -> None:
    reader = Reader()
    assert reader.gen is not None
    slot, again = reader.gen._slot(), reader.gen._slot()
    assert slot is again
    assert not slot.is_over
    reader.gets(0)
    assert slot.is_over
    assert reader.gen._slot().is_over
    reader.takes(1)
    pending = reader.gen._slot()
    assert not pending.is_over
    reader.ends()
    assert pending.is_over


# ---- the producer ----


class Worker(Holder):
    """Makes one stream."""

    def __init__(self, limit: int = 2) -> None:
        super().__init__()
        self.producer = Producer(self.values, 5, 1, limit)
        self.sent: list[m.Yield] = []
        self.waits = 0
        self.pump.on_wait = self.waited
        self.pump.kick = lambda **_: self.take()  # type: ignore[method-assign]  # sent at once

    def waited(self) -> None:
        self.take()
        self.waits += 1

    def take(self) -> None:
        self.sent += [message for message in self.said() if type(message) is m.Yield]

    def hears_taken(self, taken: int) -> None:
        self.client.receive(m.Taken(5, taken))


def test_each_value_is_sent_before_the_next_is_made() -> None:
    worker = Worker(limit=100)
    made = []

    def source() -> Iterator[int]:
        for n in range(3):
            worker.take()
            made.append(len(worker.sent))
            yield n

    worker.producer.run(source())
    assert made == [0, 1, 2]
    assert [(one.task, one.attempt, one.position) for one in worker.sent] == [(5, 1, n) for n in range(3)]
    assert worker.producer.sent == 3
    assert not worker.values.producers


def test_it_waits_when_it_is_as_far_ahead_as_it_may_be() -> None:
    worker = Worker(limit=2)
    ahead = []

    def source() -> Iterator[int]:
        for n in range(5):
            ahead.append(worker.producer.sent)
            yield n

    def reads() -> None:
        worker.waited()
        worker.hears_taken(worker.producer.sent - 1)

    worker.pump.on_wait = reads
    worker.producer.run(source())
    assert ahead == [0, 1, 2, 3, 4]
    worker.take()
    assert worker.waits >= 3


@pytest.mark.parametrize("when", [0, 2])
def test_nobody_wants_more(when: int) -> None:
    worker = Worker(limit=1000)
    closed = []

    def source() -> Iterator[int]:
        try:
            for n in range(100):
                if n == when:
                    worker.hears_taken(-1)
                yield n
        except GeneratorExit:
            closed.append(True)
            raise

    worker.producer.run(source())
    assert closed == [True]
    assert worker.producer.sent == when


def test_another_try_sends_only_what_is_new() -> None:
    worker = Worker(limit=1000)

    def source(fails_at: int) -> Iterator[int]:
        for n in range(4):
            if n == fails_at:
                raise ConnectionError
            yield n

    with pytest.raises(ConnectionError):
        worker.producer.run(source(2))
    worker.producer.run(source(-1))
    worker.take()
    assert [one.position for one in worker.sent] == [0, 1, 2, 3]


def test_another_attempt_counts_only_what_the_reader_has_not_taken() -> None:
    worker = Worker(limit=2)

    def source() -> Iterator[int]:
        worker.hears_taken(8)  # as the hub says when the first of them comes again
        yield from range(10)

    def fails() -> None:
        assert worker.producer.sent == 10, "it waited for what was taken long ago"
        worker.hears_taken(9)

    worker.pump.on_wait = fails
    worker.producer.run(source())
    assert worker.producer.sent == 10


def test_what_cannot_be_pickled_is_named() -> None:
    worker = Worker()
    with pytest.raises(SerializationError, match="item 0"):
        worker.producer.run([(n for n in ())])


def test_an_asynchronous_generator_runs_in_turn_and_tidies_up() -> None:
    import asyncio

    seen = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def source(number: int) -> AsyncIterator[int]:
        task = asyncio.ensure_future(background())
        try:
            for n in range(number):
                await asyncio.sleep(0)
                yield n
        finally:
            await asyncio.sleep(0)
            seen.append("closed")
        _ = task

    assert list(in_turn(source(3))) == [0, 1, 2]
    looping = in_turn(source(3))
    assert next(looping) == 0
    looping.close()  # type: ignore[attr-defined]
    assert sorted(seen) == ["cancelled", "cancelled", "closed", "closed"]


# ---- the option ----


def plain() -> int:
    return 1


def generates() -> Iterator[int]:
    yield 1


async def generates_later() -> AsyncIterator[int]:
    yield 1


class Calls:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("function", [generates, generates_later, functools.partial(generates), Calls()])
def test_generator_functions_stream_unless_told_otherwise(function: Any) -> None:
    assert yields(function)
    assert (Returning(None, None, function).number, Returning(None, 7, function).number) == (-AHEAD, -7)
    assert Returning(None, None, function).is_stream
    assert Returning(None, -1, function).number < -(1 << 30)
    assert Returning(3, None, function).number == 3
    one = Returning(1, None, function)
    assert (one.is_one, one.is_stream) == (True, False)


def test_others_return_one_value_unless_told_otherwise() -> None:
    assert not yields(plain)
    assert not yields(len)
    assert Returning(None, None, plain).is_one
    assert Returning("streaming", None, plain).is_stream
    nothing = Returning(0, None, plain)
    assert (nothing.is_none, nothing.is_one, nothing.number) == (True, False, 1)
    assert isinstance(nothing.wrapped(plain, ()), Dropping)
    assert isinstance(Returning("dynamic", None, generates).wrapped(generates, ()), Collecting)
    assert Returning(2, None, plain).wrapped(plain, ()) is plain
