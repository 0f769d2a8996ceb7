from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scalepool._net.keys import ClusterKeys, read_keys, write_keys
from scalepool.cli import heads
from scalepool.cli.clusters import write_file
from scalepool.cli.root import program
from scalepool.errors import SessionError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("SCALEPOOL_KEY_FILE", "SCALEPOOL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".scalepool").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def keys(home: Path) -> ClusterKeys:
    made = ClusterKeys.generate()
    write_keys(str(home / ".scalepool" / "keys.json"), made)
    return made


def up(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["up", *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("somewhere",), "ssh://, slurm://, pbs://, lsf://"),
        (("rsh://h1",), "is no target"),
        (("ssh://",), "no hosts are named"),
        (("ssh://-oProxyCommand=x",), "is no host"),
        (("slurm://q?nodes=x",), "nodes is a number"),
        (("ssh://h1", "--env", "x"), "NAME=VALUE"),
        (("ssh://h1", "--worker-args", "'"), "No closing quotation"),
        (("ssh://h1", "--hostfile", "/nonexistent"), "does not exist"),
    ],
)
def test_wrong_uses_are_told_as_such(home: Path, arguments: tuple[str, ...], words: str) -> None:
    done = up(*arguments, "--dry-run")
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert [*(home / ".scalepool").iterdir()] == []


def test_a_dry_run_by_ssh_prints_what_a_shell_can_run_but_no_key(home: Path, keys: ClusterKeys) -> None:
    hostfile = home / "hosts"
    hostfile.write_text("h3:7\n")
    (home / "project").mkdir()
    done = up(
        "ssh://me@h1,h2:4", "--head", "10.0.0.5", "--dry-run", "--hostfile", str(hostfile), "--sync",
        str(home / "project"), "--worker-args", "--memory 8GB", "--env", "A=b c",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for words in ("me@h1", "me@h2", "me@h3", "--cpus 4", "--cpus 7", "tcp://10.0.0.5:7877", "--memory 8GB", "A='b c'"):
        assert words in done.output
    assert subprocess.run(["sh", "-n"], input=done.output, text=True, capture_output=True, check=False).stderr == ""
    for pair in keys.pairs.values():
        assert pair.secret.decode() not in done.output


@pytest.mark.parametrize("system", ["slurm", "pbs", "lsf"])
def test_a_dry_run_of_a_job_prints_the_script_and_leaves_nothing(home: Path, keys: ClusterKeys, system: str) -> None:
    (home / "prologue").write_text("module load python\n")
    before = sorted(home.rglob("*"))
    done = up(f"{system}://long?nodes=2&cpus=8", "--dry-run", "--prologue", str(home / "prologue"))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("#!/bin/bash\n")
    assert "module load python\n" in done.output
    assert f"--key-file {home}/.scalepool/agent-{keys.cluster}.json" in done.output
    assert sorted(home.rglob("*")) == before


def test_a_template_of_ones_own(home: Path, keys: ClusterKeys) -> None:
    mine = home / "mine.sh"
    mine.write_text("#!/bin/sh\n#X queue {{queue}}\n#X wall {{time}}\n{{command}}\n")
    done = up("slurm://long", "--dry-run", "--template", str(mine), "--python", "/opt/python", "--head", "tcp://h:1")
    key_file = home / ".scalepool" / f"agent-{keys.cluster}.json"
    worker = f"/opt/python -m scalepool worker tcp://h:1 --key-file {key_file}"
    assert done.output == f"#!/bin/sh\n#X queue long\n{worker}\n"
    mine.write_text("{{nothing}}")
    assert up("slurm://long", "--dry-run", "--template", str(mine)).exit_code == 2


def test_a_head_that_others_cannot_reach_is_told_before_anything_is_done(home: Path, keys: ClusterKeys) -> None:
    write_file(home / ".scalepool" / "cluster.json", {"address": "tcp://127.0.0.1:1"})
    for target in ("ssh://h1.invalid", "slurm://long"):
        done = up(target, "--dry-run")
        assert done.exit_code == 1
        assert "listens for this host only" in done.output
        assert "scalepool down" in done.output


def test_a_head_that_does_not_answer_is_an_error_where_it_was_named(
    home: Path, keys: ClusterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_ANSWER_S", 0.2)
    done = up("slurm://long", "--head", "tcp://127.0.0.1:1")
    assert done.exit_code == 1
    assert "127.0.0.1:1" in done.output


def test_which_address_leads_to_a_host() -> None:
    assert heads.address_towards("127.0.0.1") == "127.0.0.1"
    with pytest.raises(SessionError, match="--head ADDRESS"):
        heads.address_towards("no-such-host.invalid")


def test_hosts_that_share_the_home_get_their_half_of_the_keys(home: Path, keys: ClusterKeys) -> None:
    path = heads.agent_key_file(keys)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keys(str(path)) == keys.only_for("agent")
    number = path.stat().st_ino
    assert heads.agent_key_file(keys).stat().st_ino == number  # hosts may be reading it
    path.chmod(0o644)
    assert heads.agent_key_file(keys).stat().st_mode & 0o777 == 0o600


def test_a_head_that_cannot_start_says_why(home: Path) -> None:
    with pytest.raises(SessionError, match="192\\.0\\.2\\.1"):
        heads.find_head("192.0.2.1", 0, None, lambda: "", dry_run=False)  # nobody's address
