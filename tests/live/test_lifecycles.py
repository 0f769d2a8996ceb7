"""A pool dropped in any state, anywhere: the program ends at once, with its own exit code, and says nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, ROOT, Script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PRELUDE = """
import gc, os, sys, threading, time, weakref
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

def nap(seconds=600):
    time.sleep(seconds)
    return seconds
"""

# ruff: noqa: E501 - one life per line
LIVES = {
    "fresh": "Pool(2)",
    "fresh_with_initializer": "Pool(2, abs, (1,))",
    "running": "result = Pool(2).map_async(nap, [600] * 9)",
    "running_recycling": "result = Pool(2, maxtasksperchild=1).map_async(nap, [0.01] * 900, 1)",
    "mid_iteration": "iterator = Pool(2).imap(nap, [0.001] * 500); next(iterator)",
    "mid_iteration_unordered": "iterator = Pool(2).imap_unordered(nap, (0.001 for _ in range(10**9))); next(iterator)",
    "mid_iteration_in_a_loop": "[item for _, item in zip(range(3), Pool(2).imap(nap, (0.001 for _ in range(10**9))))]",
    "in_a_cycle": "pool = Pool(2); pool.me = pool; pool.apply(abs, (1,)); del pool",
    "in_a_cycle_running": "pool = Pool(2); pool.me = pool; pool.result = pool.map_async(nap, [600] * 9); del pool; gc.collect()",
    "in_a_daemon_thread": "threading.Thread(target=lambda: Pool(2).map(nap, [600]), daemon=True).start(); time.sleep(0.3)",
    "in_many_daemon_threads": "[threading.Thread(target=lambda: list(Pool(1).imap(nap, [0.01] * 9000)), daemon=True).start() for _ in range(5)]; time.sleep(0.3)",
    "in_del": "class Owner:\n    def __init__(self): self.pool = Pool(2); self.pool.map_async(nap, [600] * 3)\n    def __del__(self): self.pool.terminate(); self.pool.join()\nowner = Owner()",
    "terminated": "pool = Pool(2); pool.map_async(nap, [600] * 9); pool.terminate()",
    "closed": "pool = Pool(2); pool.map_async(nap, [0.01] * 9); pool.close()",
    "with_block": "with Pool(2) as pool: result = pool.map_async(nap, [600] * 9)",
    "exit_in_block": "with Pool(2) as pool: pool.map_async(nap, [600] * 9); sys.exit(0)",
    "with_callback": "Pool(2).apply_async(nap, (600,), callback=print)",
    "executor_fresh": "ProcessPoolExecutor(2)",
    "executor_idle": "executor = ProcessPoolExecutor(2); executor.submit(abs, -1).result()",
    "executor_busy": "executor = ProcessPoolExecutor(2); futures = [executor.submit(nap, 0.01) for _ in range(20)]",
    "executor_killed": "executor = ProcessPoolExecutor(2); [executor.submit(nap) for _ in range(20)]; executor.kill_workers()",
    "executor_in_a_cycle": "executor = ProcessPoolExecutor(2); executor.me = executor; executor.submit(abs, 1); del executor",
    "executor_mid_map": "iterator = ProcessPoolExecutor(2).map(nap, [0.001] * 500); next(iterator)",
    "made_while_importing": "import importlib; open('made_there.py', 'w').write('from scalepool.multiprocessing import Pool\\npool = Pool(2)\\nfound = pool.map(abs, [-1])\\n'); sys.path.insert(0, '.'); assert importlib.import_module('made_there').found == [1]",
    "atexit": "import atexit; pool = Pool(2); atexit.register(lambda: pool.terminate()); pool.map_async(nap, [600])",
    "excepthook": "sys.excepthook = lambda *_: None; pool = Pool(2); pool.map_async(nap, [600])",
}


@pytest.mark.parametrize("life", LIVES)
def test_the_program_ends_well(tmp_path: Path, life: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        f"{PRELUDE}{LIVES[life]}\nprint('end', flush=True)\n".replace("sys.exit(0)", "print('end'); sys.exit(0)")
    )
    running = Script(tmp_path, ["-W", "ignore::ResourceWarning", str(path)])
    try:
        out, err = running.finish()
    finally:
        running.close()

    assert (running.process.returncode, out, err) == (0, "end\n", "")
    running.assert_nothing_left()


def check(tmp_path: Path, source: str, expected: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(PRELUDE + source)
    running = Script(tmp_path, ["-W", "ignore::ResourceWarning", "-W", "ignore::DeprecationWarning", str(path)])
    try:
        out, err = running.finish()
    finally:
        running.close()
    assert (running.process.returncode, out, err) == (0, expected, "")
    running.assert_nothing_left()


def test_an_iterator_keeps_its_pool_alive(tmp_path: Path) -> None:
    source = """
