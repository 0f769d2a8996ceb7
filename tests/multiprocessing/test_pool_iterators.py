"""``imap`` and ``imap_unordered``."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest

from scalepool.errors import WorkerDiedError
from scalepool.multiprocessing import Pool
from scalepool.multiprocessing.pool import is_failed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


class Counted:
    """An endless input that counts what was pulled, and tells when its feeder has let go of it."""

    def __init__(self) -> None:
        self.pulled = 0
        self.released = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            for value in itertools.count():
                self.pulled = value + 1
                yield value
        finally:
            self.released.set()


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_results_in_order_and_out_of_order(pool: Pool, chunksize: int) -> None:
    squares = [value * value for value in range(250)]

    assert list(pool.imap(tasks.square, iter(range(250)), chunksize)) == squares
    assert sorted(pool.imap_unordered(tasks.square, range(250), chunksize=chunksize)) == squares


def test_an_iterator_is_its_own_iterator_and_stays_exhausted(pool: Pool) -> None:
    results = pool.imap(tasks.square, [1])

    assert iter(results) is results
    assert list(results) == [1]
    with pytest.raises(StopIteration):
        results.next(timeout=1)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_next_times_out_and_can_be_called_again(pool: Pool, tmp_path: Path, chunksize: int) -> None:
    for method in (pool.imap, pool.imap_unordered):
        path = tmp_path / method.__name__
        results = method(tasks.wait_for_file, [str(path)], chunksize)
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.01)
        path.touch()
        assert results.next(10) == str(path)


def test_unordered_results_do_not_wait_for_a_slow_head(pool: Pool, tmp_path: Path) -> None:
    head = str(tmp_path / "head")
    results = pool.imap_unordered(_wait_or_return, [head, "a", "b", "c"])

    assert sorted(next(results) for _ in range(3)) == ["a", "b", "c"]
    tasks.touch(head)
    assert next(results) == head


def _wait_or_return(path: str) -> str:
    return tasks.wait_for_file(path) if path.startswith("/") else path


@pytest.mark.parametrize("chunksize", [1, 2, 4])
def test_a_failing_item_raises_at_its_turn_and_costs_nothing_else(pool: Pool, chunksize: int) -> None:
    results = pool.imap(tasks.reciprocal, [1, 2, 0, 4, 8], chunksize)

    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [0.25, 0.125]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_return_hands_the_exceptions_out(pool: Pool, chunksize: int) -> None:
    results = list(pool.imap(tasks.reciprocal, [1, 0, 2], chunksize, on_error="return"))

    assert [is_failed(result) for result in results] == [False, True, False]
    assert isinstance(results[1], ZeroDivisionError)


def test_raise_now_is_out_of_turn_and_the_end(pool: Pool, tmp_path: Path) -> None:
    results = pool.imap(_wait_or_divide, [str(tmp_path / "never"), 0, 1], on_error="raise_now")

    with pytest.raises(ZeroDivisionError):
        results.next(10)
    with pytest.raises(StopIteration):
        results.next(10)


def _wait_or_divide(value: Any) -> Any:
    return tasks.wait_for_file(value) if isinstance(value, str) else 1 / value


def test_a_stop_iteration_of_a_task_does_not_end_the_results(pool: Pool) -> None:
    def stop(value: int) -> int:
        if value == 1:
            raise StopIteration
        return value

    results = pool.imap(stop, range(3))
    assert next(results) == 0
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(results)
    assert next(results) == 2


def test_an_input_that_fails_fails_at_that_place(pool: Pool) -> None:
    results = pool.imap(tasks.square, tasks.failing_inputs(10, 3))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(LookupError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)

    in_chunks = pool.imap(tasks.square, tasks.failing_inputs(20, 7), 4)
    assert [next(in_chunks) for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(LookupError):
        next(in_chunks)


def test_what_is_not_iterable_or_callable_fails_at_next(pool: Pool) -> None:
    for results in (pool.imap(tasks.square, 5), pool.imap(5, [1])):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            results.next(10)


def test_wrong_sizes_are_refused_at_once(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
        pool.imap(tasks.square, [], 0)
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        pool.imap_unordered(tasks.square, [], buffersize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        pool.imap(tasks.square, [], buffersize=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_buffer_size_bounds_what_is_pulled(pool: Pool, ordered: bool) -> None:
    inputs = Counted()
    method = pool.imap if ordered else pool.imap_unordered
    results = method(tasks.square, inputs, buffersize=5)

    for taken in range(1, 50):
        next(results)
        assert inputs.pulled <= taken + 5
    del results
    assert inputs.released.wait(10)


def test_an_endless_input_is_read_boundedly_by_default(pool: Pool) -> None:
    inputs = Counted()
    results = pool.imap(tasks.square, inputs)

    assert next(results) == 0
    assert inputs.pulled <= 1 + 4096


def test_an_iterator_dropped_half_read_stops_its_feeder(pool: Pool) -> None:
    inputs = Counted()
    for value in pool.imap_unordered(tasks.square, inputs, 3):
        if value > 1000:
            break

    assert inputs.released.wait(10)
    assert pool.apply(tasks.square, (2,)) == 4


@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_iterator_dropped_unread_runs_to_its_end(tmp_path: Path, name: str, chunksize: int) -> None:
    pool = Pool(2)
    getattr(pool, name)(tasks.touch, (str(tmp_path / str(number)) for number in range(100)), chunksize)
    pool.close()
    pool.join()

    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_join_finishes_an_input_that_nobody_consumes(name: str, chunksize: int) -> None:
    pool = Pool(2)
    results = getattr(pool, name)(tasks.square, iter(range(100)), chunksize, buffersize=7)
    first = next(results)
    pool.close()
    pool.join()

    assert sorted([first, *results]) == [value * value for value in range(100)]


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_an_iterator_keeps_its_pool_alive() -> None:
    results = Pool(2).imap(tasks.square, range(200))
    gc.collect()

    assert list(results) == [value * value for value in range(200)]


def test_a_killed_worker_costs_one_item(pool: Pool) -> None:
    for method in (pool.imap, pool.imap_unordered):
        results = list(method(tasks.kill_at_three, range(30), on_error="return"))
        assert sorted(result for result in results if not is_failed(result)) == [0, 1, 2, *range(4, 30)]
        assert [type(result) for result in results if is_failed(result)] == [WorkerDiedError]


def test_an_item_that_does_not_pickle_fails_alone(pool: Pool) -> None:
    for chunksize in (1, 3):
        results = list(pool.imap(str, [1, threading.Lock(), 3], chunksize, on_error="return"))
        assert [is_failed(result) for result in results] == [False, True, False]


def test_progress_ends_with_all_items() -> None:
    reports: list[tuple[int, int | None, int]] = []
    pool = Pool(2)
    inputs = iter(range(40))
    assert (
        len(list(pool.imap_unordered(tasks.square, inputs, 3, progress=lambda *report: reports.append(report)))) == 40
    )
    pool.close()
    pool.join()

    assert reports[-1] == (40, 40, 0)
