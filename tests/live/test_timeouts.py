"""A task that takes too long is stopped, alone; so is one that is cancelled by force. Nobody else notices."""

from __future__ import annotations

import os
import pickle
import signal
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import is_running, wait_for
from scalepool import api
from scalepool.api import WorkerGroup
from scalepool.errors import InitializerError, TaskTimeoutError

if TYPE_CHECKING:
    from pathlib import Path

    from live.helpers import Ledger

pytestmark = pytest.mark.live

STUCK = ["sleep", "spin", "ignore SIGTERM", "stop"]
"""Ways not to come back. The last one stops the whole process, as a debugger does."""


@pytest.mark.parametrize("manner", STUCK)
def test_a_task_that_takes_too_long_fails_alone(group: WorkerGroup, ledger: Ledger, manner: str) -> None:
    terms = group.terms(task_timeout_s=0.5)
    before = [group.submit(tasks.log, (ledger.path, number)) for number in range(50)]
    stuck = group.submit(tasks.get_stuck, (manner,), terms=terms)
    after = [group.submit(tasks.log, (ledger.path, number)) for number in range(50, 100)]

    began_s = time.monotonic()
    error = stuck.exception(60)
    assert isinstance(error, TaskTimeoutError), error
    assert isinstance(error, TimeoutError)
    assert time.monotonic() - began_s >= 0.5
    assert error.task == "get_stuck"
    assert error.timeout_s == 0.5
    assert error.arguments == f"({manner!r})"
    assert "longer than 0.5 s" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert [future.result(60) for future in before + after] == list(range(100))
    assert ledger.counts() == {str(number): 1 for number in range(100)}
    wait_for(lambda: not is_running(error.pid))


def test_the_limit_counts_from_the_start_and_not_from_the_submit() -> None:
    group = WorkerGroup(1, task_timeout_s=1.0)
    futures = [group.submit(time.sleep, (0.2,)) for _ in range(10)]
    assert [future.result(60) for future in futures] == [None] * 10
    group.terminate()
    assert group.join(60)


def test_cancel_does_not_stop_what_runs_and_force_does(group: WorkerGroup, ledger: Ledger, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    running = group.submit(tasks.touch_and_wait, (str(touched), str(tmp_path / "never")))
    pid = int(wait_for(lambda: touched.read_text() if touched.exists() else ""))
    others = [group.submit(tasks.log, (ledger.path, number)) for number in range(100)]

    assert not running.cancel()
    assert running.cancel(force=True)
    with pytest.raises(CancelledError):
        running.result(60)
    assert not is_running(pid)
    assert [future.result(60) for future in others] == list(range(100))
    assert ledger.counts() == {str(number): 1 for number in range(100)}


@pytest.mark.parametrize("manner", STUCK)
def test_force_stops_whatever_does_not_come_back(group: WorkerGroup, tmp_path: Path, manner: str) -> None:
    touched = tmp_path / "touched"
    stuck = group.submit(tasks.get_stuck, (manner, str(touched)))
    wait_for(touched.exists)
    assert stuck.cancel(force=True)
    assert group.submit(tasks.square, (5,)).result(60) == 25


def test_force_stops_many_at_once_started_or_not(group: WorkerGroup, tmp_path: Path, ledger: Ledger) -> None:
    touched = tmp_path / "touched"
    running = [group.submit(tasks.touch_and_wait, (str(touched), str(tmp_path / "never"))) for _ in range(2)]
    wait_for(lambda: touched.exists() and len(touched.read_text().split()) == 2)
    queued = [group.submit(tasks.log, (ledger.path, number)) for number in range(50)]

    assert api.cancel([*running, *queued], force=True) == 52
    assert ledger.lines() == []
    assert group.submit(tasks.square, (5,)).result(60) == 25


def test_a_task_may_tidy_up_before_it_is_stopped(group: WorkerGroup, tmp_path: Path) -> None:
    touched, tidied = tmp_path / "touched", tmp_path / "tidied"
    future = group.submit(tasks.tidy_up_on_sigterm, (str(touched), str(tidied)))
    wait_for(touched.exists)
    assert future.cancel(force=True)
    wait_for(tidied.exists)


def test_an_initializer_that_hangs_fails_the_calls_in_time(ledger: Ledger) -> None:
    group = WorkerGroup(2, initializer=tasks.log_and_hang, initargs=(ledger.path,), initializer_timeout_s=0.5)
    futures = [group.submit(tasks.square, (number,)) for number in range(10)]
    for future in futures:
        error = future.exception(60)
        assert isinstance(error, InitializerError), error
        assert "initializer_timeout=0.5" in str(error)
    group.close()
    assert group.join(60)
    assert 1 <= len(ledger.lines()) <= 2
    assert not any(is_running(int(pid)) for pid in ledger.lines())


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_what_is_no_time_is_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="task_timeout"):
        WorkerGroup(1, task_timeout_s=value)  # type: ignore[arg-type]
    with pytest.raises(error, match="initializer_timeout"):
        WorkerGroup(1, initializer_timeout_s=value)  # type: ignore[arg-type]


def test_a_stopped_worker_that_goes_on_is_unharmed(group: WorkerGroup) -> None:
    pid = group.submit(tasks.pid).result(60)
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)
    assert [group.submit(tasks.square, (number,)).result(60) for number in range(20)] == [n * n for n in range(20)]
