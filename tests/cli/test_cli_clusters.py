"""How the verbs about clusters find one, and what they say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalepool.cli import status
from scalepool.cli.clusters import address_of, count_of, write_file
from scalepool.cli.daemons import detach
from scalepool.errors import SessionError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SCALEPOOL_KEY_FILE", "SCALEPOOL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_an_address_is_given_or_in_a_file_or_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionError, match="which cluster"):
        address_of(None, None)
    write_file(home / ".scalepool" / "cluster.json", {"address": "tcp://h1:1", "key_file": str(home / "gone")})
    write_file(home / "other.json", {"address": "tcp://h2:2", "key_file": str(home / "other.json")})
    assert address_of(None, None) == ("tcp://h1:1", None)
    assert address_of(str(home / "other.json"), None) == ("tcp://h2:2", str(home / "other.json"))
    assert address_of(str(home / "other.json"), "mine") == ("tcp://h2:2", "mine")
    monkeypatch.setenv("SCALEPOOL_ADDRESS", " tcp://h3:3 ")
    assert address_of(None, None) == ("tcp://h3:3", None)
    assert address_of("tcp://h4:4", None) == ("tcp://h4:4", None)


@pytest.mark.parametrize("given", ["10.0.0.5:7877", "h1", "http://h1:7877", "tcp://h1"])
def test_what_is_no_address_is_told_the_form_of_one(given: str) -> None:
    with pytest.raises(SessionError, match="has the form tcp://host:port"):
        address_of(given, None)


def test_who_is_cut_off_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    node = {
        "node": 5, "host": "h1", "slots": 1, "workers": 1, "memory_bytes": 1 << 30, "gpus": 0, "resources": {},
        "labels": {}, "leaving": False, "away": True,
    }  # fmt: skip
    here = {"session": 6, "host": "h2", "workers": 1, "away": False}
    away = {"session": 7, "host": "", "workers": 0, "away": True}
    status._show({"nodes": [node, {**node, "node": 8, "away": False}], "drivers": [here, away]})
    assert capsys.readouterr().out == (
        "2 hosts with room for 2 workers, 2 running; 2 programs\n"
        "  host 5, h1: 1 of 1 workers, 1.0 GiB for tasks, is cut off\n"
        "  host 8, h1: 1 of 1 workers, 1.0 GiB for tasks\n"
        "  program 6 on h2: 1 worker\n"
        "  program 7, which is cut off: 0 workers\n"
    )


def test_a_verb_that_does_not_start_in_the_background_is_quoted_once(home: Path) -> None:
    with pytest.raises(SessionError, match=r"^it did not start, and said: the cluster file .* cannot be read"):
        detach(["worker", str(home)], home / "worker.log", "joined")


def test_numbers_of_things() -> None:
    assert [count_of(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
