"""Long-lived workers: they keep nothing of a task, and one that has grown is replaced without a word."""

from __future__ import annotations

import gc
import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from live.helpers import Ledger, run, wait_for, write_line
from scalepool._base.memory import private_bytes
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.live

_hoard: list[bytes] = []


def hoard(megabytes: int) -> int:
    """Leak in the worker, as a user's cache does."""
    _hoard.append(os.urandom(1 << 20) * megabytes)
    return os.getpid()


def pid_of(_item: object = None) -> int:
    return os.getpid()


@pytest.mark.parametrize("make", [Pool, ProcessPoolExecutor])
def test_a_worker_that_has_grown_is_replaced(make: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    with make(1, max_worker_rss="150MB") as pool:
        first = next(iter(pool.map(hoard, [200])))
        wait_for(lambda: next(iter(pool.map(pid_of, [0]))) != first)
        pids = {pid for _ in range(20) for pid in pool.map(pid_of, range(5))}
        assert first not in pids
        assert len(pids) == 1

    assert capfd.readouterr() == ("", "")


def test_one_that_stays_small_stays() -> None:
    with Pool(1, max_worker_rss="10GB") as pool:
        pids = set()
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            pids |= set(pool.map(hoard, [1] * 2))
        assert len(pids) == 1


def test_no_result_is_lost_while_workers_come_and_go() -> None:
    limit = private_bytes() + (64 << 20)
    with Pool(2, max_worker_rss=limit) as pool:
        pids = pool.map(hoard, [10] * 60, 1)

        assert len(pids) == 60
        assert pool.map(abs, range(1000)) == list(range(1000))


def test_the_setting_counts_for_shared_workers(tmp_path: Path) -> None:
    source = """
    import os
    from live.helpers import wait_for
    from live.test_recycling_live import hoard, pid_of
    from scalepool.multiprocessing import Pool
    with Pool(1) as pool:
        first = pool.apply(hoard, (200,))
        wait_for(lambda: pool.apply(pid_of) != first)
        print("replaced")
    """
    assert run(tmp_path, source, environ={"SCALEPOOL_MAX_WORKER_RSS": "150MB"}) == "replaced\n"


@pytest.mark.parametrize("make", [Pool, ProcessPoolExecutor])
@pytest.mark.parametrize(("limit", "error"), [("much", ValueError), (0, ValueError), (1.5, TypeError)])
def test_what_is_no_size_is_refused(make: Callable[..., Any], limit: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_worker_rss must be"):
        make(1, max_worker_rss=limit)


# ---- nothing is kept ----


class Witness:
    """Writes a line when it is gone."""

    def __init__(self, path: str, name: str, size_bytes: int = 0) -> None:
        self.path = path
        self.name = name
        self.ballast = bytearray(size_bytes)
        self.watch()

    def watch(self) -> None:
        weakref.finalize(self, write_line, self.path, f"{self.name}-{os.getpid()}").atexit = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.watch()


class Failure(Exception):
    def __init__(self, witness: Witness) -> None:
        super().__init__("fails")
        self.witness = witness


def take(*witnesses: Witness, **named: Witness) -> int:
    return os.getpid()


def give(path: str, size_bytes: int) -> tuple[int, Witness]:
    return os.getpid(), Witness(path, "result", size_bytes)


def fail(path: str, witness: Witness) -> None:
    _frame = Witness(path, "frame")
    write_line(path, f"pid={os.getpid()}")
    raise Failure(Witness(path, "exception"))


def wait_until_gone(ledger: Ledger, *lines: str) -> None:
    gc.collect()
    wait_for(lambda: set(lines) <= set(ledger.lines()))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "gone")


@pytest.mark.parametrize("size_bytes", [0, 1 << 20])
def test_a_worker_keeps_no_arguments(ledger: Ledger, size_bytes: int) -> None:
    with Pool(1) as pool:
        worker = pool.apply(take, (Witness(ledger.path, "one", size_bytes),), {"two": Witness(ledger.path, "two")})
        wait_until_gone(ledger, f"one-{worker}", f"two-{worker}")
        pool.map(take, [Witness(ledger.path, "three", size_bytes)])
        list(pool.imap(take, [Witness(ledger.path, "four", size_bytes)]))
        wait_until_gone(ledger, f"three-{worker}", f"four-{worker}")


@pytest.mark.parametrize("size_bytes", [0, 1 << 20])
def test_neither_end_keeps_a_result(ledger: Ledger, size_bytes: int) -> None:
    me = os.getpid()
    with Pool(1) as pool, ProcessPoolExecutor(1) as executor:
        calls: list[Callable[[], Any]] = [
            lambda: pool.apply(give, (ledger.path, size_bytes)),
            lambda: pool.starmap(give, [(ledger.path, size_bytes)])[0],
            lambda: pool.apply_async(give, (ledger.path, size_bytes), callback=lambda _: None).get(60),
            lambda: next(pool.imap(abs_give, [(ledger.path, size_bytes)])),
            lambda: executor.submit(give, ledger.path, size_bytes).result(60),
            lambda: next(iter(executor.map(give, [ledger.path], [size_bytes]))),
        ]
        for number, call in enumerate(calls, 1):
            worker, result = call()
            assert ledger.counts()[f"result-{me}"] == number - 1
            del result
            wait_until_gone(ledger, f"result-{worker}")
            wait_for(lambda number=number: ledger.counts()[f"result-{me}"] == number)


def abs_give(arguments: tuple[str, int]) -> tuple[int, Witness]:
    return give(*arguments)


def test_neither_end_keeps_an_error_or_its_frames(ledger: Ledger) -> None:
    me = os.getpid()
    with Pool(1) as pool:
        for call in (
            lambda: pool.apply(fail, (ledger.path, Witness(ledger.path, "argument"))),
            lambda: pool.starmap(fail, [(ledger.path, Witness(ledger.path, "argument"))]),
        ):
            before = ledger.counts()
            with pytest.raises(Failure) as caught:
                call()
            del caught
            (worker,) = {line[4:] for line in ledger.lines() if line.startswith("pid=")}
            gc.collect()
            for line in (f"argument-{worker}", f"frame-{worker}", f"exception-{worker}", f"exception-{me}"):
                wait_for(lambda line=line, before=before: ledger.counts()[line] > before[line])


def test_a_small_closure_goes_some_seconds_later_and_can_be_called_again(ledger: Ledger) -> None:
    witness = Witness(ledger.path, "closure")

    def call(_item: int) -> int:
        assert witness
        return os.getpid()

    with Pool(1) as pool:
        (worker,) = set(pool.map(call, range(3)))
        wait_until_gone(ledger, f"closure-{worker}")
        assert set(pool.map(call, range(3))) == {worker}


def test_of_many_functions_only_the_latest_stay_loaded(ledger: Ledger) -> None:
    with Pool(1) as pool:
        worker = pool.apply(partial(take, Witness(ledger.path, "partial")))
        for number in range(40):
            pool.apply(partial(abs, number))
        assert f"partial-{worker}" in ledger.lines()


def test_a_large_closure_goes_with_its_map(ledger: Ledger) -> None:
    witness = Witness(ledger.path, "closure", 1 << 20)

    def call(_item: int) -> int:
        assert witness
        return os.getpid()

    with Pool(1) as pool:
        (worker,) = set(pool.map(call, range(3)))
        wait_until_gone(ledger, f"closure-{worker}")
