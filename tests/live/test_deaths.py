"""A worker dies: that task fails, its neighbours run exactly once, and the next call works."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import is_running, wait_for
from scalepool.api import WorkerGroup, wait
from scalepool.errors import InitializerError, WorkerDiedError

if TYPE_CHECKING:
    from live.helpers import Ledger

pytestmark = pytest.mark.live

MANNERS = {"kill": -signal.SIGKILL, "segfault": -signal.SIGSEGV, "abort": -signal.SIGABRT, "exit": 3}


@pytest.mark.parametrize("at", [0, 50, 99])
@pytest.mark.parametrize("manner", MANNERS)
def test_one_of_a_hundred_kills_its_worker(group: WorkerGroup, ledger: Ledger, manner: str, at: int) -> None:
    futures = [
        group.submit(tasks.log_and_die, (ledger.path, number, manner))
        if number == at
        else group.submit(tasks.log, (ledger.path, number))
        for number in range(100)
    ]

    with pytest.raises(WorkerDiedError, match="log_and_die") as caught:
        futures[at].result(60)

    assert caught.value.exitcode == MANNERS[manner]
    assert caught.value.pid != os.getpid()
    assert [future.result(60) for number, future in enumerate(futures) if number != at] == [
        number for number in range(100) if number != at
    ]
    assert ledger.counts() == {str(number): 1 for number in range(100)}
    assert group.submit(tasks.square, (7,)).result(60) == 49


def test_sys_exit_is_the_tasks_error_and_ends_nobody(group: WorkerGroup, ledger: Ledger) -> None:
    futures = [group.submit(tasks.log, (ledger.path, number)) for number in range(50)]
    leaving = group.submit(tasks.log_and_die, (ledger.path, 50, "sys.exit"))
    futures += [group.submit(tasks.log, (ledger.path, number)) for number in range(51, 100)]

    with pytest.raises(SystemExit) as caught:
        leaving.result(60)

    assert caught.value.code == 4
    assert sum(future.result(60) for future in futures) == sum(range(100)) - 50
    assert ledger.counts() == {str(number): 1 for number in range(100)}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), StopIteration(3), BrokenPipeError()])
def test_whatever_a_task_raises_is_its_own_error_only(group: WorkerGroup, error: BaseException) -> None:
    pids = {group.submit(tasks.pid).result(60) for _ in range(10)}
    raising = group.submit(tasks.raise_it, (error,))

    assert type(raising.exception(60)) is type(error)
    assert all(map(is_running, pids))


def test_results_that_were_finished_survive_the_death_of_their_worker(ledger: Ledger) -> None:
    # One worker gets all of it in one message, so none of the first forty results has been sent when it dies.
    group = WorkerGroup(1)
    futures = [group.submit(tasks.log, (ledger.path, number)) for number in range(40)]
    dying = group.submit(tasks.log_and_die, (ledger.path, 40, "kill"))

    assert [future.result(60) for future in futures] == list(range(40))
    assert isinstance(dying.exception(60), WorkerDiedError)
    assert ledger.counts() == {str(number): 1 for number in range(41)}
    group.terminate()


def test_every_task_may_kill_its_worker(group: WorkerGroup) -> None:
    futures = [group.submit(tasks.die, ("exit",)) for _ in range(10)]
    wait(futures, 60)

    assert [type(future.exception(0)) for future in futures] == [WorkerDiedError] * 10
    assert group.submit(tasks.square, (3,)).result(60) == 9


def test_workers_killed_from_outside_while_idle_are_replaced(group: WorkerGroup) -> None:
    group.start()
    before = {worker.pid for worker in group.workers()}
    for worker in group.workers():
        os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_running, before)))

    assert [group.submit(tasks.square, (number,)).result(60) for number in range(20)] == [n * n for n in range(20)]


def test_a_worker_killed_from_outside_takes_only_what_it_ran(
    group: WorkerGroup, ledger: Ledger, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    touched = tmp_path / "touched"
    victims = [group.submit(tasks.touch_and_wait, (str(touched), str(go))) for _ in range(2)]
    queued = [group.submit(tasks.log, (ledger.path, number)) for number in range(100)]
    pids = wait_for(lambda: len(found := touched.read_text().split()) == 2 and found if touched.exists() else None)

    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)

    assert [type(future.exception(60)) for future in victims] == [WorkerDiedError] * 2
    assert {victim.exception(0).pid for victim in victims} == {int(pid) for pid in pids}
    assert [future.result(60) for future in queued] == list(range(100))
    assert ledger.counts() == {str(number): 1 for number in range(100)}


def test_the_children_of_a_worker_that_died_die_with_it(group: WorkerGroup) -> None:
    child = group.submit(tasks.child_process).result(60)
    assert is_running(child)

    wait_for(
        lambda: isinstance(group.submit(tasks.die, ("kill",)).exception(60), WorkerDiedError) and not is_running(child)
    )


def test_a_failing_initializer_fails_the_calls_without_a_storm_of_workers(ledger: Ledger) -> None:
    group = WorkerGroup(2, initializer=tasks.refuse, initargs=(ledger.path,))
    futures = [group.submit(tasks.square, (number,)) for number in range(100)]

    for future in futures:
        error = future.exception(60)
        assert isinstance(error, InitializerError), error
        assert "no model here" in str(error)
        assert isinstance(error.__cause__, LookupError)
    assert isinstance(group.submit(tasks.square, (1,)).exception(60), InitializerError)
    group.close()
    assert group.join(60)
    assert 1 <= len(ledger.lines()) <= 4


def test_an_initializer_that_kills_its_worker_fails_the_calls(
    ledger: Ledger, capfd: pytest.CaptureFixture[str]
) -> None:
    group = WorkerGroup(2, initializer=tasks.log_and_die, initargs=(ledger.path, 1, "exit"))
    future = group.submit(tasks.square, (1,))

    assert isinstance(future.exception(60), WorkerDiedError)
    assert 1 <= len(ledger.lines()) <= 10
    assert "exit code 3" in capfd.readouterr().err
    group.terminate()
    assert group.join(60)


def test_a_task_that_fails_leaves_its_worker_in_place(group: WorkerGroup) -> None:
    group.start()
    before = {worker.pid for worker in group.workers()}
    for _ in range(20):
        assert isinstance(group.submit(tasks.fail, ("x",)).exception(60), ValueError)
    assert {worker.pid for worker in group.workers()} == before
