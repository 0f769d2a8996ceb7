from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scalepool._store.flight import LOG_CAPACITY, MAX_DEPTH, FlightRecord
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@pytest.fixture(params=[True, False], ids=["memfd", "file"])
def fd(request: pytest.FixtureRequest) -> Iterator[int]:
    fd = FlightRecord.create("flight-test", use_memfd=request.param)
    yield fd
    os.close(fd)


@pytest.fixture
def pair(fd: int) -> Iterator[tuple[FlightRecord, FlightRecord]]:
    writer, reader = FlightRecord.attach(fd), FlightRecord.attach(fd)
    yield writer, reader
    writer.close()
    reader.close()


Pair = tuple[FlightRecord, FlightRecord]


# Tasks


def test_a_new_record_is_empty(pair: Pair) -> None:
    _writer, reader = pair
    assert (reader.started, reader.finished, reader.running(), reader.unacked(0)) == (0, 0, (), [])


def test_the_reader_sees_what_runs(pair: Pair) -> None:
    writer, reader = pair
    writer.begin(1 << 62)
    writer.begin(8)
    assert (reader.started, reader.finished, reader.running()) == (2, 0, (1 << 62, 8))
    writer.end(8)
    assert (reader.started, reader.finished, reader.running()) == (2, 1, (1 << 62,))
    writer.end(1 << 62)
    assert (reader.started, reader.finished, reader.running()) == (2, 2, ())
    assert "started=2" in repr(reader)


def test_tasks_may_end_in_another_order(pair: Pair) -> None:
    writer, reader = pair
    for task in (1, 2, 3):
        writer.begin(task)
    writer.end(1)
    assert sorted(reader.running()) == [2, 3]
    writer.end(2)
    writer.end(3)
    assert (reader.running(), reader.finished) == ((), 3)


def test_ending_what_does_not_run_changes_nothing(pair: Pair) -> None:
    writer, reader = pair
    for task in (5, 6):
        with pytest.raises(KeyError):
            writer.end(5)
        writer.begin(task)
        writer.end(task)
    assert (reader.started, reader.finished) == (2, 2)


def test_the_depth_is_bounded(pair: Pair) -> None:
    writer, reader = pair
    for task in range(MAX_DEPTH):
        writer.begin(task)
    with pytest.raises(StoreError, match="64 tasks"):
        writer.begin(99)
    assert reader.running() == tuple(range(MAX_DEPTH))
    assert reader.started == MAX_DEPTH


def test_a_task_id_that_is_no_64_bit_number_changes_nothing(pair: Pair) -> None:
    writer, reader = pair
    with pytest.raises((ValueError, OverflowError)):
        writer.begin(1 << 63)
    assert reader.started == 0


# Results


def test_frames_are_readable_until_received(pair: Pair) -> None:
    writer, reader = pair
    frames = [b"", b"1", b"12345678", b"x" * 1000]
    assert all(writer.log_result(frame) for frame in frames)
    for received in range(6):
        assert reader.unacked(received) == frames[received:]


