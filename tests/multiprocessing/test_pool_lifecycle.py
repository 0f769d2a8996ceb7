"""Making, closing, terminating and dropping pools."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.pool
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest

from scalepool.errors import TaskCancelledError
from scalepool.multiprocessing import Pool, cpu_count
from scalepool.multiprocessing.pool import RUN

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def test_wrong_arguments_fail_as_the_originals() -> None:
    for processes in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            Pool(processes)
    for number in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
            Pool(1, maxtasksperchild=number)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Pool(1, initializer=1)  # type: ignore[arg-type]


def test_the_default_size_is_the_cpu_count() -> None:
    with Pool() as pool:
        assert pool._processes == cpu_count() >= 1


def test_packages_may_look_at_the_workers() -> None:
    with Pool(3) as pool:
        workers = pool._pool
        assert len(workers) == 3
        assert all(worker.is_alive() and worker.exitcode is None for worker in workers)
        assert os.getpid() not in {worker.pid for worker in workers}
        assert repr(pool) == "<scalepool.multiprocessing.pool.Pool state=RUN pool_size=3>"


def test_a_pool_passes_for_the_originals(pool: Pool) -> None:
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert isinstance(pool, Pool)
    assert type(pool) is Pool


def test_a_pool_cannot_be_pickled(pool: Pool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pickle.dumps(pool)


def test_states_and_moments_are_the_originals() -> None:
    pool = Pool(1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    pool.close()
    pool.join()
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(tasks.square, [1])
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply_async(tasks.square, (1,))
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_close_and_join_finish_all_work_and_its_callbacks() -> None:
    found: list[Any] = []
    pool = Pool(2)
    one = pool.apply_async(tasks.square, (5,), callback=found.append)
    many = pool.map_async(tasks.square, range(500), 1, callback=lambda values: found.append(len(values)))
    pool.close()
    pool.join()

    assert sorted(found) == [25, 500]
    assert one.get(0) == 25
    assert len(many.get(0)) == 500


def test_leaving_a_with_block_terminates() -> None:
    with Pool(2) as pool:
        waiting = [
            pool.apply_async(tasks.sleep_forever, (0,)),
            pool.apply_async(tasks.sleep_forever, (0,), callback=print, error_callback=print),
            pool.map_async(tasks.sleep_forever, range(100), 1),
        ]
        items = pool.imap(tasks.sleep_forever, range(100))
    pool.join()

    for result in waiting:
        with pytest.raises(TaskCancelledError):
            result.get(10)
    with pytest.raises(TaskCancelledError):
        items.next(10)


def test_a_callback_may_terminate_its_pool() -> None:
    pool = Pool(2)
    result = pool.apply_async(tasks.square, (1,), callback=lambda value: pool.terminate())
    result.wait(10)
    pool.join()

    assert result.get(0) == 1
    assert pool._state == "TERMINATE"


def test_initializer_and_tasks_share_globals() -> None:
    pool = Pool(2, tasks.remember, ("here",))
    assert pool.map(tasks.recall, range(4)) == [["here"]] * 4
    pool.close()
    pool.join()


def test_the_initializer_runs_even_without_a_task(tmp_path: Path) -> None:
    pool = Pool(1, tasks.touch, (str(tmp_path / "ran"),))
    pool.close()
    pool.join()

    assert (tmp_path / "ran").exists()


def test_workers_are_replaced_after_their_number_of_tasks() -> None:
    pool = Pool(1, maxtasksperchild=2)
    pids = [pool.apply(tasks.worker_pid, (0,)) for _ in range(6)]
    pool.close()
    pool.join()

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_an_unclosed_pool_warns_when_it_is_dropped() -> None:
    pool: Pool | None = Pool(1)
    assert pool is not None
    pool.terminate()
    pool.join()
    pool._state = RUN
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        pool = None
        gc.collect()


def test_threads_end_with_their_pool() -> None:
    before = {thread for thread in threading.enumerate() if "pool-" not in thread.name}
    pool = Pool(2)
    list(pool.imap(tasks.square, range(10)))
    pool.apply_async(tasks.square, (1,), callback=abs).wait(10)
    pool.close()
    pool.join()

    left = {thread for thread in threading.enumerate() if f"{pool._name}-" in thread.name}
    assert left == set()
    assert before <= set(threading.enumerate()) | before


@pytest.mark.parametrize(
    "ending",
    [
        "pool.apply_async(time.sleep, (60,))",
        "results = pool.imap(abs, itertools.count()); next(results)",
        "pool.map(abs, range(10)); pool.close()",
        "pool.apply_async(abs, (1,), callback=print).wait()",
        "pool.cycle = pool; del pool",
    ],
)
def test_a_script_ends_quietly_whatever_its_pool_is_doing(ending: str) -> None:
    script = f"import itertools, time\nfrom scalepool.multiprocessing import Pool\npool = Pool(2)\n{ending}\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (0, "")
