"""Cancelling, terminating, recalling, and the bound on what is under way."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import run, wait_for
from scalepool.api import WorkerGroup, wait
from scalepool.errors import TaskCancelledError

if TYPE_CHECKING:
    from live.helpers import Ledger

pytestmark = pytest.mark.live


class Blocked:
    """A group whose only worker is in a task until ``release``."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.go = folder / "go"
        self.touched = folder / "touched"
        self.touched.touch()
        self.group = WorkerGroup(workers, initializer=tasks.remember, initargs=(None,))
        self.blockers = [
            self.group.submit(tasks.touch_and_wait, (str(self.touched), str(self.go))) for _ in range(workers)
        ]
        wait_for(lambda: len(self.touched.read_text().split()) == workers)

    def release(self) -> None:
        self.go.touch()


@pytest.fixture
def blocked(tmp_path: Path) -> Blocked:
    return Blocked(tmp_path)


def test_queued_tasks_are_cancelled(blocked: Blocked, ledger: Ledger) -> None:
    futures = [blocked.group.submit(tasks.log, (ledger.path, number)) for number in range(300)]

    assert all(future.cancel() for future in futures[::2])
    assert all(future.cancelled() and future.done() for future in futures[::2])
    blocked.release()

    assert [future.result(60) for future in futures[1::2]] == list(range(1, 300, 2))
    with pytest.raises(CancelledError):
        futures[0].result(0)
    assert ledger.counts() == {str(number): 1 for number in range(1, 300, 2)}


def test_tasks_that_a_worker_holds_are_cancelled(ledger: Ledger, tmp_path: Path) -> None:
    group = WorkerGroup(1)
    for number in range(200):  # short tasks: the worker is given many at once from now on
        group.submit(tasks.log, (ledger.path, number)).result(60)
    go = tmp_path / "go"
    # The same function for all, so that its short history counts.
    futures = [group.submit(tasks.wait_for_file, (str(go), number)) for number in range(20)]
    wait_for(futures[0].running)

    assert not futures[0].cancel()
    assert futures[0].running()
    assert all(future.cancel() for future in futures[1:])
    go.touch()

    assert futures[0].result(60) == 0
    assert group.submit(tasks.square, (4,)).result(60) == 16
    group.close()


def test_a_task_that_runs_is_not_cancelled_and_says_so(blocked: Blocked) -> None:
    future = blocked.blockers[0]

    assert future.running()
    assert not future.cancel()
    assert not future.cancelled()
    blocked.release()
    assert future.result(60) is None
    assert not future.running()
    assert not future.cancel()


def test_a_cancelled_future_is_cancelled_again_with_success(blocked: Blocked) -> None:
    future = blocked.group.submit(tasks.square, (1,))

    assert future.cancel()
    assert future.cancel()
    blocked.release()


def test_terminate_ends_what_runs_and_what_waits(blocked: Blocked, ledger: Ledger) -> None:
    futures = [blocked.group.submit(tasks.log, (ledger.path, number)) for number in range(50)]

    blocked.group.terminate()

    assert blocked.group.join(60)
    assert {type(future.exception(0)) for future in [*blocked.blockers, *futures]} == {TaskCancelledError}
    assert ledger.lines() == []
    with pytest.raises(RuntimeError):
        blocked.group.submit(tasks.square, (1,))


@pytest.mark.parametrize("kill", [True, False])
def test_terminating_one_group_leaves_the_others_alone(blocked: Blocked, group: WorkerGroup, kill: bool) -> None:
    others = [group.submit(tasks.square, (number,)) for number in range(100)]

    blocked.group.terminate(kill=kill)

    assert [future.result(60) for future in others] == [n * n for n in range(100)]
    assert blocked.group.join(60)


def test_terminate_in_a_shared_worker_replaces_it(tmp_path: Path) -> None:
    go = str(tmp_path / "never")
    for _ in range(5):
        group = WorkerGroup(2)
        futures = [group.submit(tasks.wait_for_file, (go,)) for _ in range(6)]
        wait_for(lambda futures=futures: any(future.running() for future in futures))
        group.terminate()
        assert group.join(60)
        assert {type(future.exception(0)) for future in futures} == {TaskCancelledError}
    group = WorkerGroup(2)
    assert group.submit(tasks.square, (6,)).result(60) == 36
    group.close()


def test_short_tasks_do_not_wait_behind_a_long_one(tmp_path: Path, ledger: Ledger) -> None:
    group = WorkerGroup(2)
    group.start()
    go = tmp_path / "go"
    quick = tmp_path / "quick"
    quick.touch()
    # Taught that the function is short, the hub deals out many at once; then one of them turns out to be long.
    for future in [group.submit(tasks.wait_for_file, (str(quick),)) for _ in range(500)]:
        future.result(60)
    long = group.submit(tasks.wait_for_file, (str(go), "long"))
    short = [group.submit(tasks.wait_for_file, (str(quick), number)) for number in range(500)]

    done, not_done = wait(short, 60)

    assert not not_done
    assert not long.done()
    go.touch()
    assert long.result(60) == "long"
    assert [future.result(0) for future in done] == list(range(500))
    group.close()


def test_a_recalled_task_runs_exactly_once(tmp_path: Path, ledger: Ledger) -> None:
    group = WorkerGroup(2)
    group.start()
    for round_ in range(3):
        go = tmp_path / f"go{round_}"
        long = [group.submit(tasks.wait_for_file, (str(go),))]
        short = [group.submit(tasks.log, (ledger.path, round_ * 1000 + number)) for number in range(300)]
        assert len(wait(short, 60)[0]) == 300
        go.touch()
        assert long[0].result(60) is None
    assert ledger.counts() == {str(r * 1000 + n): 1 for r in range(3) for n in range(300)}
    group.close()


def test_submitting_waits_while_too_many_bytes_are_under_way(tmp_path: Path) -> None:
    source = """
from live import tasks
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
most = 0
futures = []
for number in range(200):
    futures.append(group.submit(len, (bytes([number]) * 300_000,)))  # each its own: equal ones would cross once
    most = max(most, sum(not future.done() for future in futures[-50:]))
assert [future.result() for future in futures] == [300_000] * 200
# A megabyte may be under way, and one argument more than that.
print(most <= 5)
"""
    assert run(tmp_path, source, environ={"SCALEPOOL_OUTSTANDING_LIMIT_BYTES": "1000000"}) == "True\n"


def test_one_argument_above_the_limit_and_callbacks_that_submit_do_not_deadlock(tmp_path: Path) -> None:
    source = """
import threading
from live import tasks
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
assert group.submit(len, (bytes(5_000_000),)).result() == 5_000_000
left = [30]
over = threading.Event()
def again(future):
    assert future.result(0) == 300_000
    left[0] -= 1
    if left[0] > 0:
        group.submit(len, (bytes(300_000),), on_done=again)
    else:
        over.set()
group.submit(len, (bytes(300_000),), on_done=again)
group.submit(len, (bytes(300_000),), on_done=again)
assert over.wait(60)
def submit_many():
    futures = [group.submit(len, (bytes(300_000),)) for _ in range(20)]
    assert sum(future.result(60) for future in futures) == 6_000_000
threads = [threading.Thread(target=submit_many) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""
    assert run(tmp_path, source, environ={"SCALEPOOL_OUTSTANDING_LIMIT_BYTES": "500000"}) == "done\n"
