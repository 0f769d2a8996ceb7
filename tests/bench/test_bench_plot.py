from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench_reports import CATALOGUE, report

from scalepool.bench.plot import draw, points

if TYPE_CHECKING:
    from pathlib import Path

POOL = "multiprocessing.Pool"
REPORT = report(
    {
        "latency": {"scalepool": [50.0], POOL: [100.0], "serial": [1.0]},
        "rate": {"scalepool": [50.0], "ray": [100.0]},
    }
)


def test_points_are_how_far_ahead_of_each_peer() -> None:
    rows, found = points(REPORT, CATALOGUE)

    assert rows == ["latency p50", "rate"]
    assert found == {POOL: [(0, 2.0)], "ray": [(1, 0.5)]}


def test_figures_without_peers_have_no_row() -> None:
    assert points(report({"rate": {"scalepool": [1.0]}}), CATALOGUE) == ([], {})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begin"), [("p.svg", b"<?xml"), ("p.png", b"\x89PNG")])
def test_a_picture_is_written(tmp_path: Path, name: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    draw(REPORT, CATALOGUE, tmp_path / name)

    assert (tmp_path / name).read_bytes().startswith(begin)
