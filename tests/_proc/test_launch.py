"""The first step: an interpreter with our flags and without our descriptors, which ends when nobody wants it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from _proc.helpers import PATH, is_running, record, stat_fields, wait_for
from scalepool._proc import launch as launch_module
from scalepool._proc.launch import launch, reap
from scalepool._proc.spawn import Zygote, ZygoteOptions, ZygoteSetup

if TYPE_CHECKING:
    from pathlib import Path

    from _proc.helpers import Family

pytestmark = pytest.mark.live


def test_one_that_is_abandoned_ends_and_is_reaped() -> None:
    launched = launch()
    launched.abandon()
    launched.abandon()  # again: nothing

    assert stat_fields(launched.pid) == []


def test_control_can_be_taken_once(session_dir: Path) -> None:
    launched = launch()
    zygote = Zygote(ZygoteOptions(entry="_proc.entries:sleep"), launched)

    assert launched.control_fd == -1
    launched.abandon()  # it has an owner now
    assert is_running(zygote.pid)
    zygote.close()
    assert stat_fields(launched.pid) == []


def test_the_exit_code_is_told_once_and_by_its_parent_only() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    assert reap(child.pid, block=True) == 3
    assert reap(child.pid) == 0  # somebody has reaped it
    assert child.wait() == 0


def test_descriptors_that_the_user_made_inheritable_stay_here(family: Family) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    started = family.worker(family.zygote("tell"))
    os.close(write_end)

    # Nobody else holds the other end: it is at its end, not waiting for somebody to write.
    assert wait_for(lambda: os.read(read_end, 1) == b"")
    assert len(json.loads(record(started))["fds"]) == 8
    os.close(read_end)


def test_it_is_out_of_reach_for_the_terminals_signals_at_once() -> None:
    launched = launch()
    os.kill(launched.pid, signal.SIGINT)
    os.kill(launched.pid, signal.SIGHUP)
    try:
        assert wait_for(lambda: stat_fields(launched.pid)[3] == str(launched.pid))  # leads a session of its own
        assert is_running(launched.pid)
    finally:
        launched.abandon()


@pytest.mark.parametrize(
    ("argv", "warnoptions", "options"),
    [
        (["python", "script.py", "-O"], [], False),
        (["python", "-c", "pass"], [], False),
        (["python", "-m", "module", "-X"], [], False),
        (["python"], [], False),
        (["python", "-O", "script.py"], [], True),
        (["python", "-"], [], True),
        ([], [], True),  # embedded: who knows how it was set up
        (["python", "script.py"], ["error"], True),
    ],
)
def test_options_are_looked_up_only_where_there_may_be_some(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], warnoptions: list[str], options: bool
) -> None:
    monkeypatch.setattr(sys, "orig_argv", argv)
    monkeypatch.setattr(sys, "warnoptions", warnoptions)
    monkeypatch.setattr(subprocess, "_args_from_interpreter_flags", lambda: ["-O"])

    assert launch_module._interpreter_options() == (["-O"] if options else [])


@pytest.mark.parametrize("flags", [["-I"], ["-S"], ["-E"], ["-O"], ["-W", "error"], ["-X", "dev"], ["-X", "utf8=0"]])
def test_a_zygote_has_the_flags_of_its_driver(tmp_path: Path, session_dir: Path, flags: list[str]) -> None:
    told = tmp_path / "told"
    code = f"""
import sys
sys.path[:0] = {[*PATH, *sys.path]!r}
from pathlib import Path
from _proc.helpers import Family, record
family = Family(Path({str(session_dir)!r}))
line = record(family.worker(family.zygote("tell_flags")))
family.close()
Path({str(told)!r}).write_bytes(line)
print(list(sys.flags), sys.warnoptions)
"""
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert told.read_text() == done.stdout.strip()


@pytest.mark.parametrize("when", ["launched", "loading", "set up"])
def test_a_driver_killed_while_its_zygote_comes_up_leaves_nothing(session_dir: Path, when: str) -> None:
    code = f"""
import os, sys
sys.path[:0] = {PATH!r}
from scalepool._proc.launch import launch
from scalepool._proc.spawn import Zygote, ZygoteOptions, ZygoteSetup
launched = launch()
print(launched.pid, flush=True)
if {when!r} != "launched":
    zygote = Zygote(ZygoteOptions(entry="_proc.slow_module:nothing", sys_path=tuple({PATH!r} + sys.path)), launched)
if {when!r} == "set up":
    zygote.set_up(ZygoteSetup({str(session_dir)!r}))
os.kill(os.getpid(), 9)
"""
    driver = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert driver.returncode == -signal.SIGKILL, driver.stderr
    wait_for(lambda: not is_running(int(driver.stdout)), 2.0)
    assert session_dir.exists() is (when != "set up")  # before that nobody could know of it


def test_requests_that_come_before_it_has_loaded_anything_are_served(family: Family, session_dir: Path) -> None:
    zygote = Zygote(ZygoteOptions(entry="_proc.entries:tell", flight_factory="_proc.entries:make_record"), launch())
    os.kill(zygote.pid, signal.SIGSTOP)
    zygote.set_up(ZygoteSetup(str(session_dir), env_limits={"SCALEPOOL_TEST_LIMIT": "7"}))
    family.zygotes.append(zygote)
    family.watcher.add(zygote)
    family.request(zygote)
    os.kill(zygote.pid, signal.SIGCONT)

    from scalepool._proc.death import Started

    assert json.loads(record(family.expect(Started)))["env"] == "7"
