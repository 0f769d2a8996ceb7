"""Values of fast streams: which wait for others, which go at once, and what is kept of those that wait."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from _runtime.test_stream_ends import Worker
from scalepool._runtime import producing
from scalepool._runtime.unsent import Unsent, merged
from scalepool._store.flight import UNSENT_CAPACITY, FlightRecord, forget_unsent, keep_unsent, unsent
from scalepool._wire import messages as m
from scalepool._wire.records import YIELDED, pack_yielded, unpack_result, unpack_yielded
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def flight() -> Iterator[FlightRecord]:
    fd = FlightRecord.create("unsent-test")
    record = FlightRecord.attach(fd)
    os.close(fd)
    yield record
    record.close()


class Fast(Worker):
    """A worker whose clock the test moves; ``late`` has what nobody has sent yet."""

    def __init__(self, flight: FlightRecord, monkeypatch: pytest.MonkeyPatch, limit: int = 10_000) -> None:
        super().__init__(limit)
        self.now = 100.0
        monkeypatch.setattr(producing, "monotonic_s", lambda: self.now)
        self.flight = flight
        self.unsent = self.client.outgoing.unsent = Unsent(flight)
        self.pump.kick = self.kicked  # type: ignore[method-assign]
        self.messages = 0

    def kicked(self, *, now: bool, burst: bool = False) -> None:
        if now:
            self.take()

    def take(self) -> None:
        mark = self.unsent.mark()
        before = len(self.sent)
        super().take()
        self.messages += len(self.sent) - before
        self.unsent.sent(mark)

    def makes(self, count: int, *, apart_s: float = 0.00001, value: Any = 7) -> None:
        for _ in range(count):
            self.now += apart_s
            self.producer.send(value)

    @property
    def arrived(self) -> int:
        return sum(len(message.values) for message in self.sent)

    def kept(self) -> list[int]:
        return [unpack_yielded(unpack_result(frame).payload)[0] for frame in unsent(self.flight)]


@pytest.fixture
def worker(flight: FlightRecord, monkeypatch: pytest.MonkeyPatch) -> Fast:
    return Fast(flight, monkeypatch)


def test_the_first_values_go_at_once_and_then_they_travel_together(worker: Fast) -> None:
    worker.makes(10)
    assert worker.arrived == 10
    worker.makes(10_000)
    assert worker.messages < 1000
    worker.take()
    assert worker.arrived == 10_010
    positions = [message.position for message in worker.sent]
    sizes = [len(message.values) for message in worker.sent]
    assert positions == [sum(sizes[:at]) for at in range(len(sizes))]
    assert len({value for message in worker.sent for value in message.values}) == 10_010


def test_slow_values_and_the_first_after_a_pause_wait_for_nobody(worker: Fast) -> None:
    worker.makes(100, apart_s=0.0011)
    assert worker.arrived == 100
    worker.makes(500)
    worker.take()
    worker.makes(1, apart_s=0.01)
    assert worker.arrived == 601


def test_none_waits_longer_than_a_millisecond_for_the_next_one(worker: Fast) -> None:
    worker.makes(100)
    worker.take()
    waited_since = worker.now
    while worker.arrived == 100 or worker.kept():
        worker.makes(1, apart_s=0.0004)
        if worker.sent[-1].position + len(worker.sent[-1].values) == worker.producer.sent:
            waited_since = worker.now
        assert worker.now - waited_since <= 0.001 + 0.0004
        if worker.producer.sent > 200:
            break
    assert worker.arrived > 190


def test_who_has_no_room_sends_what_waits_before_it_waits_itself(
    flight: FlightRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Fast(flight, monkeypatch, limit=50)
    made = 0

    def reader() -> None:
        worker.waited()
        assert worker.arrived == made, "something waits, and the reader for it"
        worker.hears_taken(made)

    worker.pump.on_wait = reader

    def values() -> Iterator[int]:
        nonlocal made
        for _ in range(1000):
            made += 1
            worker.now += 0.00001
            yield made
            assert made - worker.producer._taken <= 50

    worker.producer.run(values())
    worker.take()
    assert worker.arrived == 1000


def test_values_with_references_or_objects_go_at_once_and_in_order(worker: Fast) -> None:
    worker.makes(100)
    ref = worker.values.adopt(5, 5, "f")
    worker.makes(1, value=[ref])
    assert worker.arrived == 101
    assert worker.sent[-1].references == [5]
    assert len(worker.sent[-1].values) == 1
    worker.makes(3)
    worker.take()
    assert [message.position for message in worker.sent][-2:] == [100, 101]


def test_what_waits_is_in_the_flight_record_until_it_was_sent(worker: Fast) -> None:
    worker.makes(50)
    worker.take()
    worker.makes(20)
    assert worker.kept() == list(range(worker.arrived, 70))
    assert worker.kept() != []
    worker.take()
    worker.makes(1)
    assert len(worker.kept()) <= 1, "what was sent is forgotten when the next one comes"
    (frame,) = unsent(worker.flight)[-1:]
    assert unpack_result(frame)[:3] == (5, 1, YIELDED)


def test_what_finds_no_room_in_the_record_is_sent_at_once(worker: Fast) -> None:
    worker.makes(30)
    worker.makes(200, value="x" * 3000, apart_s=0.0)
    worker.take()
    assert worker.arrived == 230
    assert max(sum(map(len, message.payloads)) for message in worker.sent) <= UNSENT_CAPACITY + 4096


def test_several_streams_do_not_mix() -> None:
    one = [m.Yield(1, 1, at, [10 + at], [b"%d" % at]) for at in range(3)]
    two = m.Yield(2, 1, 0, [20], [b"x"])
    assert list(merged([one[0], one[1], two, one[2], m.Sync()])) == [
        m.Yield(1, 1, 0, [10, 11], [b"0", b"1"]), two, m.Yield(1, 1, 2, [12], [b"2"]), m.Sync()
    ]  # fmt: skip


def test_the_record_says_what_was_written_and_survives_damage(flight: FlightRecord) -> None:
    assert unsent(flight) == []
    frames = [pack_yielded(1, 1, at, 100 + at, b"x" * at) for at in range(20)]
    assert all(keep_unsent(flight, frame) for frame in frames)
    assert unsent(flight) == frames
    forget_unsent(flight)
    assert unsent(flight) == []
    assert keep_unsent(flight, b"x" * (UNSENT_CAPACITY - 8))
    assert not keep_unsent(flight, b"")
    forget_unsent(flight)
    assert keep_unsent(flight, frames[0])
    assert unsent(flight) == frames[:1]
    for value in (-1, 1 << 40, 8, 3):
        flight._words[138] = value
        assert all(len(one) <= UNSENT_CAPACITY for one in unsent(flight))


def test_records_of_values_are_checked() -> None:
    record = pack_yielded(7, 2, 3, 9, b"data")
    assert unpack_result(record)[:5] == (7, 2, YIELDED, 0, 0)
    assert unpack_yielded(unpack_result(record).payload) == (3, 9, b"data")
    with pytest.raises(ProtocolError, match="do not say what a stream has yielded"):
        unpack_result(record[:-8])