def test_a_full_log_refuses_and_keeps_what_it_has(pair: Pair) -> None:
    writer, reader = pair
    half = b"h" * (LOG_CAPACITY // 2 - 8)
    assert writer.log_result(half)
    assert writer.log_result(half)
    assert not writer.log_result(b"")
    assert reader.unacked(0) == [half, half]
    assert reader.unacked(1) == [half]


def test_a_frame_larger_than_the_log_is_refused(pair: Pair) -> None:
    writer, reader = pair
    assert not writer.log_result(bytes(LOG_CAPACITY - 7))
    assert writer.log_result(bytes(LOG_CAPACITY - 8))
    assert [len(frame) for frame in reader.unacked(0)] == [LOG_CAPACITY - 8]


def test_the_log_restarts_only_when_all_frames_are_confirmed(pair: Pair) -> None:
    writer, reader = pair
    third = b"t" * (LOG_CAPACITY // 3 - 16)
    assert [writer.log_result(third) for _ in range(4)] == [True, True, True, False]
    writer.acked(2)
    assert not writer.log_result(third)
    assert reader.unacked(2) == [third]
    writer.acked(3)
    writer.acked(1)  # late: changes nothing
    assert writer.log_result(b"fourth")
    assert reader.unacked(3) == [b"fourth"]
    assert reader.unacked(4) == []


def test_a_later_writer_goes_on(pair: Pair, fd: int) -> None:
    writer, reader = pair
    writer.begin(1)
    writer.log_result(b"one")
    later = FlightRecord.attach(fd)
    later.end(1)
    later.log_result(b"two")
    later.close()
    assert (reader.finished, reader.unacked(0)) == (1, [b"one", b"two"])


# Bad records


def test_other_files_are_refused(tmp_path: Any) -> None:
    with (tmp_path / "short").open("w+b") as short, pytest.raises(StoreError, match="cannot be mapped"):
        FlightRecord.attach(short.fileno())
    with (tmp_path / "blank").open("w+b") as blank:
        blank.truncate(2 * LOG_CAPACITY)
        with pytest.raises(StoreError, match="no flight record"):
            FlightRecord.attach(blank.fileno())


def test_a_worker_meets_a_revocation_with_the_next_task_that_it_begins(pair: Pair) -> None:
    writer, reader = pair
    assert writer.begin(1) == 0
    reader.revoke(3)
    assert writer.running() == (1,)
    writer.end(1)
    assert writer.begin(2) == 3
    assert reader.running() == (2,)


words = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 1 << 26)


@settings(max_examples=200)
@given(st.lists(words, min_size=3, max_size=3), st.lists(words, max_size=8), st.integers(0, 100))
def test_a_reader_survives_any_bytes(header: list[int], log: list[int], received: int) -> None:
    fd = FlightRecord.create("flight-test")
    try:
        reader = FlightRecord.attach(fd)
        os.pwrite(fd, b"".join(word.to_bytes(8, "little", signed=True) for word in header), 8)
        os.pwrite(fd, b"".join(word.to_bytes(8, "little", signed=True) for word in log), 4096)
        assert len(reader.running()) <= MAX_DEPTH
        assert sum(len(frame) + 8 for frame in reader.unacked(received)) <= LOG_CAPACITY
        reader.close()
    finally:
        os.close(fd)


# Against a model


class Flight(RuleBasedStateMachine):
    """The record against lists in Python; frames are large so that the log is full often."""

    def __init__(self) -> None:
        super().__init__()
        fd = FlightRecord.create("flight-test")
        self.writer, self.reader = FlightRecord.attach(fd), FlightRecord.attach(fd)
        os.close(fd)
        self.running: list[int] = []
        self.started = 0
        self.frames: list[bytes] = []
        self.first = 0  # frames before this one are overwritten
        self.received = self.acked = 0

    @precondition(lambda self: len(self.running) < 5)
    @rule()
    def begin(self) -> None:
        self.started += 1
        self.writer.begin(self.started)
        self.running.append(self.started)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.running))
        self.writer.end(task)
        self.running.remove(task)

    @rule(size=st.integers(0, 100) | st.integers(0, LOG_CAPACITY))
    def log(self, size: int) -> None:
        frame = bytes([len(self.frames) % 256]) * size
        if self.acked == len(self.frames):
            self.first = self.acked
        used = sum(-(-len(one) // 8) * 8 + 8 for one in self.frames[self.first :])
        fits = used + 8 + size <= LOG_CAPACITY
        assert self.writer.log_result(frame) is fits
        if fits:
            self.frames.append(frame)

    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        self.received = data.draw(st.integers(self.received, len(self.frames)))

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        self.acked = data.draw(st.integers(self.acked, self.received))
        self.writer.acked(self.acked)

    @invariant()
    def the_reader_agrees(self) -> None:
        assert sorted(self.reader.running()) == sorted(self.running)
        assert (self.reader.started, self.reader.finished) == (self.started, self.started - len(self.running))
        assert self.reader.unacked(self.received) == self.frames[self.received :]

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()


TestFlight = Flight.TestCase
TestFlight.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


# Killed at any moment


def _after_every_step(function: Any, arguments: tuple[object, ...], look: Any) -> int:
    """Call *look* after every bytecode of *function* and of what it calls in its module; returns how often."""
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        if frame.f_code.co_filename != function.__func__.__code__.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps += 1
            sys.settrace(None)
            try:
                look()
            finally:
                sys.settrace(trace)
        return trace

    former = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks at this when tracing is switched on, not later
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(former)
    return steps


def test_every_intermediate_state_of_the_log_is_a_valid_one(pair: Pair) -> None:
    writer, reader = pair
    seen: set[tuple[bytes, ...]] = set()

    def log(frame: bytes, received: int) -> int:
        seen.clear()
        return _after_every_step(writer.log_result, (frame,), lambda: seen.add(tuple(reader.unacked(received))))

    assert log(b"one", 0) > 10
    assert seen <= {(), (b"one",)}
    log(b"second", 0)
    assert seen <= {(b"one",), (b"one", b"second")}
    writer.acked(2)
    log(b"the third one, over the first two", 2)  # the log restarts
    assert seen <= {(), (b"the third one, over the first two",)}
    assert reader.unacked(2) == [b"the third one, over the first two"]


def test_every_intermediate_state_of_the_stack_is_a_valid_one(pair: Pair) -> None:
    writer, reader = pair
    seen: set[tuple[object, ...]] = set()

    def look() -> None:
        seen.add((reader.started, reader.finished, frozenset(reader.running())))

    writer.begin(1)
    assert _after_every_step(writer.begin, (2,), look) > 5
    assert seen <= {(1, 0, frozenset({1})), (2, 0, frozenset({1, 2}))}
    writer.begin(3)
    seen.clear()
    _after_every_step(writer.end, (3,), look)
    assert seen <= {(3, 0, frozenset({1, 2, 3})), (3, 1, frozenset({1, 2}))}
    writer.begin(4)
    seen.clear()
    _after_every_step(writer.end, (1,), look)  # out of order: 1 may vanish before it counts as finished
    assert seen <= {(4, 1, frozenset({1, 2, 4})), (4, 1, frozenset({2, 4})), (4, 2, frozenset({2, 4}))}


WRITER = """
import random, sys
from scalepool._store.flight import FlightRecord
record = FlightRecord.attach(int(sys.argv[1]))
random = random.Random(int(sys.argv[2]))
logged = 0
task = 0
while True:
    task += 1
    record.begin(task)
    frame = logged.to_bytes(8, "little") * random.choice((1, 7, 1000))
    while not record.log_result(frame):
        record.acked(logged)
    logged += 1
    if random.random() < 0.01:
        record.acked(logged)
    record.end(task)
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_writer_leaves_a_true_record(seed: int) -> None:
    fd = FlightRecord.create("flight-test")
    reader = FlightRecord.attach(fd)
    kill_after = random.Random(seed).randrange(1, 50_000)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(fd), str(seed)], pass_fds=[fd]) as child:
        while reader.started < kill_after:
            assert child.poll() is None
        child.kill()
    os.close(fd)
    # The nth task is the nth frame: what is running, started and logged must fit each other.
    started, running = reader.started, reader.running()
    assert started >= kill_after
    assert running in ((), (started,))
    assert reader.finished == started - len(running)
    numbers = [int.from_bytes(frame[:8], "little") for frame in reader.unacked(0)]
    assert all(frame == frame[:8] * (len(frame) // 8) for frame in reader.unacked(0))
    if numbers:
        logged = numbers[-1] + 1
        assert numbers == list(range(numbers[0], logged))
        assert logged in (reader.finished, started)
        assert reader.unacked(logged) == []
        assert len(reader.unacked(logged - 1)) == 1
    reader.close()


def test_the_items_of_running_tasks_are_read(pair: Pair) -> None:
    writer, reader = pair
    writer.begin(7)
    slots, index = writer.item_slot()
    slots[index] = 3
    writer.begin(8)
    assert reader.running_items() == {7: 3, 8: 0}
    writer.end(8)
    slots[index] = 0
    assert reader.running_items() == {7: 0}


def test_a_task_that_ends_out_of_order_takes_its_item_along(pair: Pair) -> None:
    writer, reader = pair
    for task in (7, 8):
        writer.begin(task)
        slots, index = writer.item_slot()
        slots[index] = task * 10
    writer.end(7)
    assert reader.running_items() == {8: 80}


def test_last_words_are_kept(pair: Pair) -> None:
    writer, reader = pair
    assert reader.last_words() == (b"", b"")
    writer.keep_words(b"first")
    writer.keep_words(b"x" * 10_000 + b"last")
    words, crash = reader.last_words()
    assert words.endswith(b"xlast")
    assert len(words) < 5000
    assert crash == b""
