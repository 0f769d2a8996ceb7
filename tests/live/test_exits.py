"""However a driver ends, nothing of it is left; and an orderly end is quick and silent."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from live.helpers import run, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PRELUDE = """
import sys, threading, time
from live import tasks
from scalepool import api
from scalepool.api import WorkerGroup
"""

# ruff: noqa: E501 - one state of a driver per line
STATES = {
    "imported": "",
    "fresh": "group = WorkerGroup(2)",
    "started": "group = WorkerGroup(2); group.start()",
    "idle": "group = WorkerGroup(2); group.submit(tasks.square, (2,)).result()",
    "queued": "group = WorkerGroup(2); futures = [group.submit(tasks.square, (n,)) for n in range(1000)]",
    "running": "group = WorkerGroup(2); future = group.submit(time.sleep, (600,)); wait_running(future)",
    "half_done": "group = WorkerGroup(2); futures = [group.submit(tasks.square, (n,)) for n in range(1000)]; futures[10].result()",
    "closed": "group = WorkerGroup(2); future = group.submit(tasks.square, (2,)); group.close()",
    "closed_while_running": "group = WorkerGroup(2); future = group.submit(time.sleep, (600,)); wait_running(future); group.close()",
    "terminated": "group = WorkerGroup(2); future = group.submit(time.sleep, (600,)); wait_running(future); group.terminate()",
    "joined": "group = WorkerGroup(2); group.submit(tasks.square, (2,)); group.close(); group.join()",
    "private": "group = WorkerGroup(2, initializer=tasks.remember, initargs=(1,)); group.submit(tasks.recall)",
    "in_a_cycle": "group = WorkerGroup(2); group.me = group; group.submit(tasks.square, (2,)); del group",
    "dropped": "WorkerGroup(2).submit(time.sleep, (600,))",
    "in_a_daemon_thread": (
        "threading.Thread(target=lambda: WorkerGroup(2).submit(time.sleep, (600,)).result(), daemon=True).start();"
        "time.sleep(0.2)"
    ),
    "in_a_callback": "g = WorkerGroup(2); g.submit(tasks.square, (2,), on_done=lambda f: g.submit(tasks.square, (3,)))",
    "holding_a_large_result": "x = WorkerGroup(2).submit(bytearray, (10_000_000,)).result(); assert len(x) == 10_000_000",
    "holding_a_shared_buffer": "x = api.put_buffer(b'x' * 1_000_000); view = memoryview(x.open())",
    "shut_down": "WorkerGroup(2).submit(tasks.square, (2,)).result(); api.shutdown()",
    "shut_down_while_running": "f = WorkerGroup(2).submit(time.sleep, (600,)); wait_running(f); api.shutdown()",
    "after_a_death": "g = WorkerGroup(2); assert g.submit(tasks.die, ('kill',)).exception() is not None",
}
WAIT_RUNNING = """
def wait_running(future):
    while not future.running():
        time.sleep(0.002)
"""


@pytest.mark.parametrize("state", STATES)
def test_an_interpreter_that_ends_leaves_nothing_and_says_nothing(tmp_path: Path, state: str) -> None:
    source = f"{PRELUDE}{WAIT_RUNNING}{STATES[state]}\nprint('done', flush=True)\n"
    assert run(tmp_path, source) == "done\n"


@pytest.mark.parametrize("moment_s", [0.0, 0.02, 0.05, 0.08, 0.12])
def test_an_interpreter_may_end_while_a_daemon_thread_starts_the_first_group(tmp_path: Path, moment_s: float) -> None:
    source = f"""{PRELUDE}
