"""``map``, ``starmap`` and their asynchronous forms."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest

from scalepool.errors import WorkerDiedError
from scalepool.multiprocessing.pool import MISSING, is_failed

if TYPE_CHECKING:
    from pathlib import Path

    from scalepool.multiprocessing import Pool

pytestmark = pytest.mark.live


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
@pytest.mark.parametrize("kind", [list, tuple, range, set, iter])
def test_map_keeps_the_order_for_every_iterable(pool: Pool, kind: Any, chunksize: int | None) -> None:
    values = range(100)
    inputs = values if kind is range else kind(values)

    assert pool.map(tasks.square, inputs, chunksize) == [value * value for value in values]


def test_map_takes_keywords_of_the_original(pool: Pool) -> None:
    assert pool.map(func=tasks.square, iterable=[3], chunksize=None) == [9]
    assert pool.starmap(tasks.power, [(2, 3), (3, 2)], chunksize=1) == [8, 9]
    assert pool.starmap_async(func=tasks.power, iterable=[(2, 3)], chunksize=2).get() == [8]


def test_many_items(pool: Pool) -> None:
    assert pool.map(abs, range(200_000)) == list(range(200_000))


def test_functions_travel_by_value(pool: Pool) -> None:
    offset = 10

    assert pool.map(lambda value: value + offset, [1, 2]) == [11, 12]


def test_an_empty_input_is_ready_at_once_and_calls_nobody(pool: Pool) -> None:
    called: list[Any] = []
    result = pool.map_async(tasks.square, [], callback=called.append)

    assert result.ready()
    assert result.get() == []
    assert called == []


def test_a_chunk_size_below_one_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="Chunksize must be"):
        pool.map(tasks.square, [1], 0)


def test_an_iterator_that_fails_fails_the_call(pool: Pool) -> None:
    with pytest.raises(LookupError) as caught:
        pool.map_async(tasks.square, tasks.failing_inputs(5, 2))
    assert caught.value.__cause__ is None


def test_a_sized_iterable_that_fails_fails_the_result(pool: Pool) -> None:
    class Sized:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            raise LookupError

    result = pool.map_async(tasks.square, Sized())  # type: ignore[arg-type]

    with pytest.raises(LookupError):
        result.get()


def test_all_items_run_before_an_error_is_raised(pool: Pool, tmp_path: Path) -> None:
    paths = [str(tmp_path / "missing" / "0"), *(str(tmp_path / str(number)) for number in range(20))]

    with pytest.raises(FileNotFoundError):
        pool.map(tasks.touch, paths, 3)
    assert len(list(tmp_path.iterdir())) == 20


def test_a_failed_map_has_partial_results(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(tasks.reciprocal, [1, 0, 2], 3)

    assert caught.value.partial_results == [1.0, MISSING, 0.5]  # type: ignore[attr-defined]


def test_return_puts_the_exceptions_into_the_results(pool: Pool) -> None:
    results = pool.map(tasks.reciprocal, [1, 0, 2], on_error="return")

    assert results[::2] == [1.0, 0.5]
    assert isinstance(results[1], ZeroDivisionError)
    assert [is_failed(result) for result in results] == [False, True, False]
    assert not is_failed(pool.map(tasks.return_an_exception, [1], on_error="return")[0])


def test_raise_now_does_not_wait_for_the_rest(pool: Pool, tmp_path: Path) -> None:
    never = str(tmp_path / "never")

    with pytest.raises(FileNotFoundError) as caught:
        pool.map(_touch_or_wait, [str(tmp_path / "a" / "b"), never, never, never, never], 1, on_error="raise_now")
    assert caught.value.partial_results == [MISSING] * 5  # type: ignore[attr-defined]


def _touch_or_wait(path: str) -> None:
    tasks.wait_for_file(path) if path.endswith("never") else tasks.touch(path)


def test_an_unknown_on_error_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="on_error"):
        pool.map(tasks.square, [1], on_error="ignore")  # type: ignore[arg-type]


def test_a_killed_worker_costs_one_item(pool: Pool) -> None:
    results = pool.map(tasks.kill_at_three, range(40), 4, on_error="return")

    assert is_failed(results[3])
    assert isinstance(results[3], WorkerDiedError)
    assert results[3].index == 3
    assert results[:3] + results[4:] == [0, 1, 2, *range(4, 40)]


def test_exit_in_a_task_is_an_error_of_the_item(pool: Pool) -> None:
    with pytest.raises(SystemExit) as caught:
        pool.map(tasks.exit_at_three, range(6))
    assert caught.value.partial_results == [0, 1, 2, MISSING, 4, 5]  # type: ignore[attr-defined]


def test_an_item_that_does_not_pickle_fails_alone(pool: Pool) -> None:
    results = pool.map(str, [1, threading.Lock(), 3, 4], 4, on_error="return")

    assert [results[0], *results[2:]] == ["1", "3", "4"]
    assert is_failed(results[1])
    assert isinstance(results[1], TypeError)


def test_a_function_that_does_not_pickle_fails_in_get(pool: Pool) -> None:
    result = pool.map_async(threading.Lock().acquire, [True])

    with pytest.raises(TypeError, match="cannot pickle"):
        result.get()


def test_callbacks_get_the_whole_list_or_the_error(pool: Pool) -> None:
    values: list[Any] = []
    errors: list[Any] = []
    good = pool.map_async(tasks.reciprocal, [1, 2], callback=values.append, error_callback=errors.append)
    bad = pool.map_async(tasks.reciprocal, [0, 0], callback=values.append, error_callback=errors.append)
    good.wait(10)
    bad.wait(10)

    assert values == [[1.0, 0.5]]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_progress_ends_with_all_items(pool: Pool) -> None:
    reports: list[tuple[int, int | None, int]] = []
    pool.map(tasks.reciprocal, [0, 1, 2, 4], progress=lambda *report: reports.append(report), on_error="return")

    assert reports[-1] == (4, 4, 1)
    assert [done for done, _, _ in reports] == sorted({done for done, _, _ in reports})


def test_ten_threads_share_a_pool(pool: Pool) -> None:
    def work(number: int) -> bool:
        values = range(number, number + 30)
        squares = [value * value for value in values]
        return (
            pool.map(tasks.square, values) == squares
            and list(pool.imap(tasks.square, values)) == squares
            and sorted(pool.imap_unordered(tasks.square, values, 4)) == squares
            and pool.apply(tasks.square, (number,)) == number * number
        )

    with ThreadPoolExecutor(10) as threads:
        assert all(threads.map(work, range(10)))


@pytest.mark.parametrize("function", [tasks.nested_sum, tasks.nested_unordered_sum])
def test_a_pool_inside_of_a_task(pool: Pool, function: Any) -> None:
    assert pool.map(function, [10, 20, 30, 40], 1) == [285, 2470, 8555, 20540]


def test_trouble_with_what_has_come_is_the_outcome(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fight(*_: object) -> None:
        raise KeyError("fights back")

    monkeypatch.setattr("scalepool.multiprocessing.feeding.MapJob._store", fight)
    with pytest.raises(KeyError, match="fights back"):
        pool.map(tasks.square, range(100))
    monkeypatch.undo()
    assert pool.map(tasks.square, [3]) == [9]
