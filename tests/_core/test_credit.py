"""How much work a worker should hold: tables of numbers."""

from __future__ import annotations

import pytest

from scalepool._core.credit import HOLD_S, STALE_S, depth, enough, recall_count, share, workers_wanted
from scalepool._core.functions import FunctionRecord
from scalepool._core.groups import Group
from scalepool._core.task import Task
from scalepool._core.workers import Worker, WorkerState
from scalepool._wire import messages as m


@pytest.mark.parametrize(
    ("mean_s", "expected"),
    [
        (None, 1),
        (0.0, 5000),  # three microseconds are what each costs besides
        (1e-6, 3750),
        (1e-4, 146),
        (0.001, 15),
        (HOLD_S, 2),
        (0.029, 2),
        (0.031, 1),
        (3600.0, 1),
    ],
)
def test_depth_is_fifteen_milliseconds_of_work(mean_s: float | None, expected: int) -> None:
    assert depth(mean_s) == expected


@pytest.mark.parametrize(
    ("mean_s", "expected"), [(None, 1), (3600.0, 1), (HOLD_S, 2), (0.005, 3), (0.001, 13), (0.0, 3751)]
)
def test_enough_is_where_a_message_is_not_worth_it(mean_s: float | None, expected: int) -> None:
    assert enough(mean_s) == expected


@pytest.mark.parametrize(
    ("ready", "candidates", "room", "expected"),
    [(10, 2, 100, 5), (10, 2, 3, 3), (11, 2, 100, 6), (1, 4, 100, 1), (5, 1, 100, 5), (5, 1, 0, 0)],
)
def test_share_leaves_something_for_the_last(ready: int, candidates: int, room: int, expected: int) -> None:
    assert share(ready, candidates, room) == expected


@pytest.mark.parametrize(
    ("ready", "mean_s", "expected"),
    [(7, None, 7), (1000, 0.0, 1), (1000, 1e-5, 3), (3, 1.0, 3), (0, None, 0), (10, 0.005, 10)],
)
def test_workers_wanted_are_as_many_as_the_work_is_worth(ready: int, mean_s: float | None, expected: int) -> None:
    assert workers_wanted(ready, mean_s) == expected


@pytest.mark.parametrize(
    ("held", "mean_s", "silent_s", "expected"),
    [
        (0, 1.0, 1.0, 0),  # nothing there
        (1, 1.0, 1.0, 0),  # what runs stays
        (9, 1e-6, 0.0, 0),  # worth less than the message
        (9, 0.001, 0.0, 4),  # half of what waits
        (2, 0.002, 0.0, 1),
        (9, None, 0.0, 0),
        (9, None, STALE_S, 8),  # stuck behind a long one: all
        (9, 1e-6, STALE_S, 8),
    ],
)
def test_recall_count(held: int, mean_s: float | None, silent_s: float, expected: int) -> None:
    assert recall_count(held, mean_s, silent_s) == expected


@pytest.mark.parametrize("mean_s", [None, 3600.0, HOLD_S, 0.005, 0.001, 1e-4])
def test_who_holds_enough_has_no_room_and_who_holds_less_has_some(mean_s: float | None) -> None:
    group = Group(m.OpenGroup(1, 0, 1, 1, 0, 0, b"", 0, 0), m.DRIVER, None)
    worker = Worker(1, group)
    worker.state = WorkerState.READY
    function = FunctionRecord(1, b"")
    full = enough(mean_s)
    for number in range(full + 2):
        assert (worker.room(mean_s) > 0) == (len(worker.held) < full)
        worker.held[number] = Task(number, group, function, b"", ())
