"""Executor.map: order, laziness, errors at their turn, and what becomes of inputs that nobody waits for."""

from __future__ import annotations

import gc
import itertools
import operator
import os
import threading
import time
import weakref
from concurrent.futures import TimeoutError as FuturesTimeoutError
from typing import TYPE_CHECKING, Any

import pytest

from scalepool.concurrent.futures import CancelledError, ProcessPoolExecutor
from scalepool.concurrent.futures._feeder import SNAPSHOT_ITEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scalepool.concurrent.futures.process import ProcessPoolExecutor as Executor

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ProcessPoolExecutor(2) as made:
        yield made


class Counted:
    """An endless input that knows how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.read += 1
            yield self.read


class Made:
    pass


def make(_: int) -> Made:
    return Made()


def note(folder: str, item: int) -> None:
    os.close(os.open(f"{folder}/{item}", os.O_CREAT))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scalepool-map-feeder"]


@pytest.mark.parametrize("chunksize", [1, 3, 50, 1000])
def test_results_come_in_input_order(executor: Executor, chunksize: int) -> None:
    assert list(executor.map(pow, range(100), range(100), chunksize=chunksize)) == [n**n for n in range(100)]


def test_the_shortest_input_decides(executor: Executor) -> None:
    assert list(executor.map(operator.add, [1, 2, 3], itertools.count())) == [1, 3, 5]
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(abs)) == []


@pytest.mark.parametrize("items", [5_000, SNAPSHOT_ITEMS + 5_000])
def test_long_inputs_arrive_whole(executor: Executor, items: int) -> None:
    assert list(executor.map(abs, range(items))) == list(range(items))
    assert list(executor.map(abs, iter(range(items)))) == list(range(items))


def test_a_huge_input_is_not_listed(executor: Executor) -> None:
    results = executor.map(abs, range(10**12))
    assert list(itertools.islice(results, 3)) == [0, 1, 2]


def test_an_endless_input_is_read_a_window_ahead_and_no_more(executor: Executor) -> None:
    source = Counted()
    results = executor.map(abs, source)
    assert list(itertools.islice(results, 10)) == list(range(1, 11))
    assert source.read <= 10 + 2 * 4 * 256  # workers, chunks ahead, largest chunk
    results.close()  # type: ignore[attr-defined]
    wait_until(lambda: not feeders())
    read = source.read
    assert executor.submit(abs, -1).result() == 1
    assert source.read == read


def test_dropping_a_half_read_iterator_stops_reading(executor: Executor) -> None:
    source = Counted()
    for _ in executor.map(abs, source):
        break
    wait_until(lambda: not feeders())
    assert source.read >= 1


@pytest.mark.parametrize("chunksize", [1, 2])
def test_buffersize_is_exact(executor: Executor, chunksize: int) -> None:
    source = Counted()
    results = executor.map(abs, source, buffersize=3, chunksize=chunksize)
    assert source.read == 3 * chunksize
    assert next(results) == 1
    assert source.read == 4 * chunksize
    assert list(itertools.islice(results, 20)) == list(range(2, 22))


def test_buffersize_reads_to_the_end(executor: Executor) -> None:
    assert list(executor.map(abs, range(20), buffersize=3)) == list(range(20))
    assert list(executor.map(abs, iter(range(20)), buffersize=100, chunksize=3)) == list(range(20))


def test_a_failure_is_raised_at_its_turn_and_ends_the_iterator(executor: Executor) -> None:
    results = executor.map(divmod, [1, 2, 3, 4], [1, 1, 0, 1], chunksize=3)
    assert [next(results), next(results)] == [(1, 0), (2, 0)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "divmod" in str(caught.value.__cause__) or "ZeroDivisionError" in str(caught.value.__cause__)
    assert list(results) == []


def test_an_input_that_does_not_pickle_fails_alone(executor: Executor) -> None:
    results = executor.map(str, [1, 2, 3, threading.Lock(), 4])
    assert [next(results), next(results), next(results)] == ["1", "2", "3"]
    with pytest.raises(TypeError, match="lock"):
        next(results)


def test_what_the_inputs_raise_at_once_is_raised_by_map(executor: Executor) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        executor.map(abs, broken())


def test_what_the_inputs_raise_later_is_raised_at_its_turn(executor: Executor) -> None:
    def broken() -> Iterator[int]:
        yield from range(500)
        raise LookupError("no more")

    got: list[int] = []
    with pytest.raises(LookupError, match="no more"):
        got.extend(executor.map(abs, broken()))
    assert got == list(range(500))


def test_the_timeout_counts_from_the_call(executor: Executor) -> None:
    results = executor.map(time.sleep, [0, 0, 1.5], timeout=0.3)
    got = [next(results), next(results)]
    with pytest.raises(FuturesTimeoutError):
        next(results)
    assert got == [None, None]


def test_results_are_not_kept(executor: Executor) -> None:
    for made in executor.map(make, range(10)):
        reference = weakref.ref(made)
        del made
        gc.collect()
        assert reference() is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1."),
        ({"chunksize": -1}, ValueError, "chunksize must be >= 1."),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_arguments_are_checked_at_the_call(
    executor: Executor, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        executor.map(abs, [1], **options)


# ---- inputs whose results nobody waits for ----


@pytest.mark.parametrize("is_sized", [True, False])
def test_a_map_for_its_side_effects_runs_to_the_end(is_sized: bool, tmp_path: Path) -> None:
    items = range(300)
    with ProcessPoolExecutor(2) as executor:
        executor.map(note, itertools.repeat(str(tmp_path), 300), items if is_sized else iter(items))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(items)


def test_results_can_be_read_after_shutdown() -> None:
    with ProcessPoolExecutor(2) as executor:
        unread = executor.map(abs, iter(range(2000)))
        begun = executor.map(abs, iter(range(2000)))
        assert next(begun) == 0
    assert list(unread) == list(range(2000))
    assert list(begun) == list(range(1, 2000))


def test_an_iterator_keeps_its_executor() -> None:
    results = ProcessPoolExecutor(2).map(abs, itertools.count())
    gc.collect()
    assert list(itertools.islice(results, 3000)) == list(range(3000))


def test_shutdown_can_cut_a_map_short() -> None:
    executor = ProcessPoolExecutor(2)
    results = executor.map(time.sleep, itertools.repeat(0.01, 10_000))
    next(results)
    executor.shutdown(cancel_futures=True)
    with pytest.raises(CancelledError):
        list(results)


def test_a_buffered_map_ends_with_its_executor() -> None:
    executor = ProcessPoolExecutor(2)
    results = executor.map(abs, itertools.count(), buffersize=2)
    assert next(results) == 0
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)


@pytest.mark.parametrize("begins", [True, False])
def test_a_map_that_is_interrupted_while_its_thread_starts_is_over(
    begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name != "scalepool-map-feeder":
            start(thread)
            return
        if begins:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.map(abs, itertools.count())
        wait_until(lambda: not feeders())
        assert executor.submit(abs, -1).result(60) == 1
