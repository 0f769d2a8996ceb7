"""While an object is on its way to the disk, however long that takes, everything else goes on."""

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
import threading, time
import numpy as np
import scalepool
from scalepool.multiprocessing import Pool
from scalepool._runtime.session import current
from scalepool._store import holder

MIB = 1 << 20
begun, may_go_on = threading.Event(), threading.Event()
original = holder.copy_file

def slow(source, target, size_bytes):
    begun.set()
    assert may_go_on.wait(60)
    yield from original(source, target, size_bytes)

holder.copy_file = slow

def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.005)

def double(number):
    return 2 * number

def total(array):
    return float(array.sum())

def statistics():
    return current().hub.statistics()

def fill():
    refs = [scalepool.put(np.full(MIB, float(number))) for number in range(7)]  # 8 MiB each
    assert begun.wait(60)
    return refs
"""

BUDGET = {"SCALEPOOL_STORE_LIMIT_BYTES": str(64 * MIB)}


def output(folder: Path, source: str) -> list[str]:
    return run(folder, PREAMBLE + source, environ=BUDGET).split()


def test_calls_go_on_while_a_spill_is_under_way(tmp_path: Path) -> None:
    source = """
with Pool(2) as pool:
    refs = fill()
    print(sum(pool.map(double, range(100), chunksize=1)))
    print(pool.apply(total, (np.ones(MIB // 8),)))
    print(statistics().spilled)
    may_go_on.set()
    until(lambda: statistics().spilled)
    print([float(scalepool.get(ref)[0]) for ref in refs] == [float(number) for number in range(7)])
"""
    assert output(tmp_path, source) == ["9900", "131072.0", "0", "True"]


def test_what_is_freed_meanwhile_is_gone_and_a_session_may_end(tmp_path: Path) -> None:
    source = """
refs = fill()
refs.clear()
until(lambda: statistics().objects == 0)
refs = [scalepool.put(np.full(MIB, float(number))) for number in range(7)]  # into the memory of those before
may_go_on.set()
until(lambda: statistics().spilled)
print([float(scalepool.get(ref)[-1]) for ref in refs] == [float(number) for number in range(7)])
may_go_on.clear()
more = [scalepool.put(np.ones(MIB)) for _ in range(4)]
scalepool.shutdown()
may_go_on.set()
"""
    assert output(tmp_path, source) == ["True"]


def test_objects_of_workers_too(tmp_path: Path) -> None:
    source = """
@scalepool.remote
class Maker:
    def make(self):
        self.refs = [scalepool.put(np.full(MIB, float(number))) for number in range(7)]
    def check(self):
        return [float(scalepool.get(ref)[0]) for ref in self.refs]

maker = Maker.remote()
scalepool.get(maker.make.remote())
assert begun.wait(60)
print(scalepool.get(scalepool.remote(double).remote(21)))
may_go_on.set()
until(lambda: statistics().spilled)
print(scalepool.get(maker.check.remote()) == [float(number) for number in range(7)])
"""
    assert output(tmp_path, source) == ["42", "True"]


def test_a_full_disk_while_spilling_is_no_end(tmp_path: Path) -> None:
    source = """
import errno, os
from scalepool.errors import ObjectStoreFullError

def full(source, target, size_bytes):
    begun.set()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    yield

holder.copy_file = full
refs = fill()
with Pool(2) as pool:
    print(sum(pool.map(double, range(100), chunksize=1)), statistics().spilled)
print([float(scalepool.get(ref)[0]) for ref in refs] == [float(number) for number in range(7)])
"""
    assert output(tmp_path, source) == ["9900", "0", "True"]


def test_what_is_put_is_freed_when_it_is_dropped_though_nothing_else_happens(tmp_path: Path) -> None:
    source = """
refs = [scalepool.put(np.full(MIB // 8, float(number))) for number in range(3)]
until(lambda: statistics().objects == 3)
refs.clear()
until(lambda: statistics().objects == 0)
"""
    assert output(tmp_path, source) == []
