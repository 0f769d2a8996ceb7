"""What doctor says of a cluster's keys, of its address, and of the file that a head has left."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from scalepool._net.keys import ClusterKeys, write_keys
from scalepool.cli.cluster_checks import ClusterFacts, look_for_cluster, of_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SCALEPOOL_KEY_FILE", raising=False)
    monkeypatch.delenv("SCALEPOOL_ADDRESS", raising=False)
    (tmp_path / ".scalepool").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def address() -> Iterator[str]:
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent(address: str) -> str:
    """Where nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def levels() -> dict[str, tuple[str, str]]:
    found = list(of_cluster(look_for_cluster()))
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in found)
    return {finding.subject: (finding.level, finding.remedy) for finding in found}


def note(home: Path, text: str) -> Path:
    path = home / ".scalepool" / "cluster.json"
    path.write_text(text)
    return path


def test_who_has_no_cluster_is_told_nothing(home: Path) -> None:
    assert look_for_cluster() == ClusterFacts()
    assert levels() == {}


def test_keys_that_others_can_read_are_a_problem(home: Path) -> None:
    path = home / ".scalepool" / "keys.json"
    write_keys(str(path), ClusterKeys.generate())
    assert levels()["cluster keys"] == ("ok", "")
    path.chmod(0o644)
    assert levels()["cluster keys"] == ("problem", f"chmod 600 {path}")


def test_keys_that_are_wanted_and_absent_or_broken_are_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "other.json"
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(path))
    assert "scalepool keys new" in levels()["cluster keys"][1]
    path.touch(mode=0o600)
    assert "scalepool keys new" in levels()["cluster keys"][1]


def test_an_address_where_nobody_listens_is_a_problem(
    home: Path, address: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wanted, level in ((address, "ok"), (silent, "problem"), ("http://x", "problem")):
        monkeypatch.setenv("SCALEPOOL_ADDRESS", wanted)
        assert levels()["cluster"][0] == level
    monkeypatch.setenv("SCALEPOOL_ADDRESS", "local")
    assert levels() == {}


def test_the_file_of_a_dead_head_is_a_hint(home: Path, address: str, silent: str) -> None:
    note(home, json.dumps({"scalepool": 1, "address": address}))
    assert levels() == {"cluster file": ("ok", "")}
    for text in (json.dumps({"scalepool": 1, "address": silent}), "{", '{"scalepool": 2}'):
        path = note(home, text)
        level, remedy = levels()["cluster file"]
        assert level == "hint"
        assert remedy.endswith(f"rm {path}")
