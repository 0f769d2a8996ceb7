"""Each driver does what its operations promise. Those of libraries that are not installed are skipped."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import pytest

from scalepool.bench.candidates import missing
from scalepool.bench.drivers import load
from scalepool.bench.tasks import add_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool.bench.drivers import Driver

POOLS = ["scalepool", "scalepool.Executor", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "mpire"]

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> Iterator[Driver]:
    if missing(request.param) is not None:
        pytest.skip(f"{request.param} is not installed")
    with load(request.param)(2) as driver:
        driver.warm_up("singles")
        yield driver


def test_a_call(pool: Driver) -> None:
    assert pool.call(operator.add, 1, 2) == 3


def test_submitted_calls_are_collected_in_order(pool: Driver) -> None:
    assert pool.collect([pool.submit(operator.add, 1, 2), pool.submit(operator.add, 3, 4)]) == [3, 7]
    assert pool.each(operator.add, [(1, 2), (3, 4)]) == pool.starmap(operator.add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.singles(add_one, range(20)) == list(range(1, 21))


def test_maps(pool: Driver) -> None:
    assert pool.map(add_one, range(20)) == list(range(1, 21))
    assert list(pool.stream(add_one, iter(range(20)))) == list(range(1, 21))


def test_unordered_maps(pool: Driver) -> None:
    if type(pool).__name__ == "MpireDriver":
        pytest.skip("mpire mixes up ordered and unordered maps of one pool; no run of a benchmark does both")
    assert sorted(pool.unordered(add_one, range(20))) == list(range(1, 21))


def test_joblib_maps() -> None:
    with load("joblib")(2) as driver:
        driver.warm_up("singles")
        assert driver.map(add_one, range(20)) == list(range(1, 21))
        assert driver.each(operator.add, [(1, 2), (3, 4)]) == [3, 7]
        assert list(driver.stream(add_one, range(20))) == list(range(1, 21))


def test_serial_does_the_same_without_workers() -> None:
    with load("serial")(2) as driver:
        driver.warm_up("map")
        assert driver.call(add_one, 1) == 2
        assert driver.map(add_one, [1, 2]) == list(driver.unordered(add_one, [1, 2])) == [2, 3]
        assert list(driver.stream(add_one, iter([1, 2]))) == [2, 3]
