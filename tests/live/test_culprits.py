"""What cannot travel is named where the user made the mistake: an argument, an item of a map, a part of a result."""

from __future__ import annotations

import pickle
import threading
from functools import partial
from multiprocessing.pool import MaybeEncodingError
from typing import TYPE_CHECKING, Any

import joblib
import pytest

import scalepool
import scalepool.multiprocessing as mp
from scalepool.concurrent import futures
from scalepool.errors import ScalepoolError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.live

BAD = 42
COUNT = 100


class Model:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Unhelpful:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not me")


def first(*args: Any, **_: Any) -> Any:
    return args[0] if args else None


def with_lock(number: int) -> Any:
    return [0, 1, 2, Model()] if number == BAD else number


def add(number: int, other: int) -> int:
    return number + other


def items() -> list[Any]:
    return [{"a": Model()} if number == BAD else number for number in range(COUNT)]


def close_over(value: Any) -> Callable[..., Any]:
    return lambda *_: value


@pytest.fixture
def pool() -> Iterator[Any]:
    with mp.Pool(2) as pool:
        yield pool


@pytest.fixture
def executor() -> Iterator[Any]:
    with futures.ProcessPoolExecutor(2) as executor:
        yield executor


POOL_CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "apply": (lambda pool: pool.apply(first, (1, 2, Model())), "args[2].lock"),
    "apply, a list of arguments": (lambda pool: pool.apply(first, [1, Model()]), "args[1].lock"),
    "apply, by keyword": (lambda pool: pool.apply(first, (), {"model": Model()}), "kwargs['model'].lock"),
    "map": (lambda pool: pool.map(first, items()), "iterable[42]['a'].lock"),
    "map in chunks": (lambda pool: pool.map(first, items(), chunksize=30), "iterable[42]['a'].lock"),
    "map with a seed": (lambda pool: pool.map(first, items(), seed=1), "iterable[42]['a'].lock"),
    "map, at once": (lambda pool: pool.map(first, items(), on_error="raise_now"), "iterable[42]['a'].lock"),
    "starmap": (lambda pool: pool.starmap(first, [(1, 2), (3, Model())]), "iterable[1][1].lock"),
    "imap": (lambda pool: list(pool.imap(first, items())), "iterable[42]['a'].lock"),
    "imap in chunks": (lambda pool: list(pool.imap(first, items(), chunksize=30)), "iterable[42]['a'].lock"),
    "imap with a seed": (lambda pool: list(pool.imap(first, items(), seed=1)), "iterable[42]['a'].lock"),
    "imap_unordered": (lambda pool: list(pool.imap_unordered(first, items())), "iterable[42]['a'].lock"),
    "imap, at once": (lambda pool: list(pool.imap(first, items(), on_error="raise_now")), "iterable[42]['a'].lock"),
    "a closure": (lambda pool: pool.map(close_over(Model()), [1]), "function.<lambda> closure value.lock"),
    "a partial": (lambda pool: pool.map(partial(first, Model()), [1]), "function.args[0].lock"),
    "a partial, seeded": (lambda pool: pool.map(partial(first, Model()), [1], seed=1), "function.args[0].lock"),
    "a partial in imap": (lambda pool: list(pool.imap(partial(first, Model()), [1])), "function.args[0].lock"),
    "initargs": (lambda _: mp.Pool(1, first, (1, Model())), "initargs[1].lock"),
    "an initializer": (lambda _: mp.Pool(1, close_over(Model())), "initializer.<lambda> closure value.lock"),
}  # fmt: skip


@pytest.mark.parametrize("call", POOL_CALLS)
def test_a_pool_names_what_it_cannot_send(pool: Any, call: str) -> None:
    make, path = POOL_CALLS[call]
    with pytest.raises(SerializationError) as caught:
        make(pool)
    assert caught.value.path == path
    assert f"{path}: _thread.lock" in str(caught.value)
    assert pool.map(abs, [-1, -2]) == [1, 2]  # nothing else has suffered


