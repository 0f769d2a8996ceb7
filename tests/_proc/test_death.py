from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from _proc.helpers import PATH, group_is_empty, is_running, record, stat_fields, wait_for
from scalepool._proc import death, groups
from scalepool._proc.death import Exited, ForkFailed, Started, ZygoteDied

if TYPE_CHECKING:
    from pathlib import Path

    from _proc.helpers import Family

pytestmark = pytest.mark.live

#: The promise is 2 s; a loaded machine with two cores must keep it too.
PROMISE_S = 2.0


def grandchild_of(worker: Started) -> int:
    return int(record(worker))


def test_a_killed_worker_is_reported_at_once_with_its_signal(family: Family) -> None:
    zygote = family.zygote()
    delays_s = []
    for _ in range(5):
        worker = family.worker(zygote)
        before_s = time.perf_counter()
        os.kill(worker.pid, signal.SIGKILL)
        assert family.expect(Exited) == Exited(worker.worker_id, worker.pid, -signal.SIGKILL)
        delays_s.append(time.perf_counter() - before_s)

    assert min(delays_s) < 0.010


def test_a_dead_workers_children_vanish(family: Family) -> None:
    worker = family.worker(family.zygote("have_grandchild"))
    grandchild = grandchild_of(worker)

    os.kill(worker.pid, signal.SIGKILL)

    family.expect(Exited)
    wait_for(lambda: not is_running(grandchild), PROMISE_S)


@pytest.mark.parametrize("group", [True, False])
def test_send_signal_reaches_a_stopped_worker(family: Family, group: bool) -> None:
    worker = family.worker(family.zygote())
    assert family.watcher.send_signal(worker.worker_id, signal.SIGSTOP, group=group)

    assert family.watcher.send_signal(worker.worker_id, signal.SIGKILL, group=group)

    assert family.expect(Exited).exitcode == -signal.SIGKILL
    assert not family.watcher.send_signal(worker.worker_id, signal.SIGKILL, group=group)
    assert not family.watcher.send_signal(12345, signal.SIGKILL)


def test_send_signal_to_the_group_includes_children_and_without_it_does_not(family: Family) -> None:
    worker = family.worker(family.zygote("have_grandchild"))
    grandchild = grandchild_of(worker)

    def states() -> str:
        return stat_fields(worker.pid)[0] + stat_fields(grandchild)[0]

    family.watcher.send_signal(worker.worker_id, signal.SIGSTOP, group=False)
    wait_for(lambda: states() == "TS")
    family.watcher.send_signal(worker.worker_id, signal.SIGSTOP, group=True)
    wait_for(lambda: states() == "TT")


