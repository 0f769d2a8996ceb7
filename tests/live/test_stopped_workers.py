"""A worker that is stopped (SIGSTOP, a debugger) keeps the task that it is in, and nothing else, from being done."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import pytest

from live import tasks
from live.helpers import PATIENCE_S, wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from live.helpers import Ledger

pytestmark = pytest.mark.live

ITEMS = 200
CULPRIT = 30


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as pool:
        yield pool
    pool.join()


def _apply(ledger: Ledger) -> list[int]:
    with Pool(2) as pool:
        calls = [pool.apply_async(tasks.log_and_stop, (ledger.path, number, CULPRIT)) for number in range(ITEMS)]
        return [call.get() for call in calls]


def _map(ledger: Ledger) -> list[int]:
    with Pool(2) as pool:
        return list(pool.starmap(tasks.log_and_stop, _items(ledger), chunksize=1))


def _imap(ledger: Ledger) -> list[int]:
    with Pool(2) as pool:
        return list(pool.imap(tasks.log_and_stop_packed, _items(ledger)))


def _imap_unordered(ledger: Ledger) -> list[int]:
    with Pool(2) as pool:
        return sorted(pool.imap_unordered(tasks.log_and_stop_packed, _items(ledger)))


def _submit(ledger: Ledger) -> list[int]:
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(tasks.log_and_stop, *item) for item in _items(ledger)]
        return [future.result() for future in futures]


def _parallel(ledger: Ledger) -> list[int]:
    with joblib.parallel_config(backend="scalepool", n_jobs=2):
        found = joblib.Parallel(batch_size=1)(joblib.delayed(tasks.log_and_stop)(*item) for item in _items(ledger))
    return list(found)


def _items(ledger: Ledger) -> list[tuple[str, int, int]]:
    return [(ledger.path, number, CULPRIT) for number in range(ITEMS)]


@pytest.mark.parametrize("call", [_apply, _map, _imap, _imap_unordered, _submit, _parallel])
def test_all_others_run_and_none_twice(ledger: Ledger, call: Callable[[Ledger], list[int]]) -> None:
    results: list[int] = []
    caller = threading.Thread(target=lambda: results.extend(call(ledger)), daemon=True)
    caller.start()
    try:
        wait_for(lambda: len(set(ledger.lines())) == ITEMS)
    finally:
        os.kill(tasks.who_stopped(ledger.path), signal.SIGCONT)
    caller.join(PATIENCE_S)
    assert results == list(range(ITEMS))
    assert set(ledger.counts().values()) == {1}


def test_a_worker_that_is_stopped_while_idle_gets_in_nobodys_way(pool: Any, ledger: Ledger) -> None:
    pids = set(pool.map(tasks.pid_after, [0.05] * 2, chunksize=1))
    os.kill(min(pids), signal.SIGSTOP)
    try:
        assert pool.starmap(tasks.log, [(ledger.path, number) for number in range(50)], chunksize=1) == list(range(50))
        assert pool.apply(tasks.square, (3,)) == 9
    finally:
        os.kill(min(pids), signal.SIGCONT)
    assert pool.starmap(tasks.log, [(ledger.path, 50 + number) for number in range(50)], chunksize=1)[-1] == 99
    assert set(ledger.counts().values()) == {1}


def test_what_waits_behind_a_stopped_worker_can_be_cancelled(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    with ProcessPoolExecutor(1) as executor:
        list(executor.map(tasks.square, range(100)))  # so short are they that several are sent ahead
        stuck = executor.submit(tasks.log_and_stop, path, 0, 0)
        behind = [executor.submit(tasks.square, number) for number in range(20)]
        wait_for(lambda: Path(path + ".stopped").exists())
        try:
            assert all(future.cancel() for future in behind)
        finally:
            os.kill(tasks.who_stopped(path), signal.SIGCONT)
        assert stuck.result() == 0
        assert executor.submit(tasks.square, 4).result() == 16


def test_tasks_behind_one_that_never_lets_another_thread_run_are_done_by_others(ledger: Ledger, tmp_path: Path) -> None:
    end = tmp_path / "end"
    os.mkfifo(end)
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(tasks.square, range(100)))
        greedy = executor.submit(tasks.hold_the_interpreter_until, str(end))
        try:
            numbers = [executor.submit(tasks.log, ledger.path, number) for number in range(100)]
            assert [future.result(PATIENCE_S) for future in numbers] == list(range(100))
            assert not greedy.done()
        finally:
            with end.open("w") as fifo:
                fifo.write("x")
        assert greedy.result(PATIENCE_S) is None
    assert set(ledger.counts().values()) == {1}
