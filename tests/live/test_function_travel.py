"""A function travels once to each worker, and is put together there once, however many calls there are."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import joblib
import pytest

import scalepool
from live.helpers import Ledger, write_line
from scalepool._core import outbox
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.live

WORKERS = 2
CALLS = 60
BOUND = max(WORKERS, scalepool.cpu_count())  # as many as remote functions have


class Table:
    """Something in a closure that tells whenever it is loaded."""

    def __init__(self, path: str, rows: dict[int, str]) -> None:
        self.path = path
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.path, self.rows)


def load(path: str, rows: dict[int, str]) -> Table:
    write_line(path, os.getpid())
    return Table(path, rows)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often the hub has sent each function to a worker."""
    counts: Counter[int] = Counter()
    run = outbox.Run

    def counting(**columns: Any) -> Any:
        counts.update(columns["functions"])
        return run(**columns)

    monkeypatch.setattr(outbox, "Run", counting)
    return counts


def maps(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with Pool(WORKERS) as pool:
        yield pool.map(look_up, range(CALLS), 1)
        yield pool.map(look_up, range(CALLS), 1)


def unordered(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with Pool(WORKERS) as pool:
        for _ in range(2):
            yield sorted(pool.imap_unordered(look_up, range(CALLS)), key=lambda row: int(row.split()[1]))


def applies(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with Pool(WORKERS) as pool:
        yield [result.get() for result in [pool.apply_async(look_up, (n,)) for n in range(CALLS)]]
        yield [pool.apply(look_up, (n,)) for n in range(CALLS)]


def executor_maps(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with ProcessPoolExecutor(WORKERS) as executor:
        yield list(executor.map(look_up, range(CALLS)))
        yield list(executor.map(look_up, range(CALLS), chunksize=7))


def submits(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with ProcessPoolExecutor(WORKERS) as executor:
        yield [future.result() for future in [executor.submit(look_up, n) for n in range(CALLS)]]
        yield [executor.submit(look_up, n).result() for n in range(CALLS)]


def remotes(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    remote = scalepool.remote(look_up)
    yield scalepool.get([remote.remote(n) for n in range(CALLS)])
    yield [scalepool.get(remote.remote(n)) for n in range(CALLS)]


def parallels(look_up: Callable[[int], str]) -> Iterator[list[str]]:
    with joblib.Parallel(WORKERS, backend="scalepool", batch_size=1) as parallel:
        yield parallel(joblib.delayed(look_up)(n) for n in range(CALLS))
    yield joblib.Parallel(WORKERS, backend="scalepool")(joblib.delayed(look_up)(n) for n in range(CALLS))


@pytest.mark.parametrize("rows", [100, 20_000], ids=["small", "large"])
@pytest.mark.parametrize("way", [maps, unordered, applies, executor_maps, submits, remotes, parallels])
def test_a_function_is_sent_and_loaded_once_per_worker(
    ledger: Ledger, sent: Counter[int], way: Callable[[Callable[[int], str]], Iterator[list[str]]], rows: int
) -> None:
    table = Table(ledger.path, {n: f"row {n}" for n in range(rows)})

    def look_up(n: int) -> str:
        return table.rows[n]

    calls = way(look_up)
    assert next(calls) == [f"row {n}" for n in range(CALLS)]
    assert set(sent.values()) <= set(range(BOUND + 1))
    assert set(ledger.counts().values()) == {1}

    table.rows.update((n, f"new {n}") for n in range(CALLS))  # the same object: only its pickle tells
    before = set(sent)
    assert next(calls) == [f"new {n}" for n in range(CALLS)]
    assert set(sent) > before
    assert set(sent.values()) <= set(range(BOUND + 1))
    assert set(ledger.counts().values()) <= {1, 2}


def test_one_that_changed_back_is_the_old_one_again(ledger: Ledger, sent: Counter[int]) -> None:
    table = Table(ledger.path, {n: f"row {n}" for n in range(20_000)})

    def at(n: int) -> str:
        return table.rows[n]

    with Pool(1) as pool:
        for value in ("one", "two", "one"):
            table.rows[7] = value
            assert [pool.apply(at, (7,)) for _ in range(5)] == [value] * 5
    assert set(sent.values()) == {1}
    assert len(ledger.lines()) <= 3
