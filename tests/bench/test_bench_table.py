from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from bench_reports import CATALOGUE, report
from rich.console import Console

from scalepool.bench import table
from scalepool.bench.compare import compare
from scalepool.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from rich.console import RenderableType

POOL = "multiprocessing.Pool"
LONG = "RuntimeError: " + "something went wrong in a very long-winded way " * 4
REPORT = report(
    {
        "latency": {"scalepool": [90, 80, 100], POOL: [120, 100, 110], "serial": [0.5, 0.5, 0.5]},
        "rate": {"scalepool": [12_345_678.0, 12_999_999.0], POOL: [6_000_000.0, 6_100_000.0]},
    },
    {("latency", "ray"): LONG},
)


def text_of(what: RenderableType, width: int = table.WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.0123, "0.012"), (0.00012, "0.00012"), (0.5, "0.50"), (3.14159, "3.14"), (42.123, "42.1"),
        (8.0, "8"), (123.4, "123"), (45678.9, "45,679"), (7_180_933.0, "7.18M"), (float("inf"), "-"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_block_fits_into_a_hundred_columns() -> None:
    lines = [line.rstrip() for name in CATALOGUE for line in text_of(table.block(REPORT, CATALOGUE, name)).splitlines()]

    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines if "n/a" not in line)


def test_a_block_shows_figures_ratios_targets_and_reasons() -> None:
    text = text_of(table.block(REPORT, CATALOGUE, "latency"))

    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("    ")}
    assert rows["scalepool"] == ["90", "(80", "-", "100)", "100", "30"]
    assert rows[POOL] == ["110", "(100", "-", "120)", "~1.22x", "ahead", "100", "30"]
    assert rows["serial"][:4] == ["0.50", "(0.50", "-", "0.50)"]
    assert rows["serial"][4:6] == ["180x", "behind"]
    assert rows["ray"][:2] == ["n/a:", "RuntimeError:"]
    assert "target ≤ 0.9x multiprocessing.Pool: 0.82, met" in text
    assert "tail, us, lower is better" in text


def test_who_has_the_same_reason_shares_a_line() -> None:
    absent = {("latency", "ray"): "not installed", ("latency", POOL): "not installed"}
    text = text_of(table.block(report({"latency": {"scalepool": [1.0]}}, absent), CATALOGUE, "latency"))

    assert f"    {POOL}, ray n/a: not installed" in text


def test_rounds_before_a_failure_are_shown_with_it() -> None:
    failed = report({"latency": {"scalepool": [1.0]}})
    failed.cells[0].problem = "no result within 1 s"

    assert "after 1 round(s): no result within 1 s" in text_of(table.block(failed, CATALOGUE, "latency"))


def test_missed_targets_are_listed_at_the_end() -> None:
    text = text_of(table.targets_line(report({"rate": {"scalepool": [100.0], POOL: [100.0]}}), CATALOGUE))

    assert "Targets: 0 met, 1 missed, 1 not measured." in text
    assert "missed: rate (≥ 2x the best peer: 1)" in text


def test_the_listing_has_every_workload_and_fits() -> None:
    text = text_of(table.listing(WORKLOADS))

    assert all(any(line.startswith(name + " ") for line in text.splitlines()) for name in WORKLOADS)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100


def test_changes_say_what_got_worse_and_that_conditions_differ() -> None:
    old, new = report({"latency": {"scalepool": [10] * 3}}), report({"latency": {"scalepool": [20] * 3}})
    text = text_of(table.changes_table(compare(old, new, CATALOGUE), ["workers was 2, is 8"]))

    assert "Worse beyond the noise: latency p50." in text
    assert "Not the same conditions: workers was 2, is 8." in text
    assert "Nothing got worse" in text_of(table.changes_table(compare(old, old, CATALOGUE), []))


def test_the_head_says_what_the_figures_are_figures_of() -> None:
    assert "2 workers, 3 round(s)" in text_of(table.head(REPORT))
    assert "quick sizes" in text_of(table.head(report({}, quick=True)))
