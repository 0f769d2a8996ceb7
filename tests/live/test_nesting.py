"""Groups inside tasks: a waiting task lends its slot, so no depth and no cap can deadlock."""

from __future__ import annotations

import pytest

from live import tasks
from live.helpers import run
from scalepool.api import WorkerGroup, current_task, in_worker, wait

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("depth", "width"), [(1, 2), (2, 2), (3, 2), (3, 1), (6, 1), (2, 4), (3, 3)])
def test_trees_of_groups_end(depth: int, width: int) -> None:
    group = WorkerGroup(width)
    futures = [group.submit(tasks.nest, (depth, width)) for _ in range(width)]

    assert [future.result(60) for future in futures] == [width**depth] * width
    group.close()
    assert group.join(60)


def test_more_outer_tasks_than_slots(group: WorkerGroup) -> None:
    futures = [group.submit(tasks.nest, (2, 2)) for _ in range(12)]

    assert [future.result(60) for future in futures] == [4] * 12


def test_a_task_knows_how_deep_it_is(group: WorkerGroup) -> None:
    assert current_task() is None
    assert not in_worker()
    assert group.submit(in_worker).result(60)
    depths = group.submit(tasks.depth_of, (3,)).result(60)
    assert depths[0] == 1
    assert len(depths) == 4


def waits_with_a_deadline() -> list[int]:
    group = WorkerGroup(2)
    futures = [group.submit(tasks.square, (number,)) for number in range(10)]
    done, not_done = wait(futures, 60.0)
    assert len(done) == 10
    assert not not_done
    return [future.result(1.0) for future in futures]


def test_a_nested_wait_with_a_deadline(group: WorkerGroup) -> None:
    futures = [group.submit(waits_with_a_deadline) for _ in range(4)]

    assert [future.result(60) for future in futures] == [[n * n for n in range(10)]] * 4


def nested_errors() -> str:
    group = WorkerGroup(1)
    try:
        group.submit(tasks.fail, ("inner",)).result()
    except ValueError as error:
        assert isinstance(error.__cause__, Exception)
        return str(error)
    return "no error"


def nested_death() -> str:
    future = WorkerGroup(2, initializer=tasks.remember, initargs=(1,)).submit(tasks.die, ("kill",))
    return type(future.exception()).__name__


def test_errors_and_deaths_of_nested_tasks_reach_their_task(group: WorkerGroup) -> None:
    assert group.submit(nested_errors).result(60) == "inner"
    assert group.submit(nested_death).result(60) == "WorkerDiedError"


def nested_private() -> list[int]:
    group = WorkerGroup(2, initializer=tasks.remember, initargs=(17,), max_tasks_per_worker=2)
    found = [group.submit(tasks.recall).result() for _ in range(6)]
    group.close()
    assert group.join(60)
    return found


def test_a_nested_group_with_workers_of_its_own(group: WorkerGroup) -> None:
    assert group.submit(nested_private).result(60) == [17] * 6


def leave_children_behind(ledger: str) -> None:
    group = WorkerGroup(2)
    for number in range(20):
        group.submit(tasks.log, (ledger, number))
    group.close()
    group.join(60)


def test_a_nested_group_that_is_closed_and_joined_has_run_everything(group: WorkerGroup, ledger: object) -> None:
    group.submit(leave_children_behind, (ledger.path,)).result(60)  # type: ignore[attr-defined]

    assert ledger.counts() == {str(number): 1 for number in range(20)}  # type: ignore[attr-defined]


def fib(n: int) -> int:
    if n < 2:
        return n
    group = WorkerGroup(2)
    left, right = group.submit(fib, (n - 1,)), group.submit(fib, (n - 2,))
    return left.result() + right.result()


def test_recursion_runs_in_few_processes(group: WorkerGroup) -> None:
    assert group.submit(fib, (9,)).result(60) == 34


def test_a_driver_may_itself_be_a_process_of_multiprocessing(tmp_path: object) -> None:
    source = """
import multiprocessing
from live import tasks
from scalepool.api import WorkerGroup

def use(number):
    group = WorkerGroup(2)
    total = sum(f.result(60) for f in [group.submit(tasks.square, (n,)) for n in range(number)])
    return total

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:  # its workers are daemonic
            print(pool.map(use, [5, 6]))
            pool.close()
            pool.join()
"""
    assert run(tmp_path, source) == "[30, 55]\n" * 2  # type: ignore[arg-type]
