"""``progress=`` in every place that has it: counts, their end, and that a bar is closed however the call ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import joblib
import pytest

from live import tasks
from live.helpers import wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import TaskCancelledError
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.live

ITEMS = 60


class Reports(list[tuple[int, "int | None", int]]):
    """A callable that keeps its calls, and whether it was closed."""

    closed = 0
    began_s = 0.0

    def __call__(self, done: int, total: int | None, failed: int) -> None:
        self.began_s = self.began_s or time.monotonic()
        self.append((done, total, failed))

    def close(self) -> None:
        self.closed += 1

    def check(self, total: int, failed: int = 0) -> None:
        assert self[-1] == (total, total, failed)
        assert [done for done, _, _ in self] == sorted(done for done, _, _ in self)
        assert len(self) <= 10 * (time.monotonic() - self.began_s) + 3
        assert self.closed == 1


def nap(item: int) -> int:
    time.sleep(0.005)
    return item


def fail_sometimes(item: int) -> int:
    if item % 10 == 3:
        raise ValueError(item)
    return item


def calls_of_pool(pool: Pool) -> list[Callable[..., Any]]:
    return [
        pool.map,
        lambda fn, items, **extra: pool.map(fn, items, 7, **extra),
        lambda fn, items, **extra: pool.starmap(fn, [(item,) for item in items], **extra),
        lambda fn, items, **extra: pool.map_async(fn, items, **extra).get(60),
        lambda fn, items, **extra: list(pool.imap(fn, items, **extra)),
        lambda fn, items, **extra: list(pool.imap(fn, iter(items), 7, **extra)),
        lambda fn, items, **extra: sorted(pool.imap_unordered(fn, iter(items), **extra)),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_map_of_a_pool_tells_all_of_it(workers: int) -> None:
    with Pool(workers) as pool:
        for call in calls_of_pool(pool):
            reports = Reports()
            assert call(nap, range(ITEMS), progress=reports) == list(range(ITEMS))
            reports.check(ITEMS)


def test_failed_items_of_a_pool_are_counted() -> None:
    with Pool(2) as pool:
        for call in calls_of_pool(pool)[:-1]:
            reports = Reports()
            call(fail_sometimes, range(ITEMS), progress=reports, on_error="return")
            reports.check(ITEMS, ITEMS // 10)


def test_an_executors_map_tells_all_of_it() -> None:
    with ProcessPoolExecutor(2) as executor:
        for extra in ({}, {"chunksize": 7}, {"buffersize": 2}, {"buffersize": 3, "chunksize": 4}):
            for items in (range(ITEMS), iter(range(ITEMS))):
                reports = Reports()
                assert list(executor.map(nap, items, progress=reports, **extra)) == list(range(ITEMS))  # type: ignore[arg-type]
                reports.check(ITEMS)


def test_an_executors_map_that_is_never_read_tells_all_of_it() -> None:
    reports = Reports()
    with ProcessPoolExecutor(2) as executor:
        executor.map(nap, range(ITEMS), progress=reports)
    wait_for(lambda: reports.closed)
    reports.check(ITEMS)


@pytest.mark.parametrize("extra", [{}, {"buffersize": 2}])
def test_an_executors_map_that_fails_is_told_to_its_end(extra: dict[str, Any]) -> None:
    reports = Reports()
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="3"):
            list(executor.map(fail_sometimes, range(ITEMS), progress=reports, **extra))
        wait_for(lambda: reports.closed)
    assert reports[-1][2] >= 1


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_joblib_tells_items_not_batches(return_as: str) -> None:
    for _ in range(2):
        reports = Reports()
        with joblib.parallel_config(backend="scalepool", n_jobs=2, progress=reports):
            results = joblib.Parallel(return_as=return_as)(joblib.delayed(nap)(item) for item in range(ITEMS))
            assert sorted(results) == list(range(ITEMS))
        wait_for(lambda reports=reports: reports.closed)
        reports.check(ITEMS)


def test_joblib_closes_after_an_error() -> None:
    reports = Reports()
    with (
        joblib.parallel_config(backend="scalepool", n_jobs=2, progress=reports),
        pytest.raises(ValueError, match="3"),
    ):
        joblib.Parallel()(joblib.delayed(fail_sometimes)(item) for item in range(ITEMS))
    assert reports.closed == 1
    assert reports[-1][2] >= 1


def test_joblib_refuses_what_is_no_progress() -> None:
    with joblib.parallel_config(backend="scalepool", n_jobs=2, progress=3), pytest.raises(TypeError, match="progress"):
        joblib.Parallel()(joblib.delayed(nap)(item) for item in range(3))


def test_joblib_with_one_job_just_runs() -> None:
    reports = Reports()
    with joblib.parallel_config(backend="scalepool", n_jobs=1, progress=reports):
        assert joblib.Parallel()(joblib.delayed(nap)(item) for item in range(3)) == [0, 1, 2]
    assert not reports


# ---- ends before its end ----


def test_an_abandoned_iterator_closes() -> None:
    for name in ("imap", "imap_unordered"):
        reports = Reports()
        with Pool(1) as pool:
            results = getattr(pool, name)(nap, iter(range(10_000)), progress=reports)
            next(results)
            del results
            wait_for(lambda reports=reports: reports.closed)
        assert reports[-1][0] < 10_000


def test_raise_now_closes() -> None:
    with Pool(1) as pool:
        for call in calls_of_pool(pool)[:-1]:
            reports = Reports()
            with pytest.raises(ValueError, match="3"):
                call(fail_sometimes, range(1000), progress=reports, on_error="raise_now")
            wait_for(lambda reports=reports: reports.closed)


def test_a_terminated_pool_closes_and_nothing_counts_as_failed(tmp_path: Path) -> None:
    reports = [Reports(), Reports()]
    pool = Pool(1)
    first = pool.map_async(tasks.wait_for_file, [str(tmp_path / "never")] * 5, 1, progress=reports[0])
    second = pool.imap(tasks.wait_for_file, [str(tmp_path / "never")] * 5, progress=reports[1])
    pool.terminate()
    pool.join()
    with pytest.raises(TaskCancelledError):
        first.get(60)
    del second
    for one in reports:
        wait_for(lambda one=one: one.closed)
        assert not any(failed for _, _, failed in one)


def interrupt() -> Iterator[int]:
    yield from range(20)
    raise KeyboardInterrupt


def test_an_interrupt_closes() -> None:
    reports = Reports()
    with ProcessPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt):
        list(executor.map(nap, interrupt(), progress=reports))
    wait_for(lambda: reports.closed)
    with Pool(1) as pool:
        reports = Reports()
        with pytest.raises(KeyboardInterrupt):
            list(pool.imap(nap, interrupt(), progress=reports))
        wait_for(lambda: reports.closed)
