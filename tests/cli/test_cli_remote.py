from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from scalepool.cli.remote import Plan, archive, copy_command, script, ssh_command
from scalepool.cli.targets import Host

PLAN = Plan("tcp://head:7877", "c0ffee", '{"secret": "s"}\n', ("/no/python", "python9"), {"A": "it's $HOME"})


def test_ssh_asks_nothing_and_sees_no_secret() -> None:
    command = ssh_command(["ssh", "-F", "x"], Host("h1", "me", 4), timeout_s=20.0)
    assert command[:4] == ["ssh", "-F", "x", "-T"]
    assert command[-2:] == ["me@h1", "exec /bin/sh -s"]
    assert "BatchMode=yes" in command
    assert "ConnectTimeout=20" in command
    assert "secret" not in " ".join(command)


@pytest.mark.parametrize("plan", [PLAN, PLAN._replace(copy="x-1", arguments=("--memory", "8 GB"), environment={})])
def test_the_script_is_one_for_any_shell(plan: Plan) -> None:
    text = script(plan, Host("h", "", 4))
    assert subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    assert "--cpus 4" in text
    assert "--cpus" not in script(plan, Host("h"))


def run(text: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", "-s"], input=text, text=True, capture_output=True, env=environ, check=False)


def test_without_an_interpreter_the_host_says_which_were_looked_for(tmp_path: Path) -> None:
    done = run(script(PLAN, Host("h")), tmp_path)
    assert done.returncode == 1
    assert done.stderr == "no Python there as /no/python python9; name it with --python\n"


def test_keys_are_the_users_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        run(script(PLAN._replace(key_text=text), Host("h")), tmp_path)
    path = tmp_path / ".scalepool" / "agent-c0ffee.json"
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def fake_python(folder: Path, body: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


def test_a_worker_that_ends_is_quoted(tmp_path: Path) -> None:
    python = fake_python(tmp_path, 'echo "Error: $6 does not let us in, $A" >&2; exit 1')
    done = run(script(PLAN._replace(pythons=(python,)), Host("h")), tmp_path)
    assert done.returncode == 1
    assert "does not let us in, it's $HOME" in done.stderr
    assert not [*(tmp_path / ".scalepool").glob("*.pid")]


def test_a_worker_that_joins_is_left_alone_and_joins_once(tmp_path: Path) -> None:
    # A process that is called what a worker is called.
    (tmp_path / "scalepool").symlink_to("/bin/sleep")
    sleep = tmp_path / "scalepool"
    python = fake_python(tmp_path, f'echo "$@" >> ~/calls; echo "12:00:00 joined $4" >&2; exec {sleep} 600')
    plan = PLAN._replace(pythons=(python,))
    first = run(script(plan, Host("h", "", 2)), tmp_path)
    try:
        assert first.returncode == 0, first.stderr
        assert first.stdout.startswith("joined, as process ")
        again = run(script(plan, Host("h", "", 2)), tmp_path)
        assert again.returncode == 0
        assert again.stdout.startswith("had joined already, as process ")
        keys = tmp_path / ".scalepool" / "agent-c0ffee.json"
        assert (tmp_path / "calls").read_text() == f"-m scalepool worker tcp://head:7877 --key-file {keys} --cpus 2\n"
    finally:
        os.kill(int(first.stdout.split()[-1]), 9)


def test_a_folder_is_packed_without_what_can_be_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    for name in ("a.py", "data/x.bin", ".git/config", "__pycache__/a.pyc", "pkg/__pycache__/b.pyc", "pkg/b.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    os.mkfifo(folder / "pipe")
    copy = archive(folder)
    with tarfile.open(fileobj=io.BytesIO(copy.data)) as tar:
        assert sorted(tar.getnames()) == ["a.py", "data", "data/x.bin", "pkg", "pkg/b.py"]
    assert copy.name.startswith("my-project-")
    assert archive(folder) == copy
    (folder / "a.py").write_text("other")
    assert archive(folder).name != copy.name


def unpack(command: str, data: bytes, home: Path) -> int:
    environ = {**os.environ, "HOME": str(home)}
    return subprocess.run(["sh", "-c", command], input=data, env=environ, capture_output=True, check=False).returncode


def test_a_copy_arrives_whole_and_one_that_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1")
    copy = archive(folder)
    *_, command = copy_command(["ssh"], Host("h"), copy, timeout_s=5.0)
    for _ in range(2):
        assert unpack(command, copy.data, tmp_path) == 0
    target = tmp_path / ".scalepool" / "sync"
    assert [entry.name for entry in target.iterdir()] == [copy.name]
    assert (target / copy.name / "a.py").read_text() == "x = 1"
    assert unpack(command.replace(copy.name, "other"), b"no archive", tmp_path) != 0
    assert [entry.name for entry in target.iterdir()] == [copy.name]
