from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from _proc.helpers import PATH, is_running, record, wait_for
from scalepool._proc.death import Exited, ForkFailed, Started
from scalepool._proc.launch import interpreter
from scalepool._proc.spawn import Zygote, ZygoteOptions, ZygoteSetup
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from _proc.helpers import Family

pytestmark = pytest.mark.live


def test_a_worker_is_what_the_runtime_expects(family: Family) -> None:
    zygote = family.zygote("tell", env_limits={"SCALEPOOL_TEST_LIMIT": "1"})
    other = family.worker(zygote)  # its descriptors must not show up in the next one
    started = family.worker(zygote, b"c" * 700_000)

    facts = json.loads(record(started))

    assert facts["pid"] == facts["group"] == started.pid
    assert facts["ppid"] == facts["session"] == zygote.pid
    assert facts["stdin"] == "/dev/null"
    assert facts["sigint_ignored"]
    assert facts["sigterm_default"]
    assert facts["config_bytes"] == 700_000
    assert facts["env"] == "1"
    assert facts["main"] is None
    # stdin, stdout, stderr, the flight record, two files for what is written to its outputs, the pipe to the tracker of
    # named semaphores, and the directory being listed
    assert len(facts["fds"]) == 8
    assert json.loads(record(other))["pid"] == other.pid


