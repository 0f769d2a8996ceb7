"""Random programs of submits, cancels, kills, collections and shutdowns, under a watchdog: every future ends, once.

A handful of seeds runs always; ``SCALEPOOL_SEEDS=200`` runs so many. A seed that fails says so in its test's name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

SEEDS = int(os.environ.get("SCALEPOOL_SEEDS", "4"))
PER_PROGRAM = 10

PROGRAM = """
import concurrent.futures as cf, faulthandler, gc, inspect, os, random, signal, sys, time
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import ScalepoolError

def quick(n): return n
def nap(n): time.sleep(0.001 * (n % 7)); return n
def long(n): time.sleep(0.05); return n
def fail(n): raise ValueError(n)
def die(n): os.kill(os.getpid(), signal.SIGKILL)
def leave(n): sys.exit(n % 3)
def large(n): return bytes(100_000)
KINDS = [quick] * 6 + [nap] * 4 + [long, fail, fail, large, die, leave]

class Play:
    def __init__(self, seed):
        self.choose = random.Random(seed)
        self.executors, self.futures, self.ends = [], [], {}

    def open(self):
        recycled = {"max_tasks_per_child": self.choose.randint(1, 4)}
        options = self.choose.choice([{}, {}, recycled, {"initializer": gc.collect}])
        self.executors.append(ProcessPoolExecutor(self.choose.randint(1, 3), **options))

    def submit(self):
        executor = self.choose.choice(self.executors)
        for _ in range(self.choose.choice([1, 1, 5, 40])):
            try:
                future = executor.submit(self.choose.choice(KINDS), len(self.futures))
            except (RuntimeError, cf.BrokenExecutor):
                return
            self.ends[future] = 0
            self.futures.append(future)
            future.add_done_callback(self.count)

    def count(self, future):
        self.ends[future] += 1

    def cancel(self):
        for future in self.choose.sample(self.futures, min(len(self.futures), self.choose.randint(1, 20))):
            future.cancel()

    def force(self):
        for future in self.choose.sample(self.futures, min(len(self.futures), 2)):
            if "force" in inspect.signature(future.cancel).parameters:
                future.cancel(force=True)

    def kill(self):
        pids = list(self.choose.choice(self.executors)._processes)
        if pids:
            try:
                os.kill(self.choose.choice(pids), self.choose.choice([signal.SIGKILL, signal.SIGTERM]))
            except ProcessLookupError:
                pass

    def wait(self):
        if self.futures:
            cf.wait(self.choose.sample(self.futures, min(len(self.futures), 5)), timeout=self.choose.uniform(0, 0.02))

    def collect(self):
        gc.collect()

    def map(self):
        iterator = self.choose.choice(self.executors)
        try:
            iterator = iterator.map(nap, range(self.choose.randint(0, 50)), chunksize=self.choose.randint(1, 5))
            for _ in range(self.choose.randint(0, 10)):
                next(iterator, None)
        except (RuntimeError, cf.BrokenExecutor, ScalepoolError, cf.CancelledError):
            pass

    def shutdown(self):
        executor = self.executors.pop(self.choose.randrange(len(self.executors)))
        executor.shutdown(wait=self.choose.random() < 0.5, cancel_futures=self.choose.random() < 0.5)

    def drop(self):
        self.executors.pop(self.choose.randrange(len(self.executors)))

    def stop(self):
        executor = self.executors.pop(self.choose.randrange(len(self.executors)))
        executor.kill_workers() if self.choose.random() < 0.5 else executor.terminate_workers()

    def run(self):
        moves = [self.submit] * 8 + [self.cancel] * 3 + [self.kill, self.wait, self.collect, self.map, self.shutdown]
        moves += [self.drop, self.stop, self.force, self.open]
        for _ in range(40):
            if not self.executors:
                self.open()
            self.choose.choice(moves)()
        while self.executors:
            self.shutdown()
        done, not_done = cf.wait(self.futures, timeout=60)
        assert not not_done, [(future, future.running()) for future in not_done]
        deadline = time.monotonic() + 10
        while not all(self.ends.values()) and time.monotonic() < deadline:
            time.sleep(0.005)  # a callback runs right after its future's waiters are told
        assert set(self.ends.values()) <= {1}, sorted(self.ends.values())

for seed in map(int, sys.stdin.read().split()):
    faulthandler.dump_traceback_later(100, exit=True)
    try:
        Play(seed).run()
    except BaseException:
        print("seed", seed, flush=True)
        raise
    faulthandler.cancel_dump_traceback_later()
    print(seed, flush=True)
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(0, SEEDS, PER_PROGRAM))
def test_every_future_ends_once(tmp_path: Path, first: int) -> None:
    seeds = [str(seed) for seed in range(first, min(first + PER_PROGRAM, SEEDS))]
    source = PROGRAM.replace("sys.stdin.read()", repr(" ".join(seeds)))

    assert run(tmp_path, source, environ={"PYTHONWARNINGS": "ignore::ResourceWarning"}).split() == seeds
