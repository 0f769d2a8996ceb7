"""What a pool's workers are given when they start is written once, however large it is and however many they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

MIB = 1 << 20

PREAMBLE = """
import os, signal, time
import numpy as np
import psutil
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool
from scalepool._runtime.session import current

MIB = 1 << 20
given = None

def take(array, *rest):
    global given
    given = array

def look(number):
    time.sleep(0.01)  # so that each worker gets some
    return os.getpid(), float(given[number % len(given)]), float(given.sum())

def scribble(value):
    given[:] = value
    return float(given.sum())

def private_bytes(pid):
    return psutil.Process(pid).memory_full_info().uss

def objects():
    return current().hub.statistics().objects

def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.005)
    return True

def seen(answers, array):
    assert {answer[2] for answer in answers} == {float(array.sum())}
    return {answer[0] for answer in answers}

big = np.arange(8 * MIB, dtype=float)  # 64 MiB
"""


def output(folder: Path, source: str, **environ: str) -> list[str]:
    return run(folder, PREAMBLE + source, environ=environ).split()


def test_eight_workers_share_one_copy_which_goes_with_the_pool(tmp_path: Path) -> None:
    source = """
with Pool(8, take, (big,)) as pool:
    workers = seen(pool.map(look, range(64), chunksize=1), big)
    statistics = current().hub.statistics()
    print(statistics.objects, statistics.object_bytes == big.nbytes)
    print(max(map(private_bytes, workers)) // MIB, len(workers))
    pool.close()
    pool.join()
    print(until(lambda: objects() == 0, 10.0))
"""
    count, is_all, private_mib, workers, is_freed = output(tmp_path, source)
    assert (count, is_all, is_freed) == ("1", "True", "True")
    assert int(workers) > 1
    assert int(private_mib) < 48


def test_who_replaces_a_worker_gets_it_too(tmp_path: Path) -> None:
    source = """
with ProcessPoolExecutor(2, initializer=take, initargs=(big, "more")) as executor:
    pass
with Pool(2, take, (big,), maxtasksperchild=3) as pool:
    print(len(seen(pool.map(look, range(24), chunksize=1), big)) >= 8)
    print(objects())
with Pool(1, take, (big,)) as pool:
    first, = seen(pool.map(look, range(2)), big)
    os.kill(first, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(first))
    second, = seen(pool.map(look, range(2)), big)
    print(first != second, objects())
until(lambda: objects() == 0)
"""
    assert output(tmp_path, source) == ["True", "1", "True", "1"]


def test_what_one_worker_writes_no_other_one_sees(tmp_path: Path) -> None:
    source = """
with Pool(1, take, (big,)) as pool:
    print(pool.apply(scribble, (0.0,)) == 0.0)
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    until(lambda: pool.apply_async(look, (0,)).get()[2] == big.sum())
with Pool(1, take, (big,)) as pool:
    print(pool.apply(look, (1,))[2] == big.sum())
    big[:] = 1.0  # after the pool was made: too late for its workers
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    until(lambda: pool.apply_async(look, (0,)).get()[2] != big.sum())
with Pool(1, take, (big,)) as pool:
    print(pool.apply(look, (1,))[2] == big.sum())
"""
    assert output(tmp_path, source) == ["True", "True", "True"]


def test_an_initializer_that_carries_it_in_itself(tmp_path: Path) -> None:
    source = """
import functools

def make(array):
    def initialize():
        take(array)
    return initialize

for initializer in (make(big), functools.partial(take, big)):
    with Pool(2, initializer) as pool:
        workers = seen(pool.map(look, range(16), chunksize=1), big)
        print(current().hub.statistics().object_bytes == big.nbytes, max(map(private_bytes, workers)) < 48 * MIB)
"""
    assert output(tmp_path, source) == ["True", "True"] * 2


@pytest.mark.parametrize("access", ["auto", "fds"])
@pytest.mark.parametrize("limit_mib", [32, 96], ids=["made on the disk", "moved there"])
def test_on_the_disk_it_is_the_same(tmp_path: Path, access: str, limit_mib: int) -> None:
    source = """
import scalepool

with ProcessPoolExecutor(2, initializer=take, initargs=(big,)) as executor:  # starts its workers when it has tasks
    if os.environ["SCALEPOOL_STORE_LIMIT_BYTES"] != str(32 * MIB):
        refs = [scalepool.put(np.zeros(MIB)) for _ in range(8)]  # 64 MiB more: what nobody reads yet is moved
    until(lambda: current().hub.statistics().spilled > 0)
    seen(executor.map(look, range(16)), big)
    until(lambda: current().hub.statistics().object_bytes <= 64 * MIB)
    print("done")
"""
    limits = {"SCALEPOOL_STORE_LIMIT_BYTES": str(limit_mib * MIB), "SCALEPOOL_STORE_ACCESS": access}
    assert output(tmp_path, source, **limits) == ["done"]


def test_a_fork_of_the_users_process_changes_nothing(tmp_path: Path) -> None:
    source = """
with Pool(2, take, (big,)) as pool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with Pool(2, take, (big[: MIB],)) as own:
                seen(own.map(look, range(8), chunksize=1), big[: MIB])
            code = 0
        finally:
            os._exit(code)
    seen(pool.map(look, range(16), chunksize=1), big)
    print(os.waitpid(child, 0)[1])
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    seen(pool.map(look, range(16), chunksize=1), big)
until(lambda: objects() == 0)
"""
    assert output(tmp_path, source) == ["0"]


def test_a_pool_inside_a_task(tmp_path: Path) -> None:
    source = """
def nested(number):
    array = np.full(2 * MIB, float(number))
    with Pool(2, take, (array,)) as pool:
        return len(seen(pool.map(look, range(4), chunksize=1), array)) > 0

with Pool(2) as pool:
    print(*pool.map(nested, range(2), chunksize=1))
until(lambda: objects() == 0)
"""
    assert output(tmp_path, source) == ["True", "True"]


def test_references_among_the_arguments_live_as_long_as_the_pool(tmp_path: Path) -> None:
    source = """
import scalepool

def take_reference(reference):
    global given
    given = reference

def read(_):
    return scalepool.get(given)

with Pool(1, take_reference, (scalepool.put(big),)) as pool:
    os.kill(pool._pool[0].pid, signal.SIGKILL) if pool.apply(read, (0,)).sum() == big.sum() else None
    print(pool.apply_async(read, (0,)).get().sum() == big.sum())
until(lambda: objects() == 0)
"""
    assert output(tmp_path, source) == ["True"]
