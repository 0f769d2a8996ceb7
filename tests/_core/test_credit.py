"""How much work a worker should hold: tables of numbers."""

from __future__ import annotations

import pytest

from scalepool._core.credit import HOLD_S, STALE_S, depth, recall_count, share, workers_wanted


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
