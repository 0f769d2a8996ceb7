"""What tests leave behind fails their run, and what outlives it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
HASTY = "import sys, leftovers, pytest; leftovers.GRACE_S = leftovers.PATIENCE_S = 0.2; sys.exit(pytest.main())"
MODULE = """
import os, pathlib, subprocess, tempfile, time

def note(pid):
    folder = pathlib.Path("noted")
    (folder / "new").write_text(f"{pid} {tempfile.gettempdir()}")
    (folder / "new").rename(folder / str(pid))

def test_tidy():
    with tempfile.TemporaryDirectory():
        assert subprocess.run(["true"]).returncode == 0

def test_file():
    tempfile.mkdtemp(prefix="forgotten-")

def test_process():
    note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)

def test_fork():
    if (pid := os.fork()) == 0:
        os.setsid()
        time.sleep(600)
    note(pid)

def test_hanging():
    time.sleep(600)
"""


def started(folder: Path, names: str) -> subprocess.Popen[str]:
    """Start a run of some of these tests that has little patience."""
    (folder / "test_made_up.py").write_text(MODULE)
    (folder / "noted").mkdir()
    options = ["-q", "-p", "leftovers", "-p", "no:cacheprovider", "-k", names]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", HASTY, *options], cwd=folder, env=environ, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_run_that_leaves_nothing_passes(tmp_path: Path) -> None:
    run = started(tmp_path, "tidy")
    said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode == 0, said
    assert "left behind" not in said


@pytest.mark.parametrize(("name", "what"), [("file", "forgotten-"), ("process", "(sleep 600)"), ("fork", "process ")])
def test_what_is_left_fails_the_run_is_told_with_its_test_and_goes(tmp_path: Path, name: str, what: str) -> None:
    run = started(tmp_path, f"tidy or {name}")
    said = run.communicate(timeout=PATIENCE_S)[0]
    assert run.returncode == 1, said
    told = said.partition("left behind by tests")[2]
    assert what in told, said
    if name != "fork":  # it has no environment of its own
        assert f"test_made_up.py::test_{name}" in told, said
    for pid in (tmp_path / "noted").iterdir():
        until(lambda pid=pid: is_gone(int(pid.name)))


def test_a_run_that_is_killed_takes_all_with_it(tmp_path: Path) -> None:
    run = started(tmp_path, "file or process or fork or hanging")
    until(lambda: len([*(tmp_path / "noted").glob("[0-9]*")]) == 2 or run.poll() is not None)
    noted = [one.read_text().split() for one in (tmp_path / "noted").glob("[0-9]*")]
    pids, folder = [int(pid) for pid, _ in noted], Path(noted[0][1])
    assert len(pids) == 2
    assert not any(map(is_gone, pids))
    assert [one.name.partition("-")[0] for one in folder.iterdir()] == ["forgotten"]
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=PATIENCE_S)
    until(lambda: all(map(is_gone, pids)))
    until(lambda: not folder.exists())
