"""Initializers that use scalepool themselves, and wait for that: it works, within their time limit, and may fail."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live.helpers import is_running, wait_for
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import InitializerError
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

made: list[Any] = []


class Counter:
    def count(self) -> int:
        return 5


def add(first: int, second: int) -> int:
    return first + second


def gets_a_task(_: Any) -> None:
    made.append(scalepool.get(scalepool.remote(add).remote(2, 3)))


def gets_a_reference(refs: Any) -> None:
    made.append(scalepool.get(refs[0]))


def asks_an_actor(_: Any) -> None:
    made.append(scalepool.get(scalepool.remote(Counter).remote().count.remote()))


def maps_in_a_pool(_: Any) -> None:
    with Pool(2) as pool:
        made.append(sum(pool.starmap(add, [(1, 1), (1, 2)])))


def submits_to_an_executor(_: Any) -> None:
    with ProcessPoolExecutor(1) as executor:
        made.append(executor.submit(add, 2, 3).result())


def puts(_: Any) -> None:
    made.append(len(scalepool.get(scalepool.put(b"12345" * 200_000))) // 200_000)


def read(_: int) -> list[Any]:
    return made


@pytest.mark.parametrize(
    "initializer", [gets_a_task, gets_a_reference, asks_an_actor, maps_in_a_pool, submits_to_an_executor, puts]
)
def test_what_it_waits_for_is_there_before_the_first_task(initializer: Callable[[Any], None]) -> None:
    ref = scalepool.put(5)
    with Pool(2, initializer=initializer, initargs=([ref],)) as pool:
        assert pool.map(read, range(6), chunksize=1) == [[5]] * 6


def waits_for_ever(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    scalepool.get(scalepool.remote(time.sleep).remote(600))


def test_it_may_take_no_longer_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with (
        Pool(1, initializer=waits_for_ever, initargs=(str(path),), initializer_timeout=3.0) as pool,
        pytest.raises(InitializerError, match="3"),
    ):
        pool.apply(add, (1, 1))
    wait_for(lambda: not is_running(int(path.read_text())))


def waits_and_fails() -> None:
    raise ValueError(scalepool.get(scalepool.remote(add).remote(2, 3)))


def test_what_it_raises_after_a_wait_is_the_cause() -> None:
    with Pool(2, initializer=waits_and_fails) as pool, pytest.raises(InitializerError) as caught:
        pool.apply(add, (1, 1))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__cause__.args == (5,)


def waits_and_dies_once(path: str) -> None:
    value = scalepool.get(scalepool.remote(add).remote(2, 3))
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(value)


def test_a_worker_that_dies_there_is_replaced(tmp_path: Path) -> None:
    with Pool(1, initializer=waits_and_dies_once, initargs=(str(tmp_path / "once"),)) as pool:
        assert pool.apply(read, (0,)) == [5]