def first(): WorkerGroup(2).submit(time.sleep, (600,)).result()
threading.Thread(target=first, daemon=True).start()
time.sleep({moment_s})
print('done', flush=True)
"""
    assert run(tmp_path, source) == "done\n"


@pytest.mark.parametrize("state", ["idle", "running", "closed_while_running"])
def test_sys_exit_gives_the_code_that_was_asked_for(tmp_path: Path, state: str) -> None:
    with script(tmp_path, f"{PRELUDE}{WAIT_RUNNING}{STATES[state]}\nsys.exit(7)\n") as driver:
        out, err = driver.finish()

    assert (driver.process.returncode, out, err) == (7, "", "")


def test_an_uncaught_exception_is_the_only_thing_on_stderr(tmp_path: Path) -> None:
    with script(tmp_path, f"{PRELUDE}{WAIT_RUNNING}{STATES['running']}\nraise ValueError('mine')\n") as driver:
        _, err = driver.finish()

    assert driver.process.returncode == 1
    assert err.startswith("Traceback")
    assert err.endswith("ValueError: mine\n")
    assert len(err.splitlines()) == 4


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_a_killed_driver_takes_everything_along(tmp_path: Path, signal_number: int) -> None:
    source = f"""{PRELUDE}
import numpy
group = WorkerGroup(2)
group.start()
children = [group.submit(tasks.child_process).result() for _ in range(2)]
array = group.submit(numpy.ones, (1_000_000,)).result()
buffer = api.put_buffer(array)
futures = [group.submit(time.sleep, (600,)) for _ in range(4)]
while not any(f.running() for f in futures): time.sleep(0.002)
print(*[worker.pid for worker in group.workers()], *children, flush=True)
time.sleep(600)
"""
    with script(tmp_path, source) as driver:
        pids = [int(word) for word in driver.read_line().split()]
        assert len(pids) == 4
        assert set(pids) <= set(driver.descendants())
        os.kill(driver.process.pid, signal_number)
        driver.process.wait(10)
    # ``script`` checks that all of them, the sleeping grandchildren included, and all files are gone.


KILLED_WITHIN_S = 0.2


def test_a_driver_killed_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    source = f"{PRELUDE}\nprint('here', flush=True)\ngroup = WorkerGroup(2)\ngroup.start()\ntime.sleep(600)\n"
    moments_s = [0.0, 0.003, *(random.uniform(0.0, KILLED_WITHIN_S) for _ in range(14))]
    for delay_s in moments_s:
        print("killed after", delay_s)
        with script(tmp_path, source) as driver:
            assert driver.read_line() == "here"
            signal.sigtimedwait([], delay_s)
            os.kill(driver.process.pid, signal.SIGKILL)
        # ``script`` checks that no process, no folder and no shared memory is left.


def test_os_exit_leaves_nothing(tmp_path: Path) -> None:
    with script(tmp_path, f"{PRELUDE}{WAIT_RUNNING}{STATES['running']}\nimport os\nos._exit(5)\n") as driver:
        assert driver.finish() == ("", "")

    assert driver.process.returncode == 5


def test_a_killed_zygote_is_replaced_and_nobody_hangs(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
import psutil
from scalepool.errors import WorkerDiedError
group = WorkerGroup(2)
assert group.submit(tasks.square, (3,)).result() == 9
zygote = psutil.Process(group.submit(tasks.pid).result()).parent()
zygote.kill()
results = []
for number in range(50):
    future = group.submit(tasks.square, (number,))
    try:
        results.append(future.result(60) == number * number)
    except WorkerDiedError:
        pass  # it ran while its zygote was killed
assert len(results) > 40 and all(results), results
print("done")
"""
    with script(tmp_path, source) as driver:
        out, err = driver.finish()

    assert (driver.process.returncode, out) == (0, "done\n"), err


def test_a_session_can_be_started_again_and_again(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
for number in range(8):
    assert not api.is_initialized()
    api.init(num_cpus=2)
    assert api.is_initialized()
    assert WorkerGroup(1).submit(tasks.square, (number,)).result() == number * number
    api.shutdown()
print(threading.active_count())
"""
    assert run(tmp_path, source) == "1\n"


def test_futures_and_groups_of_a_session_that_was_shut_down_say_so(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
from scalepool.errors import SessionError
group = WorkerGroup(1)
future = group.submit(time.sleep, (600,))
api.shutdown()
assert isinstance(future.exception(5), SessionError), future
try:
    group.submit(tasks.square, (1,))
except RuntimeError as error:
    print(error)
assert group.join(5)
assert WorkerGroup(1).submit(tasks.square, (3,)).result() == 9
"""
    assert "shut down" in run(tmp_path, source)