def iterate():
    return Pool(2).imap(abs, (-n for n in range(300)))
iterator = iterate()
gc.collect()
print(sum(iterator))
def iterate():
    return ProcessPoolExecutor(2).map(abs, (-n for n in range(300)))
iterator = iterate()
gc.collect()
print(sum(iterator))
result = Pool(2).map_async(abs, range(-300, 0))
gc.collect()
print(sum(result.get()))
"""
    check(tmp_path, source, "44850\n44850\n45150\n")


@pytest.mark.parametrize("used", [False, True])
def test_children_of_a_server_that_forks_ahead_use_pools_of_their_own(tmp_path: Path, used: bool) -> None:
    """As gunicorn and Celery do: the parent has imported, perhaps used it; each child serves several requests."""
    source = f"""
import traceback
pool = Pool(2)
if {used}:
    assert pool.map(abs, [-1, -2]) == [1, 2]

def serve():
    with Pool(2) as mine:
        assert mine.map(abs, range(-20, 0)) == list(range(20, 0, -1))
    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    pids = set(Pool(2).map(lambda _: os.getppid(), range(4)))
    os.write(1, b"served\\n")

children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        try:
            serve()
            serve()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)
    children.append(pid)
assert pool.map(abs, [-3, -4]) == [3, 4]
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
assert pool.map(abs, [-5]) == [5]
"""
    check(tmp_path, source, "served\n" * 6)


def test_a_pool_that_a_child_inherited_says_so(tmp_path: Path) -> None:
    source = """
pool, executor = Pool(2), ProcessPoolExecutor(2)
pool.map(abs, [-1])
executor.submit(abs, -1).result()
pid = os.fork()
if not pid:
    for call in (lambda: pool.map(abs, [-1]), lambda: pool.apply(abs, (1,)), lambda: executor.submit(abs, 1).result()):
        try:
            call()
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            os._exit(3)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(pool.map(abs, [-1]), executor.submit(abs, -2).result())
"""
    check(tmp_path, source, "[1] 2\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_inside_a_daemonic_worker_of_the_standard_library(tmp_path: Path, method: str) -> None:
    source = f"""
import multiprocessing
def inside(n):
    assert multiprocessing.current_process().daemon
    with Pool(2) as pool:
        return sum(pool.map(abs, range(-n, 0)))
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as outer:
        print(outer.map(inside, [1, 2, 3]))
        outer.close()
        outer.join()
"""
    check(tmp_path, source, "[1, 3, 6]\n")


def test_a_program_that_vanishes_while_its_workers_start(tmp_path: Path) -> None:
    source = """
for number in range(12):
    pid = os.fork()
    if not pid:
        with Pool(4) as pool:
            pool.map(abs, range(3))
        time.sleep(number / 500)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
print("over")
time.sleep(0.5)  # what workers say comes late
"""
    check(tmp_path, source, "over\n")


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="needs pytest-xdist")
def test_under_pytest_xdist(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text("""
import pytest
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

@pytest.fixture(scope="module")
def pool():
    with Pool(2) as pool:
        yield pool

@pytest.mark.parametrize("number", range(6))
def test_pool(pool, number):
    assert pool.map(abs, range(-number, 0)) == list(range(number, 0, -1))

def test_executor_left_open():
    assert ProcessPoolExecutor(2).submit(abs, -1).result() == 1
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "test_user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
    assert not done.stderr
