"""Nothing of a task is held after its delivery: in its worker nor in the driver, however it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PREAMBLE = """
import gc, time, weakref
import scalepool
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

class Tracked:
    living = weakref.WeakSet()
    def __init__(self):
        Tracked.living.add(self)
    def __setstate__(self, state):
        Tracked.living.add(self)
    def __getstate__(self):
        return {"some": "state"}

def count(_=None):
    return len(Tracked.living)

def give_back(value, more=None):
    return [value, Tracked()]

def fail(value):
    local = Tracked()
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error

def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.005)
    return True

def raised(call):
    try:
        call()
    except ValueError as error:
        return type(error).__name__
"""


def test_calls_of_pools_and_executors(tmp_path: Path) -> None:
    source = """
with Pool(1) as pool, ProcessPoolExecutor(1) as executor:
    for call in (lambda fn, *args: pool.apply(fn, args), lambda fn, *args: executor.submit(fn, *args).result()):
        call(give_back, Tracked())
        print(call(count), until(lambda: not count()))
        print(raised(lambda: call(fail, Tracked())), call(count), until(lambda: not count()))
    pool.map(give_back, [Tracked() for _ in range(10)], chunksize=3)
    print(pool.apply(count), until(lambda: not count()))
    list(pool.imap(give_back, (Tracked() for _ in range(10))))
    print(pool.apply(count), until(lambda: not count()))
    executor.submit(give_back, value=Tracked(), more=Tracked()).result()
    print(executor.submit(count).result(), until(lambda: not count()))
"""
    assert run(tmp_path, PREAMBLE + source).split() == [
        *["0", "True", "ValueError", "0", "True"] * 2,
        *["0", "True"] * 3,
    ]


def test_remote_functions_and_streams(tmp_path: Path) -> None:
    source = """
def stream(value):
    for _ in range(3):
        yield Tracked()

scalepool.init(num_cpus=1)
give, failing, counting = map(scalepool.remote, (give_back, fail, count))
scalepool.get(give.remote(Tracked()))
print(scalepool.get(counting.remote()), until(lambda: not count()))
scalepool.get(give.remote(scalepool.put(Tracked())))
print(scalepool.get(counting.remote()), until(lambda: not count()))
print(raised(lambda: scalepool.get(failing.remote(Tracked()))), end=" ")
print(scalepool.get(counting.remote()), until(lambda: not count()))
for reference in scalepool.remote(stream).options(num_returns="streaming").remote(Tracked()):
    scalepool.get(reference)
print(scalepool.get(counting.remote()), until(lambda: not count()))
"""
    assert run(tmp_path, PREAMBLE + source).split() == ["0", "True"] * 2 + ["ValueError", "0", "True", "0", "True"]


def test_methods_of_actors(tmp_path: Path) -> None:
    source = """
@scalepool.remote
class Worker:
    def give_back(self, value):
        return give_back(value)
    def fail(self, value):
        fail(value)
    def count(self):
        return count()
    def stream(self, value):
        for _ in range(3):
            yield Tracked()

for options in ({}, {"max_concurrency": 3}):
    actor = Worker.options(**options).remote()
    scalepool.get(actor.give_back.remote(Tracked()))
    print(scalepool.get(actor.count.remote()), until(lambda: not count()))
    print(raised(lambda: scalepool.get(actor.fail.remote(Tracked()))), end=" ")
    print(scalepool.get(actor.count.remote()), until(lambda: not count()))
    for reference in actor.stream.options(num_returns="streaming").remote(Tracked()):
        scalepool.get(reference)
    print(scalepool.get(actor.count.remote()), until(lambda: not count()))
"""
    assert run(tmp_path, PREAMBLE + source).split() == ["0", "True", "ValueError", "0", "True", "0", "True"] * 2