def test_interpreter_flags_travel(family: Family, session_dir: Path) -> None:
    code = f"""
import sys, os
sys.path[:0] = {PATH!r}
from pathlib import Path
from _proc.helpers import Family, record
family = Family(Path({str(session_dir)!r}))
print(record(family.worker(family.zygote("tell"))).decode())
family.close()
"""
    command = [sys.executable, "-O", "-X", "dev", "-W", "ignore", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["flags"] == [1, True]


def test_nothing_in_the_working_directory_shadows_the_standard_library(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "socket", "select", "contextlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)

    assert family.worker(family.zygote()).pid > 0


def test_the_report_tells_threads_and_failures(family: Family) -> None:
    report = family.zygote(preload=("json", "no_such_module_at_all")).wait_ready(20)

    assert report is not None
    assert report.threads == 1
    assert [name for name, _ in report.preload_failures] == ["no_such_module_at_all"]
    assert report.load_error == ""


def test_an_entry_that_cannot_be_loaded_fails_each_fork_and_nothing_hangs(family: Family) -> None:
    zygote = family.zygote("no_such_entry")
    worker_id = family.request(zygote)

    event = family.expect(ForkFailed)

    assert event.worker_id == worker_id
    assert "no_such_entry" in event.reason
    assert zygote.report is not None
    assert zygote.report.load_error == event.reason


def test_a_flight_record_that_cannot_be_made_fails_the_fork(family: Family) -> None:
    zygote = family.zygote(flight_factory="_proc.entries:fail_to_make_record")
    family.request(zygote)

    assert family.expect(ForkFailed).errno == 24


def test_a_fork_that_the_system_refuses_is_told_and_the_zygote_goes_on(family: Family) -> None:
    zygote = family.zygote(entry="_proc.refusing_fork:sleep")
    family.request(zygote)

    event = family.expect(ForkFailed)

    assert (event.errno, event.reason.split(":")[:2]) == (11, ["fork", " EAGAIN"])
    assert family.worker(zygote).pid > 0


@pytest.mark.parametrize(
    ("config", "exitcode"),
    [
        ("return:0", 0),
        ("return:7", 7),
        ("exit:3", 3),
        ("exit:-1", 255),
        ("text:bye", 1),
        ("raise:no", 1),
        ("kill:11", -11),
    ],
)
def test_exit_codes(family: Family, config: str, exitcode: int, capfd: pytest.CaptureFixture[str]) -> None:
    started = family.worker(family.zygote("end_with"), config.encode())

    assert family.expect(Exited) == Exited(started.worker_id, started.pid, exitcode)
    complaints = {"text:bye": "bye", "raise:no": "ValueError: no"}
    assert complaints.get(config, "") in capfd.readouterr().err


def test_a_worker_ends_like_a_process(family: Family, capfd: pytest.CaptureFixture[str]) -> None:
    started = family.worker(family.zygote("write_at_exit", preload=("atexit", "threading")))

    assert family.expect(Exited).exitcode == 0
    assert os.pread(started.flight_fd, 100, 0) == b"handler thread "
    assert capfd.readouterr().out == "buffered"


def test_large_configurations_do_not_block_the_caller_while_the_zygote_is_stopped(family: Family) -> None:
    zygote = family.zygote("tell")
    os.kill(zygote.pid, signal.SIGSTOP)
    for _ in range(3):
        family.request(zygote, bytes(2_000_000))
    os.kill(zygote.pid, signal.SIGCONT)

    workers = [family.expect(Started) for _ in range(3)]

    assert [json.loads(record(worker))["config_bytes"] for worker in workers] == [2_000_000] * 3


def test_close_ends_the_workers_and_leaves_the_directory(family: Family) -> None:
    zygote = family.zygote()
    worker = family.worker(zygote)

    zygote.close()

    assert not is_running(zygote.pid)
    assert family.expect(Exited) == Exited(worker.worker_id, worker.pid, -signal.SIGKILL)
    assert family.session_dir.exists()
    with pytest.raises(SessionError):
        zygote.fork(99, b"")
    zygote.close()  # again: nothing


def test_close_does_not_wait_for_an_import(family: Family) -> None:
    zygote = family.zygote(preload=("_proc.slow_module",))

    zygote.close(timeout_s=20)

    assert not is_running(zygote.pid)


def test_close_kills_a_zygote_that_does_not_obey(family: Family) -> None:
    zygote = family.zygote()
    worker = family.worker(zygote)
    os.kill(zygote.pid, signal.SIGSTOP)

    zygote.close(timeout_s=0.05)

    assert not is_running(zygote.pid)
    assert family.expect(Exited).worker_id == worker.worker_id


def test_a_zygote_without_a_watcher_can_be_closed(session_dir: Path) -> None:
    zygote = Zygote(ZygoteOptions(entry="_proc.entries:sleep"))
    zygote.set_up(ZygoteSetup(str(session_dir)))
    zygote.fork(1, b"")

    zygote.close()

    assert not is_running(zygote.pid)
    assert session_dir.exists()


def test_a_forked_copy_of_the_handle_harms_nobody(family: Family) -> None:
    zygote = family.zygote()
    family.worker(zygote)
    pid = os.fork()
    if pid == 0:
        try:
            zygote.close()
            zygote.fork(99, b"")
        except SessionError:
            os._exit(42)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert family.worker(zygote).pid > 0


def test_what_the_driver_ignores_or_blocks_does_not_reach_the_zygote(family: Family) -> None:
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        worker = family.worker(family.zygote())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGCHLD, old)

    family.watcher.send_signal(worker.worker_id, signal.SIGTERM)

    assert family.expect(Exited).exitcode == -signal.SIGTERM


def test_an_interpreter_must_be_known_and_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "multiprocessing.spawn", raising=False)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(SessionError, match="set_executable"):
        interpreter()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(SessionError, match="ENOENT"):
        Zygote(ZygoteOptions())


def test_the_module_can_be_run_by_name_and_ends_with_its_socket() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "scalepool._proc.zygote", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, cwd=PATH[0])
    theirs.close()
    assert process.poll() is None

    ours.close()

    assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == 0


def test_a_driver_without_stdio_gets_workers_with_all_three(session_dir: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"""
import os, sys
os.closerange(0, 3)
sys.path[:0] = {PATH!r}
from pathlib import Path
from _proc.helpers import Family, record
family = Family(Path({str(session_dir)!r}))
line = record(family.worker(family.zygote("tell")))
family.close()
Path({str(told)!r}).write_bytes(line)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

    facts = json.loads(wait_for(told.read_bytes))
    assert facts["stdin"] == "/dev/null"
    assert {0, 1, 2} < set(facts["fds"])
