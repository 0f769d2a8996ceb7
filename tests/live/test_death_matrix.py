"""Every way to die in every call, with a hundred items: one fails, ninety-nine arrive, and the next call works."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import TimeoutError as FuturesTimeout
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import TimeoutError as MultiprocessingTimeout
from typing import TYPE_CHECKING, Any

import joblib
import pytest

from live import tasks
from live.helpers import wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import TaskCancelledError, TaskTimeoutError, WorkerDiedError
from scalepool.multiprocessing import Pool
from scalepool.multiprocessing.pool import MISSING, is_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from live.helpers import Ledger

pytestmark = pytest.mark.live

ITEMS = 100
CULPRIT = 50
SOON_S = 1.0
"""By when a death must be known, on a machine with time to spare; tests allow ten times that."""

MANNERS = {
    "kill": -signal.SIGKILL,
    "segfault": -signal.SIGSEGV,
    "abort": -signal.SIGABRT,
    "exit": 3,
    "out of memory": -signal.SIGKILL,
}


@pytest.fixture
def pool() -> Iterator[Any]:
    with Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2) as executor:
        yield executor


def arguments(ledger: Ledger, manner: str) -> list[tuple[str, int, int, str]]:
    return [(ledger.path, number, CULPRIT, manner) for number in range(ITEMS)]


def by_apply(pool: Any, items: list[Any]) -> list[Any]:
    results = [pool.apply_async(tasks.log_or_die, item) for item in items]
    return [outcome(result.get) for result in results]


def by_map(pool: Any, items: list[Any]) -> list[Any]:
    return list(pool.map(tasks.log_or_die_of, items, on_error="return"))


def by_map_in_large_chunks(pool: Any, items: list[Any]) -> list[Any]:
    return list(pool.map(tasks.log_or_die_of, items, chunksize=40, on_error="return"))


def by_starmap(pool: Any, items: list[Any]) -> list[Any]:
    return list(pool.starmap(tasks.log_or_die, items, chunksize=30, on_error="return"))


def by_imap(pool: Any, items: list[Any]) -> list[Any]:
    return list(pool.imap(tasks.log_or_die_of, items, on_error="return"))


def by_imap_in_chunks(pool: Any, items: list[Any]) -> list[Any]:
    return list(pool.imap(tasks.log_or_die_of, items, chunksize=25, on_error="return"))


def by_imap_unordered(pool: Any, items: list[Any]) -> list[Any]:
    results = list(pool.imap_unordered(tasks.log_or_die_of, items, chunksize=25, on_error="return"))
    failed = [result for result in results if is_failed(result)]
    rest = sorted(result for result in results if not is_failed(result))
    return [*rest[:CULPRIT], *failed, *rest[CULPRIT:]]


def outcome(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except Exception as error:  # the matrix wants to see it
        return error


POOL_CALLS = [
    by_apply, by_map, by_map_in_large_chunks, by_starmap, by_imap, by_imap_in_chunks, by_imap_unordered
]  # fmt: skip


def check(results: list[Any], manner: str) -> WorkerDiedError:
    assert len(results) == ITEMS
    culprit = results[CULPRIT]
    assert isinstance(culprit, WorkerDiedError), culprit
    assert culprit.exitcode == MANNERS[manner]
    assert culprit.pid != os.getpid()
    assert [result for number, result in enumerate(results) if number != CULPRIT] == [
        number for number in range(ITEMS) if number != CULPRIT
    ]
    return culprit


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("call", POOL_CALLS, ids=lambda call: call.__name__)
def test_pool(pool: Any, ledger: Ledger, call: Callable[..., list[Any]], manner: str) -> None:
    culprit = check(call(pool, arguments(ledger, manner)), manner)

    assert str(CULPRIT) in culprit.arguments
    assert ledger.counts()[str(CULPRIT)] == 1  # it died once and was not tried again
    assert set(ledger.counts()) == {str(number) for number in range(ITEMS)}
    if call is not by_apply:
        assert culprit.index == CULPRIT
    assert pool.map(tasks.square, range(20)) == [number * number for number in range(20)]
    assert len(pool._pool) == 2
    assert all(worker.is_alive() for worker in pool._pool)


@pytest.mark.parametrize("manner", MANNERS)
def test_submit(executor: ProcessPoolExecutor, ledger: Ledger, manner: str) -> None:
    futures = [executor.submit(tasks.log_or_die, *item) for item in arguments(ledger, manner)]

    culprit = check([outcome(future.result) for future in futures], manner)

    assert isinstance(culprit, BrokenProcessPool)
    assert str(CULPRIT) in culprit.arguments
    assert ledger.counts() == {str(number): 1 for number in range(ITEMS)}  # nobody ran twice
    assert executor.submit(tasks.square, 3).result(60) == 9


@pytest.mark.parametrize(
    "options", [{}, {"chunksize": 25}, {"buffersize": 8}, {"chunksize": 10, "buffersize": 4}], ids=str
)
def test_executor_map(executor: ProcessPoolExecutor, ledger: Ledger, options: dict[str, int]) -> None:
    results = executor.map(tasks.log_or_die_of, arguments(ledger, "kill"), **options)  # type: ignore[arg-type]

    assert [next(results) for _ in range(CULPRIT)] == list(range(CULPRIT))
    with pytest.raises(BrokenProcessPool) as caught:
        next(results)
    assert isinstance(caught.value, WorkerDiedError)
    assert f"{CULPRIT}, {CULPRIT}, 'kill'" in caught.value.arguments
    assert ledger.counts()[str(CULPRIT)] == 1
    assert list(executor.map(tasks.square, range(20))) == [number * number for number in range(20)]


@pytest.mark.parametrize("manner", ["kill", "exit"])
def test_parallel(ledger: Ledger, manner: str) -> None:
    calls = [joblib.delayed(tasks.log_or_die)(*item) for item in arguments(ledger, manner)]
    with pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError) as caught:
        joblib.Parallel(n_jobs=2, backend="scalepool")(calls)
    assert isinstance(caught.value, WorkerDiedError)
    assert joblib.Parallel(n_jobs=2, backend="scalepool")(joblib.delayed(tasks.square)(n) for n in range(10)) == [
        number * number for number in range(10)
    ]


def test_nested(pool: Any) -> None:
    expected = ["WorkerDiedError", *(number * number for number in range(1, 20))]
    # A task that waits runs some of what it waits for itself, in its own process. What has a time limit it does not.
    assert pool.map(tasks.inner_pool_with_a_death, [60.0] * 3, chunksize=1) == [expected] * 3

    for result in pool.map(tasks.inner_pool_with_a_death, [None] * 3, chunksize=1, on_error="return"):
        assert result == expected or (isinstance(result, WorkerDiedError) and "waited for" in str(result))
    assert pool.map(tasks.square, range(20)) == [number * number for number in range(20)]


def test_sys_exit_is_an_error_of_its_task(pool: Any, ledger: Ledger) -> None:
    results = by_map_in_large_chunks(pool, arguments(ledger, "sys.exit"))
    assert isinstance(results[CULPRIT], SystemExit)
    assert results[CULPRIT].code == 4
    assert ledger.counts() == {str(number): 1 for number in range(ITEMS)}


def test_a_death_is_known_soon(pool: Any) -> None:
    pool.apply(tasks.square, (1,))
    began_s = time.monotonic()
    with pytest.raises(WorkerDiedError):
        pool.apply(tasks.die, ("kill",))
    assert time.monotonic() - began_s < 10 * SOON_S


def test_map_raises_with_what_the_others_returned(pool: Any, ledger: Ledger) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        pool.map(tasks.log_or_die_of, arguments(ledger, "kill"), chunksize=20)
    partial = caught.value.partial_results  # type: ignore[attr-defined]
    assert partial[CULPRIT] is MISSING
    assert [value for value in partial if value is not MISSING] == [n for n in range(ITEMS) if n != CULPRIT]


def test_several_culprits_in_one_chunk(pool: Any, ledger: Ledger) -> None:
    items = [(ledger.path, number, number // 7 * 7, "exit") for number in range(30)]
    results = pool.map(tasks.log_or_die_of, items, chunksize=30, on_error="return")
    failed = [number for number, result in enumerate(results) if is_failed(result)]
    assert failed == [0, 7, 14, 21, 28]
    assert {results[number].index for number in failed} == set(failed)
    assert [result for result in results if not is_failed(result)] == [n for n in range(30) if n % 7]
    assert all(ledger.counts()[str(number)] == 1 for number in failed)


# ---- retries ----


@pytest.mark.parametrize("options", [{}, {"chunksize": 30}], ids=str)
def test_a_call_is_tried_again_as_often_as_it_may_be(pool: Any, tmp_path: Path, options: dict[str, int]) -> None:
    items = [(str(tmp_path / f"item{number}"), 2 if number == 15 else 0) for number in range(30)]
    results = pool.starmap(tasks.die_the_first_times, items, max_retries=2, **options)
    assert results == [3 if number == 15 else 1 for number in range(30)] or results[15] == 3

    with pytest.raises(WorkerDiedError, match="attempt 2") as caught:
        pool.starmap(
            tasks.die_the_first_times, [(str(tmp_path / "more"), 9), (str(tmp_path / "none"), 0)], max_retries=1
        )
    assert caught.value.attempt == 2
    assert caught.value.index == 0


def test_retries_of_a_pool_and_of_an_executor(tmp_path: Path) -> None:
    with Pool(1, max_retries=1) as pool:
        assert pool.apply(tasks.die_the_first_times, (str(tmp_path / "a"), 1)) == 2
        assert pool.apply_async(tasks.die_the_first_times, (str(tmp_path / "b"), 1)).get(60) == 2
        with pytest.raises(WorkerDiedError):
            pool.apply(tasks.die_the_first_times, (str(tmp_path / "c"), 1), max_retries=0)
    with ProcessPoolExecutor(1) as executor:
        patient = executor.with_options(max_retries=1)
        assert patient.submit(tasks.die_the_first_times, str(tmp_path / "d"), 1).result(60) == 2
        assert list(patient.map(tasks.die_the_first_times, [str(tmp_path / "e")], [1])) == [2]
    with joblib.parallel_config(backend="scalepool", n_jobs=2, max_retries=1):
        assert joblib.Parallel()([joblib.delayed(tasks.die_the_first_times)(str(tmp_path / "f"), 1)] * 1) == [2]


# ---- time limits ----


@pytest.mark.parametrize("options", [{}, {"chunksize": 10}], ids=str)
@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_only_the_item_that_takes_too_long_fails(pool: Any, call: str, options: dict[str, int]) -> None:
    results = list(
        getattr(pool, call)(tasks.sleep_or_return, range(20), task_timeout=1.0, on_error="return", **options)
    )
    (error,) = [result for result in results if is_failed(result)]
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, MultiprocessingTimeout)
    assert (error.timeout_s, error.index, error.arguments) == (1.0, 13, "(13)")
    assert sorted(result for result in results if not is_failed(result)) == [n for n in range(20) if n != 13]


def test_a_limit_is_for_each_item_and_not_for_the_chunk(pool: Any) -> None:
    assert pool.map(time.sleep, [0.2] * 10, chunksize=10, task_timeout=1.0) == [None] * 10


def test_limits_in_executor_and_joblib(executor: ProcessPoolExecutor) -> None:
    limited = executor.with_options(task_timeout=0.3)
    with pytest.raises(FuturesTimeout) as caught:
        limited.submit(time.sleep, 600).result(60)
    assert isinstance(caught.value, TaskTimeoutError)
    results = limited.map(tasks.sleep_or_return, range(11, 20), chunksize=9)
    assert [next(results), next(results)] == [11, 12]
    with pytest.raises(TimeoutError, match="item 2 of its input"):
        next(results)
    with joblib.parallel_config(backend="scalepool", n_jobs=2, task_timeout=0.3), pytest.raises(MultiprocessingTimeout):
        joblib.Parallel()(joblib.delayed(tasks.sleep_or_return)(number) for number in range(20))
    assert executor.submit(tasks.square, 3).result(60) == 9


def test_cancelling_results_by_force(pool: Any, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    result = pool.apply_async(tasks.touch_and_wait, (str(touched), str(tmp_path / "never")))
    wait_for(touched.exists)
    assert not result.cancel()
    assert result.cancel(force=True)
    with pytest.raises(TaskCancelledError):
        result.get(60)
    many = pool.map_async(time.sleep, [600] * 10)
    assert many.cancel(force=True)
    with pytest.raises(TaskCancelledError):
        many.get(60)
    assert not many.cancel(force=True)
    assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]


# ---- what the error tells ----


@pytest.mark.parametrize(("manner", "name"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT")])
def test_the_error_says_where_it_crashed_and_what_was_said_last(pool: Any, manner: str, name: str) -> None:
    result = pool.apply_async(tasks.say_and_die, (manner,), {"big": bytes(2000)})
    with pytest.raises(WorkerDiedError) as caught:
        result.get(60)
    error = caught.value
    assert error.signal_name == name
    assert "in die" in error.stack
    assert "in say_and_die" in error.stack
    assert "the last words" in error.stderr
    assert error.arguments.startswith(f"({manner!r}, big=")
    assert error.peak_rss_bytes is not None
    assert error.peak_rss_bytes > 2**20
    assert error.host == os.uname().nodename
    text = str(error)
    assert all(part in text for part in (name, "say_and_die", "the last words", "in die", "MiB", str(error.pid)))


def test_the_error_of_a_timeout_says_where_it_was(pool: Any) -> None:
    with pytest.raises(TaskTimeoutError) as caught:
        pool.apply(tasks.get_stuck, ("sleep",), task_timeout=0.3)
    assert "in get_stuck" in caught.value.stack


def test_arguments_are_shown_without_being_loaded(pool: Any) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        pool.apply(tasks.say_and_die, (tasks.LoadsOnlyInWorkers(os.getpid()),))
    assert "LoadsOnlyInWorkers" in caught.value.arguments or "load_or_die" in caught.value.arguments


def test_a_hanging_initializer_is_shown_where_it_hangs() -> None:
    from scalepool.errors import InitializerError

    hanging = Pool(1, tasks.get_stuck, ("sleep",), initializer_timeout=0.5)
    with hanging as pool, pytest.raises(InitializerError, match="in get_stuck"):
        pool.apply(tasks.square, (1,))
