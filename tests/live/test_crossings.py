"""However an object is passed, and in however many calls, its bytes are written once while it stays as it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from live import tasks
from scalepool._runtime.session import current
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

SIDE = 600  # float64: 2.9 MB
BYTES = 2_500_000


class Sub(np.ndarray):
    """Copies itself into its pickle."""


def matrix(seed: int) -> Any:
    return np.random.default_rng(seed).random((SIDE, SIDE))


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(matrix(6))


def sparse() -> Any:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    return scipy_sparse.csr_array(matrix(7))


def arrow() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({"a": matrix(8).ravel()})


OBJECTS: dict[str, Any] = {
    "array": lambda: matrix(1),
    "fortran order": lambda: np.asfortranarray(matrix(2)),
    "columns": lambda: matrix(3)[:, 7:],
    "dates": lambda: np.arange(BYTES // 8).astype("M8[s]"),
    "structured": lambda: np.full(BYTES // 12, 3, "i4,f8"),
    "subclass": lambda: matrix(4).view(Sub),
    "bytes": lambda: matrix(5).tobytes(),
    "bytearray": lambda: bytearray(matrix(9).tobytes()),
    "text": lambda: "\u00e4" * BYTES,
    "data frame": frame,
    "sparse matrix": sparse,
    "arrow table": arrow,
}


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def kind(self, number: int) -> tuple[str, int]:
        return type(self.value).__name__, number


def kind_of(value: Any, number: int = 0, *, other: Any = None) -> tuple[str, int]:
    return type(value if other is None else other).__name__, number


NUMBERS = range(6)
WAYS: dict[str, Any] = {
    "argument": lambda pool, value: pool.starmap(kind_of, [(value, n) for n in NUMBERS], chunksize=1),
    "keyword": lambda pool, value: [
        one.get(60) for one in [pool.apply_async(kind_of, (0, n), {"other": value}) for n in NUMBERS]
    ],
    "partial": lambda pool, value: pool.map(partial(kind_of, value), NUMBERS, chunksize=1),
    "closure": lambda pool, value: pool.map(lambda n: kind_of(value, n), NUMBERS, chunksize=1),
    "bound method": lambda pool, value: pool.map(Holder(value).kind, NUMBERS, chunksize=1),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(2)
    pool.map(tasks.square, range(4))
    yield pool
    pool.terminate()
    pool.join()


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_crosses_once(pool: Pool, name: str) -> None:
    value = OBJECTS[name]()
    store = current().client.store
    before = store.statistics().created
    buffers = 0
    for way, call in WAYS.items():
        assert call(pool, value) == [(type(value).__name__, n) for n in NUMBERS], way
        written = store.statistics().created - before
        buffers = buffers or written
        assert written == buffers, way
    assert 1 <= buffers <= 3