def test_a_group_is_signalled_without_the_kernels_help_too(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    real = signal.pidfd_send_signal

    def old_kernel(pidfd: int, sig: int, siginfo: None = None, flags: int = 0) -> None:
        if flags:
            raise OSError(errno.EINVAL, "Invalid argument")
        real(pidfd, sig)

    monkeypatch.setattr(signal, "pidfd_send_signal", old_kernel)
    worker = family.worker(family.zygote("have_grandchild"))
    grandchild = grandchild_of(worker)

    # Another session's group under that number is not ours to signal.
    assert not groups.signal_group(worker.pidfd, worker.pid, os.getsid(0), signal.SIGKILL)
    assert family.watcher.send_signal(worker.worker_id, signal.SIGKILL)

    family.expect(Exited)
    wait_for(lambda: not is_running(grandchild), PROMISE_S)


def test_a_killed_zygote_takes_its_workers_and_their_children_along(family: Family) -> None:
    zygote = family.zygote("have_grandchild", name="limited")
    workers = [family.worker(zygote) for _ in range(3)]
    grandchildren = [grandchild_of(worker) for worker in workers]

    os.kill(zygote.pid, signal.SIGKILL)

    assert family.expect(ZygoteDied) == ZygoteDied("limited", -signal.SIGKILL)
    ended = {family.expect(Exited) for _ in workers}
    assert ended == {Exited(worker.worker_id, worker.pid, None) for worker in workers}
    wait_for(lambda: not any(map(is_running, grandchildren)), PROMISE_S)


def test_a_killed_zygotes_siblings_go_on(family: Family) -> None:
    first, second = family.zygote(name="first"), family.zygote(name="second")
    family.worker(second)
    os.kill(first.pid, signal.SIGKILL)

    assert family.expect(ZygoteDied).zygote == "first"
    assert family.worker(second).pid > 0


def test_requests_that_a_dead_zygote_did_not_answer_fail(family: Family) -> None:
    zygote = family.zygote()
    os.kill(zygote.pid, signal.SIGSTOP)
    worker_ids = [family.request(zygote) for _ in range(2)]
    os.kill(zygote.pid, signal.SIGKILL)

    family.expect(ZygoteDied)
    assert [family.expect(ForkFailed).worker_id for _ in worker_ids] == worker_ids


def test_a_number_that_is_in_use_is_refused_and_its_owner_goes_on(family: Family) -> None:
    zygote = family.zygote()
    worker = family.worker(zygote)

    zygote.fork(worker.worker_id, b"")

    assert family.expect(ForkFailed).errno == errno.EEXIST
    assert is_running(worker.pid)
    assert family.watcher.send_signal(worker.worker_id, signal.SIGKILL)
    assert family.expect(Exited) == Exited(worker.worker_id, worker.pid, -signal.SIGKILL)


def test_a_zygote_that_is_stopped_does_not_hide_a_death(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death, "REPORT_GRACE_S", 0.05)
    zygote = family.zygote("have_grandchild")
    worker = family.worker(zygote)
    grandchild = grandchild_of(worker)
    os.kill(zygote.pid, signal.SIGSTOP)

    os.kill(worker.pid, signal.SIGKILL)

    assert family.expect(Exited) == Exited(worker.worker_id, worker.pid, None)
    wait_for(lambda: not is_running(grandchild), PROMISE_S)
    # Its late report is not a second end.
    os.kill(zygote.pid, signal.SIGCONT)
    assert family.worker(zygote).pid > 0


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_left_its_group_is_signalled_all_the_same(family: Family, sig: signal.Signals) -> None:
    zygote = family.zygote("leave_group")
    host = family.worker(zygote, b"0")
    guest = family.worker(zygote, str(host.pid).encode())
    record(guest)

    assert family.watcher.send_signal(guest.worker_id, sig)

    assert family.expect(Exited) == Exited(guest.worker_id, guest.pid, -sig)
    assert is_running(host.pid)


def test_a_broken_callback_is_reported_and_the_watch_goes_on(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: complaints.append(str(args.exc_value)))

    def broken_once(event: object) -> None:
        monkeypatch.setattr(family.watcher, "_on_event", family.queue.put)
        family.queue.put(event)  # type: ignore[arg-type]
        raise ValueError("broken callback")

    monkeypatch.setattr(family.watcher, "_on_event", broken_once)
    worker = family.worker(family.zygote())
    os.kill(worker.pid, signal.SIGKILL)

    assert family.expect(Exited).exitcode == -signal.SIGKILL
    assert complaints == ["broken callback"]


def test_a_zygote_that_talks_nonsense_is_killed(family: Family, caplog: pytest.LogCaptureFixture) -> None:
    zygote = family.zygote("_proc.nonsense:sleep")

    assert family.expect(ZygoteDied).zygote == "default"
    assert not is_running(zygote.pid)
    assert "nonsense" in caplog.text


def test_the_watcher_can_be_closed_while_it_is_awake_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = death.ProcessWatcher(lambda event: None)
    real = os.eventfd_write

    def write_late(fd: int, value: int) -> None:
        real(fd, value)  # wakes the thread, which must not take the descriptor away before we are through
        wait_for(lambda: not watcher._thread.is_alive() or watcher._lock.locked())
        real(fd, value)

    monkeypatch.setattr(os, "eventfd_write", write_late)
    watcher.close()
    watcher.close()

    assert not watcher._thread.is_alive()


def test_the_watcher_can_be_closed_from_its_own_callback(session_dir: Path) -> None:
    closed = threading.Event()

    def on_event(event: death.Event) -> None:
        watcher.close()
        closed.set()

    watcher = death.ProcessWatcher(on_event)
    watcher._deliver(ZygoteDied("none", None))

    assert closed.wait(20)
    watcher._thread.join(20)
    assert not watcher._thread.is_alive()


# -- the driver's own end

DRIVER = """
import os, sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from _proc.helpers import Family, record
family = Family(Path({session_dir!r}))
zygote = family.zygote("have_grandchild")
workers = [family.worker(zygote) for _ in range(2)]
print(zygote.pid, *[f"{{w.pid}} {{record(w).decode()}}" for w in workers], flush=True)
{then}
"""


def start_driver(session_dir: Path, then: str) -> tuple[subprocess.Popen[str], list[int]]:
    code = DRIVER.format(path=PATH, session_dir=str(session_dir), then=then)
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().split()]
    driver.stdout.close()
    assert len(pids) == 5
    return driver, pids


