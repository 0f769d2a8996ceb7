"""A worker that dies takes no result with it that it had made, however large, and whoever was busy meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live import tasks
from live.helpers import wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

LARGE_BYTES = 50_000_000
MEDIUM_BYTES = 1_000_000


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(autouse=True, scope="module")
def end_session() -> Iterator[None]:
    yield
    scalepool.shutdown()


def keep_everybody_waiting(seconds: float) -> None:
    """Hold the interpreter, as C code may: no thread of this process looks at anything meanwhile."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def keep_everybody_waiting_for(process: subprocess.Popen[bytes]) -> None:
    """Hold the interpreter until a process has ended."""
    info = (ctypes.c_byte * 128)()
    assert ctypes.PyDLL(None).waitid(os.P_PID, process.pid, info, os.WEXITED | os.WNOWAIT) == 0


KILL_WHEN_IDLE = """
import os, sys, time
pid, idle = int(sys.argv[1]), 0
def used():
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return fields[0] in "S" and fields[11:13]
while idle < 10:
    before = used()
    time.sleep(0.05)
    idle = idle + 1 if before and before == used() else 0
os.kill(pid, 9)
"""


def test_killed_right_after_its_future_is_done(executor: ProcessPoolExecutor) -> None:
    worker = executor.submit(tasks.pid).result()
    future = executor.submit(tasks.filled, LARGE_BYTES, 7)
    wait_for(future.done)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: executor.submit(tasks.pid).result() != worker)
    assert sum(future.result()[::1000]) == 7 * LARGE_BYTES // 1000


def test_killed_before_its_driver_has_heard_of_the_result(executor: ProcessPoolExecutor) -> None:
    worker = executor.submit(tasks.pid).result()
    future = executor.submit(tasks.filled, LARGE_BYTES, 7)
    # Somebody else kills it when it has nothing left to do.
    killer = subprocess.Popen([sys.executable, "-S", "-c", KILL_WHEN_IDLE, str(worker)])
    keep_everybody_waiting_for(killer)
    assert killer.wait() == 0
    assert sum(future.result()[::1000]) == 7 * LARGE_BYTES // 1000


def test_a_worker_that_dies_of_its_next_task_has_kept_what_it_made_before(executor: ProcessPoolExecutor) -> None:
    list(executor.map(tasks.square, range(200)))  # short ones: several are sent together from now on
    futures = [executor.submit(tasks.filled, MEDIUM_BYTES, number) for number in range(5)]
    culprit = executor.submit(tasks.die, "kill")
    keep_everybody_waiting(0.5)
    assert [future.result()[0] for future in futures] == [0, 1, 2, 3, 4]
    with pytest.raises(WorkerDiedError):
        culprit.result()


def test_it_arrives_where_it_is_an_argument_too() -> None:
    filled = scalepool.remote(tasks.filled)
    total = scalepool.remote(tasks.total)
    doomed = scalepool.remote(num_returns=2)(tasks.two_filled_by)
    first, second = doomed.remote(MEDIUM_BYTES)
    maker = scalepool.get(second)[0]
    os.kill(maker, signal.SIGKILL)
    assert scalepool.get(total.remote(first)) == 7 * MEDIUM_BYTES
    assert scalepool.get(total.remote(filled.remote(MEDIUM_BYTES, 1))) == MEDIUM_BYTES


def test_deaths_and_large_results_leave_no_connection_open(executor: ProcessPoolExecutor) -> None:
    def one_round() -> None:
        futures: list[Any] = [executor.submit(tasks.filled, MEDIUM_BYTES, 1) for _ in range(5)]
        culprit = executor.submit(tasks.die, "kill")
        assert all(future.result()[0] == 1 for future in futures)
        assert isinstance(culprit.exception(), WorkerDiedError)

    one_round()
    before = _open_sockets()
    for _ in range(5):
        one_round()
    wait_for(lambda: _open_sockets() <= before)


def _open_sockets() -> int:
    folder = "/proc/self/fd"
    links = []
    for name in os.listdir(folder):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
    return sum(link.startswith("socket:") for link in links)
