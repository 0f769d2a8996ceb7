from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scalepool._net.keys import AGENT, ClusterKeys, read_keys, write_keys
from scalepool.cli.root import program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SCALEPOOL_KEY_FILE", raising=False)
    return tmp_path


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["keys", *arguments])


def test_new_keys_are_where_they_are_looked_for(home: Path) -> None:
    made = keys("new")
    assert made.exit_code == 0
    path = home / ".scalepool" / "keys.json"
    found = read_keys(str(path))
    assert found.cluster in made.output
    assert str(path) in made.output
    assert path.parent.stat().st_mode & 0o777 == 0o700
    shown = keys("show")
    assert shown.exit_code == 0
    assert found.cluster in shown.output
    for role, pair in found.pairs.items():
        assert f"{role:>8}  {pair.public.decode()}" in shown.output
        assert pair.secret.decode() not in made.output + shown.output


def test_keys_that_are_there_are_never_replaced(home: Path) -> None:
    keys("new")
    before = (home / ".scalepool" / "keys.json").read_bytes()
    again = keys("new")
    assert again.exit_code == 1
    assert "refusing to replace" in again.output
    assert (home / ".scalepool" / "keys.json").read_bytes() == before


def test_the_file_that_is_named_goes_before_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        assert keys("new", "--out", str(home / name)).exit_code == 0
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(home / "one"))
    assert json.loads(keys("show", "--json").output)["file"] == str(home / "one")
    assert json.loads(keys("show", "--json", "--key-file", str(home / "other")).output)["file"] == str(home / "other")


def test_json_tells_which_secrets_are_there(home: Path) -> None:
    path = str(home / "agent.json")
    mine = ClusterKeys.generate().only_for(AGENT)
    write_keys(path, mine)
    told = json.loads(keys("show", "--json", "--key-file", path).output)
    assert told["cluster"] == mine.cluster
    assert {role: key["secret"] for role, key in told["keys"].items()} == {"head": False, "agent": True}
    assert mine.pairs[AGENT].secret.decode() not in json.dumps(told)
    assert "(public half only)" in keys("show", "--key-file", path).output


def test_without_a_file_it_says_how_to_make_one(home: Path) -> None:
    absent = keys("show")
    assert absent.exit_code == 1
    assert "scalepool keys new" in absent.output
    assert "Traceback" not in absent.output


def test_a_file_that_others_can_read_is_refused(home: Path) -> None:
    keys("new")
    (home / ".scalepool" / "keys.json").chmod(0o644)
    refused = keys("show")
    assert refused.exit_code == 1
    assert "chmod 600" in refused.output


def test_a_folder_that_cannot_be_made_is_named(home: Path) -> None:
    (home / ".scalepool").write_text("in the way")
    refused = keys("new")
    assert refused.exit_code == 1
    assert ".scalepool" in refused.output
    assert "Traceback" not in refused.output
