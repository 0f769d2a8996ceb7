"""Every workload of the catalogue is complete and shows well."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalepool.bench.candidates import CANDIDATES, find, missing, versions
from scalepool.bench.model import ANY_PEER
from scalepool.bench.table import WIDTH
from scalepool.bench.workloads import WORKLOADS

PARTS_OF_OURS = ("cluster-queue", "cluster-hosts")
"""What measures a part of ours that nobody else has."""
NAMES = {candidate.name for candidate in CANDIDATES}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_is_complete(name: str) -> None:
    workload = WORKLOADS[name]

    assert workload.name == name
    assert set(workload.adapters) <= NAMES
    assert find(next(iter(workload.adapters))).kind == "ours"
    if name not in PARTS_OF_OURS:
        assert any(find(candidate).kind == "peer" for candidate in workload.adapters)
    assert set(workload.fewer) <= set(workload.adapters)
    assert workload.targets, "no target"


@pytest.mark.parametrize("name", WORKLOADS)
def test_targets_name_who_takes_part(name: str) -> None:
    for target in WORKLOADS[name].targets:
        assert {target.ours, *target.against} - {ANY_PEER} <= set(WORKLOADS[name].adapters)


@pytest.mark.parametrize("name", WORKLOADS)
def test_its_description_fits_into_a_line(name: str) -> None:
    workload = WORKLOADS[name]
    assert len(name) + 2 + len(workload.what) < WIDTH
    assert not workload.what.endswith(".")


def test_names_are_unique_and_typed_easily() -> None:
    names = [name.lower() for name in (*WORKLOADS, *NAMES)]
    assert len(names) == len(set(names))
    assert not any(" " in name or "," in name for name in names)


def test_what_comes_with_python_is_here() -> None:
    assert missing("multiprocessing.Pool") is None
    assert missing("scalepool") is None


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool.bench.candidates.has_module", lambda name: False)
    assert missing("ray") == "not installed"
    assert missing("loky") == "not installed"


def test_loky_is_here_where_joblib_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool.bench.candidates.has_module", lambda name: name == "joblib")
    assert missing("loky") is None


def test_versions_are_those_of_installed_distributions() -> None:
    found = versions()
    assert "joblib" in found
    assert all(found.values())


def test_the_documentation_names_every_workload() -> None:
    path = Path(__file__).parents[2] / "docs" / "performance.md"
    if not path.exists():
        pytest.skip("an installed package has no documentation beside it")
    text = path.read_text(encoding="utf-8")

    assert [name for name in WORKLOADS if f"`{name}`" not in text and not name.startswith("efficiency-")] == []
    assert "`efficiency-10us`" in text