def assert_all_gone(session_dir: Path, pids: list[int]) -> None:
    wait_for(lambda: not any(map(is_running, pids)) and not session_dir.exists(), PROMISE_S)
    assert all(group_is_empty(pid) for pid in pids)


def test_a_killed_driver_leaves_nothing(session_dir: Path) -> None:
    driver, pids = start_driver(session_dir, "time.sleep(600)")

    driver.kill()

    assert_all_gone(session_dir, pids)
    assert driver.wait() == -signal.SIGKILL


def test_a_killed_driver_with_a_forked_copy_leaves_nothing(session_dir: Path) -> None:
    # The copy holds the socket open, so there is no EOF: the pidfd has to tell.
    note = session_dir.parent / "copy"
    fork = f"os.fork() or Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    driver, pids = start_driver(session_dir, fork)
    copy = int(wait_for(lambda: note.exists() and note.read_text()))

    driver.kill()
    driver.wait()

    assert_all_gone(session_dir, pids)
    os.kill(copy, signal.SIGKILL)


def test_a_driver_that_execs_leaves_nothing(session_dir: Path) -> None:
    # The same process goes on as another program: the pidfd tells nothing, the EOF does.
    driver, pids = start_driver(session_dir, "os.execlp('sleep', 'sleep', '600')")

    assert_all_gone(session_dir, pids)
    driver.kill()
    driver.wait()


def test_a_driver_that_ends_without_closing_leaves_nothing(session_dir: Path) -> None:
    driver, pids = start_driver(session_dir, "")

    assert_all_gone(session_dir, pids)
    assert driver.wait() == 0


def test_a_driver_killed_between_making_its_folder_and_the_setup_leaves_nothing(session_dir: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:0] = {PATH!r}
from scalepool._proc.spawn import Zygote, ZygoteOptions
zygote = Zygote(ZygoteOptions())
zygote.announce({str(session_dir)!r})
print(zygote.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    driver = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert_all_gone(session_dir, [int(driver.stdout)])


def test_a_driver_killed_during_a_long_import_leaves_nothing(session_dir: Path) -> None:
    code = f"""
import sys, time
sys.path[:0] = {PATH!r}
from pathlib import Path
from _proc.helpers import Family
print(Family(Path({str(session_dir)!r})).zygote(preload=("_proc.slow_module",)).pid, flush=True)
time.sleep(600)
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.stdout.close()

    driver.kill()
    driver.wait()

    assert_all_gone(session_dir, [pid])


def test_a_terminals_signals_do_not_reach_the_zygote(family: Family) -> None:
    zygote = family.zygote()
    family.worker(zygote)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(zygote.pid, number)

    assert family.worker(zygote).pid > 0
