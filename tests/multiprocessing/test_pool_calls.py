"""``apply``, ``apply_async`` and what they return."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pool_tasks as tasks
import pytest

from scalepool.errors import SerializationError, WorkerDiedError
from scalepool.multiprocessing import Pool
from scalepool.multiprocessing.pool import MaybeEncodingError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def test_apply_takes_arguments_and_keywords(pool: Pool) -> None:
    assert pool.apply(tasks.power, (2, 5)) == 32
    assert pool.apply(tasks.power, [2], {"exponent": 3}) == 8
    assert pool.apply(func=tasks.keywords, kwds={"a": 1}) == {"a": 1}


def test_what_cannot_be_unpacked_is_the_tasks_error(pool: Pool) -> None:
    result = pool.apply_async(tasks.square, 5)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="after \\* must be an iterable"):
        result.get()


def test_what_is_not_callable_is_the_tasks_error(pool: Pool) -> None:
    result = pool.apply_async(5)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="not callable"):
        result.get()


def test_the_exception_is_the_users_own_with_the_remote_traceback(pool: Pool) -> None:
    with pytest.raises(tasks.TwoArguments) as caught:
        pool.apply(tasks.raise_two_arguments, (1,))

    assert caught.value.second == "second"
    assert type(caught.value.__cause__).__module__ == "multiprocessing.pool"
    assert "in raise_two_arguments" in str(caught.value.__cause__)


def test_an_exception_may_be_a_result(pool: Pool) -> None:
    assert repr(pool.apply(tasks.return_an_exception, (3,))) == "ValueError(3)"


@pytest.mark.parametrize(
    ("function", "kind"), [(tasks.exit_at_three, SystemExit), (tasks.interrupt, KeyboardInterrupt)]
)
def test_ending_the_process_politely_is_the_tasks_error(pool: Pool, function: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        pool.apply(function, (3,))
    assert pool.apply(tasks.square, (3,)) == 9


def test_a_killed_worker_costs_one_call(pool: Pool) -> None:
    results = [pool.apply_async(tasks.kill_at_three, (value,)) for value in range(20)]

    with pytest.raises(WorkerDiedError, match="SIGKILL while it ran kill_at_three"):
        results[3].get(10)
    assert [result.get(10) for result in results if result is not results[3]] == [0, 1, 2, *range(4, 20)]


def test_get_times_out_with_the_originals_error(pool: Pool, tmp_path: Path) -> None:
    result = pool.apply_async(tasks.wait_for_file, (str(tmp_path / "go"),))

    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    result.wait(timeout=0.01)
    tasks.touch(str(tmp_path / "go"))
    assert result.get(10) == str(tmp_path / "go")
    assert result.successful()


def test_a_timeout_error_of_the_task_is_the_tasks(pool: Pool) -> None:
    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        pool.apply(fail)


def test_one_callback_per_call_before_the_result_is_ready(pool: Pool) -> None:
    values: list[Any] = []
    errors: list[Any] = []
    results = [
        pool.apply_async(tasks.reciprocal, (value,), callback=values.append, error_callback=errors.append)
        for value in (0, 1, 2, 4)
    ]
    for result in results:
        result.wait(10)

    assert [result.successful() for result in results] == [False, True, True, True]
    assert sorted(values) == [0.25, 0.5, 1.0]
    assert [type(error) for error in errors] == [ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):
        results[0].get()


def test_a_slow_callback_does_not_stop_dispatch(pool: Pool) -> None:
    go_on = threading.Event()
    slow = pool.apply_async(tasks.square, (2,), callback=lambda value: go_on.wait(10))

    assert pool.map(tasks.square, range(50)) == [value * value for value in range(50)]
    assert not slow.ready()
    go_on.set()
    assert slow.get(10) == 4


def test_a_callback_may_use_the_pool(pool: Pool) -> None:
    found: list[int] = []
    pool.apply_async(tasks.square, (3,), callback=lambda value: found.append(pool.apply(tasks.square, (value,)))).wait(
        10
    )

    assert found == [81]


def test_arguments_that_do_not_pickle_fail_on_that_call_and_name_the_culprit(pool: Pool) -> None:
    result = pool.apply_async(tasks.square, (threading.Lock(),))

    with pytest.raises(TypeError, match=r"\[0\].*_thread.lock") as caught:
        result.get()
    assert isinstance(caught.value, SerializationError)


def test_the_error_of_reduce_is_raised_as_it_is(pool: Pool) -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise LookupError("cannot pickle")

    result = pool.apply_async(tasks.square, (Refuses(),))

    for _ in range(2):
        with pytest.raises(LookupError, match="cannot pickle") as caught:
            result.get()
        assert isinstance(caught.value.__cause__, SerializationError)


def test_a_result_that_does_not_pickle_is_a_maybe_encoding_error(pool: Pool) -> None:
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply(tasks.make_a_lock, (0,))

    assert "cannot pickle" in caught.value.exc
    assert "_thread.lock" in caught.value.value
    assert type(caught.value).__module__ == "multiprocessing.pool"


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_a_result_outlives_its_pool() -> None:
    result = Pool(2).apply_async(tasks.square, (7,))
    gc.collect()

    assert result.get(10) == 49
