from __future__ import annotations

import pytest
from bench_reports import CATALOGUE, report

from scalepool.bench.compare import Change, compare, differences

POOL = "multiprocessing.Pool"
OLD = {"latency": {"scalepool": [100, 102, 98], POOL: [200, 205, 195]}}


def change(new: dict[str, list[float]], old: dict[str, list[float]] | None = None) -> Change:
    (found,) = compare(report({"latency": old} if old else OLD), report({"latency": new}), CATALOGUE)
    return found


def test_the_same_is_the_same() -> None:
    found = change({"scalepool": [101, 99, 100], POOL: [200, 210, 190]})

    assert (found.direction, found.ratio, found.old_lead, found.new_lead) == ("same", 1.0, 2.0, 2.0)


def test_slower_alone_is_worse() -> None:
    found = change({"scalepool": [150, 149, 151], POOL: [200, 210, 190]})

    assert (found.direction, found.ratio) == ("worse", 1.5)
    assert found.new_lead == pytest.approx(200 / 150)


def test_slower_with_everybody_is_the_machine() -> None:
    assert change({"scalepool": [150, 149, 151], POOL: [300, 310, 290]}).direction == "same"


def test_faster_alone_is_better() -> None:
    assert change({"scalepool": [50, 49, 51], POOL: [200, 210, 190]}).direction == "better"


def test_ranges_that_overlap_are_noise() -> None:
    assert change({"scalepool": [150, 101, 160], POOL: [200, 210, 190]}).direction == "same"


def test_a_small_change_is_none_however_narrow_the_ranges() -> None:
    assert (
        change({"scalepool": [103, 103, 103], POOL: [200, 210, 190]}, {"scalepool": [100, 100, 100]}).direction
        == "same"
    )


def test_without_peers_our_own_figure_decides() -> None:
    found = change({"scalepool": [150, 149, 151]})

    assert (found.direction, found.old_lead, found.new_lead) == ("worse", None, None)


def test_of_single_rounds_more_is_asked() -> None:
    assert change({"scalepool": [115]}, {"scalepool": [100]}).direction == "same"
    assert change({"scalepool": [130]}, {"scalepool": [100]}).direction == "worse"


def test_where_more_is_better_less_is_worse() -> None:
    old, new = report({"rate": {"scalepool": [100] * 3}}), report({"rate": {"scalepool": [50] * 3}})
    (found,) = compare(old, new, CATALOGUE)

    assert (found.direction, found.ratio) == ("worse", 0.5)


def test_what_only_one_report_has_is_left_out() -> None:
    assert compare(report(OLD), report({"rate": {"scalepool": [1.0]}}), CATALOGUE) == []


def test_other_conditions_are_named() -> None:
    assert differences(report(OLD), report(OLD)) == []
    assert differences(report(OLD), report(OLD, workers=8)) == ["workers was 2, is 8"]
