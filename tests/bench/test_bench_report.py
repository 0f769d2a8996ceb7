from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from bench_reports import CATALOGUE, report

from scalepool.bench.launch import Outcome
from scalepool.bench.plan import Plan
from scalepool.bench.report import Report, ReportError, Round

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = report({"latency": {"scalepool": [1.5, 2.5]}}, {("latency", "ray"): "not installed"})
    written.save(tmp_path / "r.json", CATALOGUE)

    assert Report.load(tmp_path / "r.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_the_file_explains_itself(tmp_path: Path) -> None:
    report({"latency": {"scalepool": [1.5]}}).save(tmp_path / "r.json", CATALOGUE)
    data = json.loads((tmp_path / "r.json").read_text())

    assert data["workloads"]["latency"]["metrics"][0] == {"name": "p50", "unit": "us", "better": "lower", "what": ""}
    assert "rate" not in data["workloads"]
    assert data["cells"][0]["rounds"][0]["values"] == {"p50": 1.5}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "cells": [{}]}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)

    with pytest.raises(ReportError, match=r"r\.json"):
        Report.load(path)


def test_rounds_are_collected_and_a_problem_is_kept() -> None:
    collected = Report.begin(Plan(("latency",), ("scalepool",), rounds=2, workers=3))
    collected.add("latency", "scalepool", Outcome({"p50": 1.0}, tasks=4, wall_s=1.0, cpu_s=0.002))
    collected.add("latency", "scalepool", Outcome({}, problem="no result within 1 s"))

    cell = collected.cell("latency", "scalepool")
    assert cell.values("p50") == [1.0]
    assert cell.rounds[0].cpu_us_per_task == 500.0
    assert cell.problem == "no result within 1 s"
    assert collected.settings["workers"] == 3
    assert collected.machine["usable_cpus"] >= 1
    assert "joblib" in collected.versions


def test_cpu_time_that_was_not_measured_is_none() -> None:
    assert Round({}).cpu_us_per_task is None
    assert Round({}, tasks=0, cpu_s=1.0).cpu_us_per_task is None
