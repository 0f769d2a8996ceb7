"""Large data where processes may not open each other's descriptors through /proc: these are handed over a socket.

The tests of the store run once more in that mode; and some scripts where there really is no other way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.helpers import ROOT, run
from live.test_store_places import IMPORTS, PREAMBLE, WORK, needs_namespaces

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="mounts and processes of Linux")]

AGAIN = (
    "live/test_arrays.py", "live/test_crossings.py", "live/test_data.py", "live/test_deaths.py", "live/test_forks.py",
    "live/test_sharing.py", "live/test_store_budget.py", "live/test_store_places.py",
    "multiprocessing/test_initargs.py",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("file", AGAIN)
def test_the_same_without_looking_into_others(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{file}"],
        cwd=ROOT,
        env={**os.environ, "SCALEPOOL_STORE_ACCESS": "fds"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


INHERITED = """
import multiprocessing, socket

def keep(*given):
    global kept
    kept = given

def use(number):
    queue, connection, numbers = kept
    queue.put(number)
    connection.send_bytes(b"hello")
    numbers[number] = 1.0 + numbers[number]
    return number

def inherited():
    context = multiprocessing.get_context("spawn")
    queue, (near, far) = context.SimpleQueue(), context.Pipe()
    numbers = context.Array("d", 8)
    with Pool(2, keep, (queue, far, numbers)) as pool:
        assert pool.map(use, range(8), chunksize=1) == list(range(8))
        assert sorted(queue.get() for _ in range(8)) == list(range(8))
        assert [near.recv_bytes() for _ in range(8)] == [b"hello"] * 8
    assert list(numbers) == [1.0] * 8
"""

MODE = """
from scalepool._runtime.session import current
inherited()
print("handed over" if current().client.storage.host is not None else "opened")
"""

HIDDEN = {
    "no /proc": 'isolate(); mount("-t", "tmpfs", "-o", "size=4k", "tmpfs", "/proc")',
    "an unreadable /proc": 'isolate(); mount("-t", "tmpfs", "-o", "size=4k,mode=000", "tmpfs", "/proc")',
}


@needs_namespaces
@pytest.mark.parametrize("place", HIDDEN)
@pytest.mark.parametrize("files", ["memfd", "file"])
def test_where_there_is_no_proc(tmp_path: Path, place: str, files: str) -> None:
    source = PREAMBLE + HIDDEN[place] + IMPORTS + INHERITED + WORK + MODE
    assert run(tmp_path, source, environ={"SCALEPOOL_STORE_FILES": files}) == "done\nhanded over\n"


def _can_be_read_by_all(folder: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(
    not (_can_be_read_by_all(ROOT) and _can_be_read_by_all(Path(os.__file__).resolve().parent)),
    reason="the interpreter or the package cannot be read by others",
)
def test_a_program_that_has_given_up_its_privileges(tmp_path: Path) -> None:
    # Its own entry in /proc is root's from then on, so its workers cannot look into it.
    source = """
import os, shutil, tempfile
folder = tempfile.mkdtemp(dir="/var/tmp")
os.chown(folder, 65534, 65534)
os.chdir(folder)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
os.environ["TMPDIR"] = folder
"""
    end = """
import scalepool
scalepool.shutdown()
shutil.rmtree(folder, ignore_errors=True)
"""
    assert run(tmp_path, source + PREAMBLE + IMPORTS + INHERITED + WORK + MODE + end) == "done\nhanded over\n"


def test_usually_nothing_of_it_is_there(tmp_path: Path) -> None:
    source = """
import threading
def look():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")) - 1
group = api.WorkerGroup(1)
assert group.submit(double, (make(1),)).result(60)[0] == 2.0
threads, descriptors = group.submit(look).result(60)
assert threads <= 3 and descriptors <= 20, (threads, descriptors)
assert not [thread for thread in threading.enumerate() if "handover" in thread.name]
folder = current().client.storage.plan.directory
# "fds": where workers leave descriptors of what they make, without a thread that would serve it
assert sorted(os.listdir(folder)) == ["fds", "hub", "lock", "store"], os.listdir(folder)
"""
    source = PREAMBLE + IMPORTS + INHERITED + MODE + source
    assert run(tmp_path, source, environ={"SCALEPOOL_STORE_ACCESS": "auto"}) == "opened\n"


def test_a_worker_that_is_killed_leaves_what_it_has_returned(tmp_path: Path) -> None:
    source = """
import time
group = api.WorkerGroup(1)
kept = group.submit(make, (3,)).result(60)
(worker,) = group.workers()
os.kill(worker.pid, 9)
assert group.submit(double, (kept,)).result(60)[5] == 6.0
print(kept[7])
"""
    environ = {"SCALEPOOL_STORE_ACCESS": "fds"}
    assert run(tmp_path, PREAMBLE + IMPORTS + source, environ=environ) == "3.0\n"


def test_a_thousand_results_in_flight(tmp_path: Path) -> None:
    source = """
def some(number):
    return np.full(20_000, number)
with Pool(2) as pool:
    for number, array in enumerate(pool.imap(some, range(1000), chunksize=10)):
        assert array[-1] == number
print(len(os.listdir("/proc/self/fd")) < 400)
"""
    environ = {"SCALEPOOL_STORE_ACCESS": "fds"}
    assert run(tmp_path, PREAMBLE + IMPORTS + source, environ=environ) == "True\n"
