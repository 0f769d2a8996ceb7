from __future__ import annotations

import math

import pytest
from bench_reports import CATALOGUE, report

from scalepool.bench.summary import Spread, advantage, figures, overlap, spread, verdicts

MEASURED = {
    "latency": {"scalepool": [90, 80, 100], "multiprocessing.Pool": [120, 100, 110], "serial": [1, 1, 1]},
    "rate": {"scalepool": [400.0], "scalepool.Executor": [300.0], "multiprocessing.Pool": [100.0], "ray": [250.0]},
}


def test_spread_is_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert spread([]) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "better", "times"),
    [(50, 100, "lower", 2.0), (50, 100, "higher", 0.5), (0, 0, "lower", 1.0), (0, 5, "lower", math.inf)],
)
def test_advantage_says_how_many_times_better(ours: float, theirs: float, better: str, times: float) -> None:
    assert advantage(ours, theirs, better) == times  # type: ignore[arg-type]


def test_ranges_that_touch_overlap() -> None:
    assert overlap(Spread(2, 1, 3, 3), Spread(4, 3, 5, 3))
    assert not overlap(Spread(2, 1, 3, 3), Spread(4, 3.1, 5, 3))


def test_best_peer_is_no_reference_and_none_of_ours() -> None:
    latency, tail, rate = figures(report(MEASURED), CATALOGUE)

    assert (latency.ours, latency.best_peer) == ("scalepool", "multiprocessing.Pool")
    assert latency.ahead_of("multiprocessing.Pool") == pytest.approx(110 / 90)
    assert latency.ahead_of("serial") == pytest.approx(1 / 90)
    assert rate.best_peer == "ray"
    assert rate.ahead_of("ray") == 1.6
    assert rate.ahead_of("serial") is None
    assert (tail.ours, tail.best_peer, dict(tail.spreads)) == (None, None, {})


def test_targets_are_judged_by_what_they_name() -> None:
    latency, _, rate = figures(report(MEASURED), CATALOGUE)

    against_pool, absolute = verdicts(latency)
    assert against_pool.text == "≤ 0.9x multiprocessing.Pool"
    assert against_pool.value == pytest.approx(90 / 110)
    assert (against_pool.met, absolute.text, absolute.met) == (True, "≤ 100 us", True)
    against_best, executor = verdicts(rate)
    assert (against_best.text, against_best.value, against_best.met) == ("≥ 2x the best peer", 1.6, False)
    assert (executor.text, executor.met) == ("scalepool.Executor: ≥ 8x ray", False)


def test_a_target_without_its_peer_is_not_judged() -> None:
    (latency, _) = figures(report({"latency": {"scalepool": [90.0]}}), CATALOGUE)

    assert [verdict.met for verdict in verdicts(latency)] == [None, True]


def test_figures_of_one_workload_only() -> None:
    assert [figure.metric.name for figure in figures(report(MEASURED), CATALOGUE, only="rate")] == ["rate"]
