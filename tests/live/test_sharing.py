"""Groups are views on shared, warm workers; some have workers of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from live import tasks
from live.helpers import is_running, wait_for
from scalepool.api import GroupStatistics, WorkerGroup, wait

if TYPE_CHECKING:
    from pathlib import Path

    from live.helpers import Ledger

pytestmark = pytest.mark.live


def pids_of(group: WorkerGroup, tasks_: int = 50) -> set[int]:
    return {future.result(60) for future in [group.submit(tasks.pid) for _ in range(tasks_)]}


def test_a_second_group_uses_the_warm_workers_of_the_first() -> None:
    # A sort of worker that no other test uses, so that there are two of it.
    first = WorkerGroup(2, threads_per_worker=7)
    first.start()
    warm = {worker.pid for worker in first.workers()}
    first.close()
    assert first.join(60)

    second = WorkerGroup(2, threads_per_worker=7)

    assert pids_of(second) <= warm
    assert {worker.pid for worker in second.workers()} <= warm
    second.close()


def test_nothing_starts_before_the_first_task() -> None:
    group = WorkerGroup(2, initializer=tasks.remember, initargs=(1,))

    assert group.workers() == []
    assert group.statistics() == GroupStatistics(2, 0, 0, 0)
    group.close()
    assert group.join(60)


def test_start_starts_all_and_workers_tells_of_them(group: WorkerGroup) -> None:
    group.start()
    workers = group.workers()

    assert len(workers) == 2
    assert all(worker.is_alive() and worker.exitcode is None and is_running(worker.pid) for worker in workers)
    assert "started" in repr(workers[0])
    assert repr(group).startswith("<WorkerGroup")


def test_a_worker_that_died_tells_its_exit_code(group: WorkerGroup) -> None:
    group.start()
    workers = group.workers()
    os.kill(workers[0].pid, 9)

    # The driver pumps only when somebody waits or work is under way.
    def seen() -> bool:
        group.submit(tasks.square, (1,)).result(60)
        return workers[0].exitcode == -9

    wait_for(seen)
    assert not workers[0].is_alive()
    assert "exitcode=-9" in repr(workers[0])


def test_workers_are_recycled(ledger: Ledger) -> None:
    group = WorkerGroup(2, max_tasks_per_worker=5)
    futures = [group.submit(tasks.log, (ledger.path, number)) for number in range(50)]
    pids = [group.submit(tasks.pid) for _ in range(20)]

    assert [future.result(60) for future in futures] == list(range(50))
    assert ledger.counts() == {str(number): 1 for number in range(50)}
    found = [future.result(60) for future in pids]
    assert max(found.count(pid) for pid in found) <= 5
    group.close()
    assert group.join(60)
    wait_for(lambda: not any(map(is_running, found)))


def test_recycling_runs_the_initializer_anew() -> None:
    group = WorkerGroup(1, initializer=tasks.remember, initargs=(5,), max_tasks_per_worker=1)

    assert [group.submit(tasks.recall).result(60) for _ in range(4)] == [5] * 4
    assert len({group.submit(tasks.pid).result(60) for _ in range(3)}) == 3
    group.terminate()
    assert group.join(60)


def test_what_an_initializer_sets_is_seen_by_its_groups_tasks_only() -> None:
    plain = WorkerGroup(1)
    one = WorkerGroup(1, initializer=tasks.remember, initargs=("one",))
    two = WorkerGroup(1, initializer=tasks.remember, initargs=("two",))

    assert [group.submit(tasks.recall).result(60) for group in (one, two, plain, one)] == ["one", "two", None, "one"]
    for group in (plain, one, two):
        group.close()
        assert group.join(60)


def test_the_cap_holds(tmp_path: Path) -> None:
    wide = WorkerGroup(4)
    wide.start()  # so there are four workers at hand
    narrow = WorkerGroup(2, threads_per_worker=None)
    go = tmp_path / "go"
    touched = tmp_path / "touched"
    touched.touch()
    futures = [narrow.submit(tasks.touch_and_wait, (str(touched), str(go))) for _ in range(4)]
    wait_for(lambda: len(touched.read_text().split()) == 2)
    # Others may use what the narrow group may not.
    assert wide.submit(tasks.square, (5,)).result(60) == 25
    assert len(touched.read_text().split()) == 2
    assert narrow.statistics().running == 2 or sum(future.running() for future in futures) == 2

    go.touch()
    wait(futures, 60)
    assert [future.result(0) for future in futures] == [None] * 4
    narrow.close()
    wide.close()


def test_more_workers_than_cpus() -> None:
    group = WorkerGroup(8)
    group.start()

    assert len({worker.pid for worker in group.workers()}) == 8
    group.close()


def test_statistics_count(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    futures = [group.submit(tasks.wait_for_file, (str(go), number)) for number in range(10)]
    statistics = group.statistics()

    assert statistics.unfinished == 10
    assert statistics.max_workers == 2
    go.touch()
    assert [future.result(60) for future in futures] == list(range(10))
    wait_for(lambda: group.statistics().unfinished == 0)


def test_a_closed_group_takes_nothing_and_finishes_what_it_has(group: WorkerGroup) -> None:
    futures = [group.submit(tasks.square, (number,)) for number in range(100)]
    group.close()

    with pytest.raises(RuntimeError, match="closed"):
        group.submit(tasks.square, (1,))
    assert group.join(60)
    assert [future.result(0) for future in futures] == [n * n for n in range(100)]