EXECUTOR_CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "submit": (lambda executor: executor.submit(first, 1, Model()).result(), "args[1].lock"),
    "map": (lambda executor: list(executor.map(add, range(COUNT), items())), "iterables[1][42]['a'].lock"),
    "map in chunks": (
        lambda executor: list(executor.map(add, range(COUNT), items(), chunksize=30)),
        "iterables[1][42]['a'].lock",
    ),
    "map with a seed": (
        lambda executor: list(executor.map(add, range(COUNT), items(), seed=1)),
        "iterables[1][42]['a'].lock",
    ),
    "map, buffered": (
        lambda executor: list(executor.map(add, range(COUNT), items(), buffersize=2, chunksize=30)),
        "iterables[1][42]['a'].lock",
    ),
    "initargs": (
        lambda _: futures.ProcessPoolExecutor(1, initializer=first, initargs=(Model(),)).submit(first).result(),
        "initargs[0].lock",
    ),
}


@pytest.mark.parametrize("call", EXECUTOR_CALLS)
def test_an_executor_names_what_it_cannot_send(executor: Any, call: str) -> None:
    # `add` would fail on the dicts before the lock, if they got there.
    make, path = EXECUTOR_CALLS[call]
    with pytest.raises(SerializationError) as caught:
        make(executor)
    assert caught.value.path == path
    assert executor.submit(add, 1, 2).result() == 3


def test_where_the_originals_error_is_on_top_the_path_is_in_its_cause(pool: Any, executor: Any) -> None:
    inputs = [*range(5), Unhelpful()]
    with pytest.raises(pickle.PicklingError) as caught:
        pool.map(first, inputs)
    assert getattr(caught.value.__cause__, "path", "") == "iterable[5]"
    with pytest.raises(pickle.PicklingError) as caught:
        list(executor.map(first, inputs))
    assert getattr(caught.value.__cause__, "path", "") == "iterables[0][5]"


POOL_RESULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "apply": (lambda pool: pool.apply(with_lock, (BAD,)), "result[3].lock"),
    "map": (lambda pool: pool.map(with_lock, range(COUNT)), "result[42][3].lock"),
    "imap": (lambda pool: list(pool.imap(with_lock, range(COUNT))), "result[42][3].lock"),
    "imap in chunks": (lambda pool: list(pool.imap(with_lock, range(COUNT), 30)), "result[42][3].lock"),
}


@pytest.mark.parametrize("call", POOL_RESULTS)
def test_a_pool_names_what_of_a_result_does_not_come_back(pool: Any, call: str) -> None:
    make, path = POOL_RESULTS[call]
    with pytest.raises(MaybeEncodingError) as caught:
        make(pool)
    assert getattr(caught.value, "path", "") == path
    assert f"for {path}: _thread.lock" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda executor: executor.submit(with_lock, BAD).result(), "result[3].lock"),
        (lambda executor: list(executor.map(with_lock, range(COUNT))), "result[42][3].lock"),
        (
            lambda executor: list(executor.map(with_lock, range(COUNT), buffersize=2, chunksize=30)),
            "result[42][3].lock",
        ),
    ],
    ids=["submit", "map", "map, buffered"],
)
def test_an_executor_names_what_of_a_result_does_not_come_back(executor: Any, call: Any, path: str) -> None:
    with pytest.raises(pickle.PicklingError, match="cannot send the result") as caught:
        call(executor)
    assert isinstance(caught.value, ScalepoolError)
    assert getattr(caught.value, "path", "") == path
    assert "with_lock" not in str(caught.value)
    assert caught.value.__cause__ is not None  # the worker's traceback


def test_joblib_names_the_call() -> None:
    with pytest.raises(pickle.PicklingError) as caught:
        joblib.Parallel(2, backend="scalepool")(joblib.delayed(first)(item) for item in items())
    assert getattr(caught.value, "path", "") == "calls[42].args[0]['a'].lock"


def test_tasks_and_values_of_the_public_interface() -> None:
    with pytest.raises(SerializationError) as caught:
        scalepool.get(scalepool.remote(first).remote(1, Model()))
    assert caught.value.path == "args[1].lock"
    with pytest.raises(SerializationError) as caught:
        scalepool.put([1, Model()])
    assert caught.value.path == "value[1].lock"
