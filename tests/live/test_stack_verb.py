"""``scalepool stack`` against real workers: what they run, since when, where - and they never notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from live.helpers import script, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

SOURCE = """
import ctypes, os, signal, sys, time
from scalepool.multiprocessing import Pool

def spin(_):
    end = time.monotonic() + 600
    while time.monotonic() < end:
        pass

def nap(seconds):
    deeper(seconds)

def deeper(seconds):
    time.sleep(seconds)

def hold_the_interpreter(_):
    ctypes.PyDLL(None).sleep(600)

CALLS = {
    "spin": lambda pool: pool.apply_async(spin, (1,)),
    "nap": lambda pool: pool.map_async(nap, [600]),
    "sleep": lambda pool: pool.apply_async(time.sleep, (600,)),
    "hold_the_interpreter": lambda pool: pool.apply_async(hold_the_interpreter, (1,)),
}
wanted = sys.stdin.readline().split()
pool = Pool(len(wanted) + 1)
pool._pool
results = [CALLS[name](pool) for name in wanted]
print("started", flush=True)
for line in sys.stdin:
    print(sum(result.ready() for result in results), flush=True)
os._exit(0)
"""


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scalepool", "stack", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", check=False)


def workers_of(pid: int, *options: str) -> list[dict[str, Any]]:
    done = ask(str(pid), "--json", *options)
    assert done.returncode == 0, done.stderr
    (session,) = json.loads(done.stdout)
    assert session["driver"]["pid"] == pid
    workers: list[dict[str, Any]] = session["workers"]
    return workers


def by_task(pid: int, *options: str) -> dict[str, dict[str, Any]]:
    return {one["task"]: one for one in workers_of(pid, *options)}


def test_each_worker_is_shown_with_its_task_its_time_and_its_place(tmp_path: Path) -> None:
    with script(tmp_path, SOURCE) as driver:
        assert driver.process.stdin is not None
        driver.process.stdin.write("spin nap sleep\n")
        driver.process.stdin.flush()
        assert driver.read_line() == "started"
        pid = driver.process.pid
        expected = {"spin", "nap", "sleep", ""}
        found = wait_for(lambda: seen if set(seen := by_task(pid)) == expected else None)

        assert found[""]["state"] == "idle"
        assert [frame["function"] for frame in found["nap"]["stack"]] == ["deeper", "nap"]
        assert [frame["function"] for frame in found["spin"]["stack"]] == ["spin"]
        assert found["sleep"]["stack"] == []
        earlier = found["nap"]["running_s"]
        wait_for(lambda: by_task(pid)["nap"]["running_s"] > earlier)
        # It can be asked often, and a task that sleeps or computes goes on.
        for _ in range(3):
            assert set(by_task(pid)) == expected
        text = ask(str(pid)).stdout
        assert f"process {pid}, 4 workers" in text
        assert "nap, for " in text
        one = ask(str(found["nap"]["pid"]))
        assert "1 worker:" in one.stdout
        assert "deeper" in one.stdout
        driver.process.stdin.write("how many have ended?\n")
        driver.process.stdin.flush()
        assert driver.read_line() == "0"


@pytest.mark.parametrize("option", [(), ("--signal",)])
def test_a_task_that_lets_no_python_run_is_looked_into_only_when_told(tmp_path: Path, option: tuple[str, ...]) -> None:
    with script(tmp_path, SOURCE) as driver:
        assert driver.process.stdin is not None
        driver.process.stdin.write("hold_the_interpreter\n")
        driver.process.stdin.flush()
        assert driver.read_line() == "started"

        def busy() -> dict[str, Any] | None:
            return next((one for one in workers_of(driver.process.pid, *option) if one["state"] != "idle"), None)

        found = wait_for(busy)

        if option:
            assert [frame["function"] for frame in found["stack"]] == ["hold_the_interpreter"]
        else:
            assert "--signal" in found["note"]
            driver.process.stdin.write("how many have ended?\n")
            driver.process.stdin.flush()
            assert driver.read_line() == "0"


REMOTE = """
import sys, time
import scalepool
def nap():
    time.sleep(600)
def stream():
    time.sleep(600)
    yield 1
class Counter:
    def count(self):
        time.sleep(600)
running = [scalepool.remote(nap).remote(), scalepool.remote(stream).remote()]
counter = scalepool.remote(Counter).remote()
running.append(counter.count.remote())
print("started", flush=True)
sys.stdin.readline()
"""


def test_remote_tasks_and_actors_and_streams_are_shown(tmp_path: Path) -> None:
    with script(tmp_path, REMOTE, environ={"SCALEPOOL_NUM_CPUS": "3"}) as driver:
        assert driver.read_line() == "started"

        def functions() -> set[str]:
            return {one["stack"][-1]["function"] for one in workers_of(driver.process.pid) if one["stack"]}

        wait_for(lambda: functions() == {"nap", "stream", "count"})
        text = ask(str(driver.process.pid)).stdout
        assert "nap, " in text
        assert "count, " in text
        driver.process.kill()


def test_a_worker_that_is_stopped_is_shown_with_the_reason(tmp_path: Path) -> None:
    name = "nap"
    with script(tmp_path, SOURCE) as driver:
        assert driver.process.stdin is not None
        driver.process.stdin.write(f"{name}\n")
        driver.process.stdin.flush()
        assert driver.read_line() == "started"
        pid = driver.process.pid
        worker = wait_for(lambda: by_task(pid).get(name))
        os.kill(worker["pid"], signal.SIGSTOP)

        found = wait_for(lambda: seen if (seen := by_task(pid)[name])["note"] else None)

        assert "stopped by a signal" in found["note"]
        assert found["running_s"] > 0.0
        assert "idle" in ask(str(pid)).stdout


def test_a_driver_that_hangs_does_not_matter(tmp_path: Path) -> None:
    with script(tmp_path, SOURCE) as driver:
        assert driver.process.stdin is not None
        driver.process.stdin.write("nap\n")
        driver.process.stdin.flush()
        assert driver.read_line() == "started"
        wait_for(lambda: "nap" in by_task(driver.process.pid))
        os.kill(driver.process.pid, signal.SIGSTOP)

        assert "nap" in by_task(driver.process.pid)
        os.kill(driver.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("pid", "complaint"),
    [(lambda: str(os.getppid()), "neither a program that runs scalepool"), (lambda: "0", "not in the range")],
)
def test_another_process_is_refused(pid: Callable[[], str], complaint: str) -> None:
    done = ask(pid())
    assert done.returncode == 2
    assert complaint in " ".join(done.stderr.replace("│", " ").split())
