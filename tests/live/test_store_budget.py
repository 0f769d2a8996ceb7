"""The store stays within its budget of memory, spills what is beyond that, and fails clearly when that is full, too.

Each test is a script of its own: a budget belongs to a session. What the script's processes really take is looked up in
/proc: every shared memory file that any of them has open or mapped, each counted once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from live.helpers import run, script, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

MIB = 1 << 20

PREAMBLE = """
import gc, os, threading, time
import numpy as np
import psutil
import scalepool.api as api
from scalepool.multiprocessing import Pool
from scalepool.errors import ObjectStoreFullError
from scalepool._runtime.session import current

MIB = 1 << 20

def shared_memory():
    found = {}
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        try:
            for name in os.listdir(folder):
                path = f"{folder}/{name}"
                try:
                    if os.readlink(path).split(" ")[0] == "/memfd:scalepool":
                        status = os.stat(path)
                        found[status.st_ino] = status.st_blocks * 512
                except OSError:
                    pass
        except OSError:
            pass
    return sum(found.values())

class Watch(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0
        self.stop = False
    def run(self):
        while not self.stop:
            self.peak = max(self.peak, shared_memory())
            time.sleep(0.002)

def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.002)

def double(array):
    return array * 2

def first(array):
    return float(array[0])

def make(number):
    return np.full(MIB, float(number))  # 8 MiB

def usage():
    return current().client.storage.budget.usage()
"""

BUDGET = {"SCALEPOOL_STORE_LIMIT_BYTES": str(64 * MIB)}
SLACK_MIB = 8
"""A segment that was spilled or closed a moment ago and is still mapped by its last reader: one object of 8 MiB."""


def output(folder: Path, source: str, **environ: str) -> list[str]:
    return run(folder, PREAMBLE + source, environ={**BUDGET, **environ}).split()


def test_three_times_the_budget_streams_through_imap_as_arguments_and_as_results(tmp_path: Path) -> None:
    source = """
watch = Watch()
with Pool(2) as pool:
    watch.start()
    for number, result in enumerate(pool.imap(double, (make(number) for number in range(24)))):
        assert result[0] == result[-1] == 2 * number
    watch.stop = True
