"""One task is called, and how it ended is logged before anything else happens."""

from __future__ import annotations

import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._base.ids import make_id
from scalepool._runtime.executor import Executor, FunctionSlot, WorkItem
from scalepool._runtime.packing import Packer
from scalepool._store import flight as flight_module
from scalepool._store.flight import FlightRecord
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool._wire.messages import Status
from scalepool._wire.pickling.exceptions import decode_exception
from scalepool._wire.records import unpack_result
from scalepool.errors import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Bench:
    def __init__(self) -> None:
        ids = iter(range(1, 1000))
        self.packer = Packer(SegmentStore(), Views(), lambda: next(ids), 65_536)
        fd = flight_module.create("test")
        self.flight = FlightRecord.attach(fd)
        os.close(fd)
        self.rooms = 0
        self.executor = Executor(self.packer, self.flight, self.make_room, lambda peer: peer)
        self.logged = 0

    def make_room(self) -> None:
        self.rooms += 1
        self.flight.acked(self.logged)

    def run(self, fn: Callable[..., Any], *args: Any, task: int = 5) -> tuple[Any, Any]:
        slot = FunctionSlot(self.packer.pack(fn).data, {})
        item = WorkItem(make_id(0, task), 1, 9, slot, pickle.dumps((args, {})), {})
        record, packed = self.executor.run(item)
        self.logged += 1
        return unpack_result(record), packed


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert (bench.executor.depth, bench.executor.group, bench.flight.running()) == (0, 0, ())
    bench.flight.close()


def error_of(record: Any) -> BaseException:
    assert record.status == Status.ERROR
    return decode_exception(record.payload, RemoteTraceback)


def test_a_value_is_logged_before_the_task_is_over(bench: Bench) -> None:
    record, packed = bench.run(pow, 2, 10)

    assert (record.task, record.attempt, record.status) == (make_id(0, 5), 1, Status.VALUE)
    assert pickle.loads(record.payload) == 1024
    assert packed is None
    assert len(bench.flight.unacked(0)) == 1
    assert (bench.flight.started, bench.flight.finished) == (1, 1)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_whatever_is_raised_is_the_tasks_error(bench: Bench, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("text")

    found = error_of(bench.run(fail)[0])

    assert type(found) is error
    assert "in fail" in str(found.__cause__)
    assert "_runtime/executor.py" not in str(found.__cause__)


def test_a_function_or_argument_that_does_not_load_is_the_tasks_error(bench: Bench) -> None:
    item = WorkItem(1, 1, 9, FunctionSlot(b"\x80junk", {}), pickle.dumps(((), {})), {})
    assert unpack_result(bench.executor.run(item)[0]).status == Status.ERROR
    item = WorkItem(2, 1, 9, FunctionSlot(pickle.dumps(len), {}), b"\x80junk", {})
    assert unpack_result(bench.executor.run(item)[0]).status == Status.ERROR


def test_a_result_that_does_not_pickle_is_the_tasks_error(bench: Bench) -> None:
    assert isinstance(error_of(bench.run(sys._getframe)[0]), Exception)


def test_a_large_result_is_an_object(bench: Bench) -> None:
    record, packed = bench.run(np.ones, 100_000)

    assert record.objects == 1
    (segment,) = packed.segments
    assert packed.references == (segment.object_id,)


def test_a_full_log_waits_for_room(bench: Bench) -> None:
    for number in range(1, 40):
        bench.run(bytes, 60_000, task=number)

    assert bench.rooms >= 2
    assert bench.flight.finished == 39


def test_a_task_inside_a_task(bench: Bench) -> None:
    depths: list[tuple[int, int, int]] = []
    inner = WorkItem(2, 1, 8, FunctionSlot(pickle.dumps(abs), {}), pickle.dumps(((-3,), {})), {})

    class Outer:
        def __call__(self) -> None:
            bench.executor.run(inner)
            depths.append((bench.executor.depth, bench.executor.group, len(bench.flight.running())))

    slot = FunctionSlot(b"", {})
    slot.fn = Outer()
    bench.executor.run(WorkItem(1, 1, 9, slot, pickle.dumps(((), {})), {}))

    assert depths == [(1, 9, 1)]


def test_an_error_that_holds_data_goes_where_results_go(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError(np.zeros(500_000))

    record, packed = bench.run(fail)

    assert (record.status, record.objects) == (Status.ERROR, 1)
    (segment,) = packed.segments
    data = bench.packer.unpack(record.payload, {segment.object_id: segment})
    assert decode_exception(data, RemoteTraceback).args[0].shape == (500_000,)


def test_what_never_fits_into_the_log_is_logged_as_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentStore, "has_capacity", lambda self: False)

    record, _ = bench.run(bytes, 3_000_000)

    assert len(record.payload) > 3_000_000
    (logged,) = bench.flight.unacked(0)
    assert (unpack_result(logged).task, unpack_result(logged).objects, unpack_result(logged).payload) == (
        record.task,
        1,
        b"",
    )


def test_a_task_whose_end_cannot_be_told_has_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bench.executor, "_call", broken)
    with pytest.raises(MemoryError):
        bench.run(abs, 1)

    assert bench.flight.running() == (make_id(0, 5),)
    bench.flight.end(make_id(0, 5))
