"""`scalepool.install`: the standard library's names stand for ours, and back."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

pytestmark = pytest.mark.live


def run_program(code: str) -> list[str]:
    program = [sys.executable, "-c", dedent(code)]
    found = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.splitlines()


INSTALL = "import scalepool; scalepool.install(); scalepool.install()\n"
POOLS = """
import concurrent.futures, concurrent.futures.process, multiprocessing, multiprocessing.pool
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool
from multiprocessing.pool import Pool as PoolClass
made = [Pool(1), multiprocessing.get_context("spawn").Pool(1), multiprocessing.get_context().Pool(1), PoolClass(1)]
print(*sorted({type(pool).__module__ for pool in made}))
for pool in made:
    assert pool.map(abs, [-1, 2]) == [1, 2]
    pool.terminate()
    pool.join()
futures = concurrent.futures
executors = {ProcessPoolExecutor, futures.process.ProcessPoolExecutor, futures.ProcessPoolExecutor}
print(*sorted({executor.__module__ for executor in executors}))
with ProcessPoolExecutor(1) as executor:
    assert executor.submit(abs, -3).result() == 3
"""
OURS = ["scalepool.multiprocessing.pool", "scalepool.concurrent.futures.process"]
THEIRS = ["multiprocessing.pool", "concurrent.futures.process"]


def test_pools_and_executors_are_ours_whichever_module_was_there_first() -> None:
    assert run_program(INSTALL + POOLS) == OURS
    imported = "import concurrent.futures.process, multiprocessing.pool; concurrent.futures.ProcessPoolExecutor\n"
    assert run_program(imported + INSTALL + POOLS) == OURS


def test_uninstalling_puts_everything_back() -> None:
    undo = "scalepool.uninstall(); scalepool.uninstall()\n"
    assert run_program(INSTALL + undo + POOLS) == THEIRS
    look = """
    import multiprocessing.pool, os
    def names():
        shown = vars(multiprocessing), vars(multiprocessing.pool), vars(multiprocessing.context.ForkContext)
        return [dict(one) for one in shown]
    """
    compare = """
    print(all(after[name] is value for after, before in zip(names(), first) for name, value in before.items()))
    print("SCALEPOOL_INSTALL" in os.environ)
    """
    program = dedent(look) + "first = names()\n" + INSTALL + undo + dedent(compare)
    assert run_program(program) == ["True", "False"]


def test_thread_pools_and_holders_of_the_original_names_go_on() -> None:
    code = """
    from multiprocessing.pool import Pool, ThreadPool
    import scalepool
    scalepool.install()
    from multiprocessing.pool import ThreadPool as Same
    import multiprocessing.dummy
    assert Same is ThreadPool and Same.__mro__[1] is Pool
    for make in (ThreadPool, multiprocessing.dummy.Pool):
        with make(2) as pool:
            print(pool.map(abs, [-1, -2]))
    """
    assert run_program(code) == ["[1, 2]", "[1, 2]"]


def test_pools_in_tasks_are_ours_too() -> None:
    code = """
    def inner(_):
        import multiprocessing
        with multiprocessing.Pool(1) as pool:
            return type(pool).__module__, pool.apply(abs, (-1,))
    from multiprocessing import Pool
    with Pool(1) as pool:
        print(pool.apply(inner, (0,)))
    """
    assert run_program(INSTALL + dedent(code)) == ["('scalepool.multiprocessing.pool', 1)"]


def test_queues_and_locks_of_the_fork_context_reach_workers() -> None:
    code = """
    import multiprocessing
    def init(*shared):
        global lock, queue
        lock, queue = shared
    def work(n):
        with lock:
            queue.put(n)
    for context in (multiprocessing, multiprocessing.get_context("fork")):
        shared = context.Lock(), context.Queue()
        with context.Pool(2, init, shared) as pool:
            pool.map(work, range(4))
            print(sorted(shared[1].get(timeout=60) for _ in range(4)))
    """
    assert run_program(INSTALL + dedent(code)) == ["[0, 1, 2, 3]"] * 2


def test_joblibs_default_is_ours_and_the_other_backends_work() -> None:
    code = """
    import joblib
    from joblib import Parallel, delayed
    print(type(joblib.parallel.get_active_backend()[0]).__name__, joblib.parallel.DEFAULT_BACKEND)
    for options in ({}, {"prefer": "threads"}, {"backend": "threading"}, {"require": "sharedmem"}):
        print(Parallel(n_jobs=2, **options)(delayed(abs)(-n) for n in range(3)))
    scalepool.uninstall()
    print(joblib.parallel.DEFAULT_BACKEND)
    """
    expected = ["ScalepoolBackend scalepool", *["[0, 1, 2]"] * 4, "loky"]
    assert run_program(INSTALL + dedent(code)) == expected
    assert run_program("import joblib\n" + INSTALL + dedent(code)) == expected