print(watch.peak // MIB)
"""
    (peak,) = map(int, output(tmp_path, source))
    assert 0 < peak <= 64 + SLACK_MIB


def test_results_of_three_times_the_budget_may_be_kept(tmp_path: Path) -> None:
    source = """
watch = Watch()
watch.start()
with Pool(2) as pool:
    results = pool.map(double, [make(number) for number in range(24)], chunksize=1)
    print(watch.peak // MIB, usage().disk_bytes // MIB)
    assert all((result == 2.0 * number).all() for number, result in enumerate(results))
    results[-1][:] = 7  # on disk or not, it is private and writable
    results[0][:] = 7
    results.clear()
    gc.collect()
    start = time.monotonic()
    until(lambda: current().hub.statistics().objects == 0)
    until(lambda: usage().disk_bytes == 0)
    print(round(time.monotonic() - start))
"""
    peak, disk, seconds = map(int, output(tmp_path, source))
    assert 0 < peak <= 64 + SLACK_MIB
    assert disk >= 24 * 8 - 64 - SLACK_MIB
    assert seconds <= 5  # promised: one, on a machine with time to spare


def test_what_nobody_reads_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    source = """
group = api.WorkerGroup(2)
kept = [api.put_buffer(make(number)) for number in range(24)]
until(lambda: current().hub.statistics().spilled > 0)
assert usage().memory_bytes <= 64 * MIB, usage()
def first_of(buffer, mode):
    return float(np.frombuffer(buffer.open(mode))[0])
futures = [(number, group.submit(first_of, (buffer, mode))) for number, buffer in enumerate(kept) for mode in "rc"]
assert all(future.result(60) == number for number, future in futures)
assert [float(np.frombuffer(buffer.open())[-1]) for buffer in kept] == list(range(24))
print(current().hub.statistics().spilled)
kept.clear()
futures.clear()
gc.collect()
until(lambda: usage().disk_bytes == 0)
"""
    assert int(output(tmp_path, source)[0]) >= 16


def test_without_a_disk_streaming_waits_for_room_instead_of_failing(tmp_path: Path) -> None:
    source = """
with Pool(2) as pool:
    total = sum(float(result[0]) for result in pool.imap(double, map(make, range(24)), buffersize=2))
    print(total, usage().disk_bytes)
"""
    assert output(tmp_path, source, SCALEPOOL_SPILL_LIMIT_BYTES="0") == [f"{2.0 * sum(range(24))}", "0"]


def test_when_both_are_spent_that_task_fails_and_the_pool_goes_on(tmp_path: Path) -> None:
    source = """
group = api.WorkerGroup(2)
futures = [group.submit(make, (number,)) for number in range(40)]
errors = [future.exception(100) for future in futures]
full = [error for error in errors if error is not None]
assert full and all(type(error) is ObjectStoreFullError for error in full), set(map(type, full))
assert len(full) <= 30, len(full)
assert "SCALEPOOL_SPILL_LIMIT_BYTES" in str(full[0]) and full[0].memory_limit_bytes == 64 * MIB
good = [number for number in range(40) if errors[number] is None]
assert [float(futures[number].result()[0]) for number in good] == good
try:
    api.put_buffer(np.ones(32 * MIB))
except ObjectStoreFullError as error:
    print("full", error.size_bytes // MIB)
too_large = group.submit(first, (np.ones(32 * MIB),)).exception(100)
assert type(too_large) is ObjectStoreFullError, too_large
del futures, errors, full
gc.collect()
until(lambda: usage() <= (16 * MIB, 16 * MIB), 60)
print(group.submit(first, (make(5),)).result(100), float(group.submit(make, (6,)).result(100)[3]))
"""
    found = output(tmp_path, source, SCALEPOOL_SPILL_LIMIT_BYTES=str(32 * MIB))
    assert found == ["full", "256", "5.0", "6.0"]


def test_objects_of_a_killed_worker_are_counted_until_they_are_freed(tmp_path: Path) -> None:
    source = """
group = api.WorkerGroup(1)
results = [group.submit(make, (number,)).result(60) for number in range(10)]
(worker,) = group.workers()
os.kill(worker.pid, 9)
until(lambda: not worker.is_alive())
assert group.submit(first, (make(3),)).result(60) == 3.0
until(lambda: usage().memory_bytes + usage().disk_bytes >= 80 * MIB)
assert [float(result[9]) for result in results] == list(range(10))
results.clear()
gc.collect()
until(lambda: usage().disk_bytes == 0 and usage().memory_bytes <= 24 * MIB)
print("freed")
"""
    assert output(tmp_path, source) == ["freed"]


def test_nothing_is_left_when_all_are_killed_while_they_spill(tmp_path: Path) -> None:
    source = """
with Pool(2) as pool:
    results = pool.map(double, [make(number) for number in range(24)], chunksize=1)
    print(usage().disk_bytes // MIB, *(worker.pid for worker in pool._pool), flush=True)
    pool.map(double, [make(number) for number in range(2400)], chunksize=1)
"""
    with script(tmp_path, PREAMBLE + source, environ=BUDGET) as running:
        disk, *pids = running.read_line().split()
        assert int(disk) > 0
        assert len(pids) == 2
        running.process.kill()
        wait_for(lambda: running.process.poll() is not None)


def test_the_budget_can_be_set_where_the_session_starts(tmp_path: Path) -> None:
    folder = tmp_path / "spilled here"
    folder.mkdir()
    source = f"""
import scalepool

if __name__ == "__main__":
    scalepool.init(num_cpus=1, object_store_memory="48MB", spill_limit=300 * MIB, spill_directory={str(folder)!r})
    limits = current().client.storage.budget.limits
    assert limits == (48 * 1000**2, 300 * MIB, {str(folder)!r})
    with Pool(1) as pool:
        kept = [pool.apply(make, (number,)) for number in range(12)]  # 96 MiB
        assert [array[-1] for array in kept] == [float(number) for number in range(12)]
        assert usage().disk_bytes > 32 * MIB
    try:
        scalepool.shutdown()
        scalepool.init(object_store_memory="many")
    except ValueError as error:
        print(error)
"""
    assert run(tmp_path, PREAMBLE + source).startswith("object_store_memory must be a number of bytes or a text")
