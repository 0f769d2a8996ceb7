"""Calls on their way out become messages; messages on their way in become a queue of work."""

from __future__ import annotations

import threading

import pytest

from scalepool._core.task import PLAIN
from scalepool._runtime.functions import Function
from scalepool._runtime.holdings import Holdings
from scalepool._runtime.outgoing import Call, Outgoing
from scalepool._runtime.packing import Packed
from scalepool._store.files import SegmentRef
from scalepool._store.mapping import Views
from scalepool._wire import messages as m


def function(name: str = "f", references: tuple[int, ...] = ()) -> Function:
    return Function(Packed(b"\x80" + name.encode(), references, (), 5), name)


def call(task: int, fn: Function, group: int = 1, packed: Packed | None = None) -> Call:
    return (group, PLAIN, task, fn, packed.data if packed else b"\x80args", packed)


@pytest.fixture
def outgoing() -> Outgoing:
    return Outgoing(Views())


def test_calls_in_a_row_are_one_message(outgoing: Outgoing) -> None:
    fn = function()
    outgoing.queue.extend(call(task, fn) for task in range(1, 6))
    assert outgoing.pending

    (message,) = outgoing.drain()

    assert isinstance(message, m.Submit)
    assert list(message.tasks) == [1, 2, 3, 4, 5]
    assert list(message.functions) == [fn.id]
    assert list(message.calls) == [fn.id] * 5
    assert list(message.reference_counts) == []
    assert not outgoing.pending
    assert outgoing.drain() == []


def test_a_function_is_sent_once(outgoing: Outgoing) -> None:
    fn, other = function(), function("g")
    outgoing.queue.append(call(1, fn))
    outgoing.drain()
    outgoing.queue.extend([call(2, fn), call(3, other)])

    (message,) = outgoing.drain()

    assert list(message.functions) == [other.id]  # type: ignore[union-attr]


def test_the_order_of_messages_and_calls_is_kept(outgoing: Outgoing) -> None:
    fn = function()
    outgoing.queue.extend([m.Cancel([9]), call(1, fn), call(2, fn), m.Cancel([1]), call(3, fn), call(4, fn, group=2)])

    kinds = [(type(message).__name__, list(getattr(message, "tasks", ()))) for message in outgoing.drain()]

    assert kinds == [("Cancel", [9]), ("Submit", [1, 2]), ("Cancel", [1]), ("Submit", [3]), ("Submit", [4])]


def test_references_of_calls_and_functions_travel(outgoing: Outgoing) -> None:
    fn = function(references=(7,))
    segment = SegmentRef(8, 100, 5, 1000)
    outgoing.queue.extend([call(1, fn, packed=Packed(b"\x01", (8,), (segment,), 1000)), call(2, fn)])

    (message,) = outgoing.drain()

    assert isinstance(message, m.Submit)
    assert list(message.reference_counts) == [2, 1]
    assert list(message.references) == [8, 7, 7]
    assert list(message.objects) == [8, 100, 5, 1000]


def test_released_objects_are_reported(outgoing: Outgoing) -> None:
    outgoing.released.extend([4, 5])
    assert outgoing.pending
    assert outgoing.drain() == [m.Release([4, 5])]


def run(
    tasks: list[int], *, functions: tuple[int, ...] = (1,), counts: tuple[int, ...] = (), refs: tuple[int, ...] = ()
) -> m.Run:
    return m.Run(
        acked=0,
        functions=functions,
        blobs=[b"\x80f"] * len(functions),
        tasks=tasks,
        attempts=[1] * len(tasks),
        groups=[1] * len(tasks),
        calls=[1] * len(tasks),
        payloads=[b"\x80"] * len(tasks),
        reference_counts=counts,
        references=refs,
    )


def ids(items: list) -> list[int]:
    return [item.task for item in items]


def test_tasks_are_taken_from_both_ends() -> None:
    holdings = Holdings()
    assert holdings.add(run([1, 2, 3, 4, 5])) == []
    holdings.add(run([6], functions=()))

    first = holdings.take_oldest()
    assert first is not None
    assert first.task == 1
    assert ids(holdings.take_newest(2)) == [5, 6]
    taken, kept = holdings.take([3, 99])
    assert (ids(taken), list(kept)) == ([3], [99])
    assert ids(holdings.take_all()) == [2, 4]
    assert holdings.take_oldest() is None
    assert holdings.take_newest(3) == []


def test_each_task_knows_its_references() -> None:
    holdings = Holdings()
    holdings.add(run([1, 2, 3], counts=(1, 0, 2), refs=(10, 11, 12)))

    assert [list(item.references) for item in holdings.take_all()] == [[10], [], [11, 12]]


def test_while_the_main_thread_waits_only_what_it_waits_for_is_kept() -> None:
    holdings = Holdings()
    holdings.wanted = frozenset([2])

    assert ids(holdings.add(run([1, 2, 3]))) == [1, 3]
    assert ids(holdings.take_all()) == [2]


def test_two_threads_never_take_the_same_task() -> None:
    holdings = Holdings()
    holdings.add(run(list(range(1, 20_001))))
    taken: list[int] = []
    start = threading.Barrier(2)

    def recall() -> None:
        start.wait(30)
        while items := holdings.take_newest(7):
            taken.extend(ids(items))

    thread = threading.Thread(target=recall)
    thread.start()
    start.wait(30)
    mine: list[int] = []
    while (item := holdings.take_oldest()) is not None:
        mine.append(item.task)
    thread.join(30)

    assert sorted(mine + taken) == list(range(1, 20_001))
