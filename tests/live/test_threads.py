"""Many threads, callbacks, other people's ways to wait, and two sessions side by side."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from live import tasks
from live.helpers import run, wait_for
from scalepool.api import WorkerGroup, wait
from scalepool.errors import TaskCancelledError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from live.helpers import Ledger

pytestmark = pytest.mark.live


def in_threads(number: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not any(thread.is_alive() for thread in threads)
    assert not errors, errors


def test_ten_threads_share_one_group(group: WorkerGroup) -> None:
    def work(index: int) -> None:
        for number in range(40):
            assert group.submit(tasks.square, (index * 100 + number,)).result(60) == (index * 100 + number) ** 2

    in_threads(10, work)


def test_ten_threads_with_a_group_each() -> None:
    def work(index: int) -> None:
        own = WorkerGroup(1 + index % 3)
        futures = [own.submit(tasks.square, (number,)) for number in range(100)]
        done, not_done = wait(futures, 60)
        assert len(done) == 100
        assert not not_done
        own.close()
        assert own.join(60)

    in_threads(10, work)


def test_many_threads_wait_for_one_future(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = group.submit(tasks.wait_for_file, (str(go), "there"))
    inside = threading.Barrier(11)

    def work(_: int) -> None:
        inside.wait(60)
        assert future.result(60) == "there"

    starter = threading.Thread(target=lambda: (inside.wait(60), go.touch()))
    starter.start()
    in_threads(10, work)
    starter.join()


def test_a_timeout_of_one_thread_does_not_disturb_another(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = group.submit(tasks.wait_for_file, (str(go), "there"))
    timed_out = threading.Barrier(4, action=go.touch)

    def work(index: int) -> None:
        if index < 4:
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(0.05)
            timed_out.wait(60)
        else:
            assert future.result(60) == "there"

    in_threads(8, work)


def test_callbacks_run_without_anybody_waiting(group: WorkerGroup) -> None:
    seen: list[int] = []
    for number in range(50):
        group.submit(tasks.square, (number,), on_done=lambda future: seen.append(future.result(0)))

    wait_for(lambda: len(seen) == 50)
    assert sorted(seen) == [number * number for number in range(50)]


def test_a_callback_added_later_runs_at_once(group: WorkerGroup) -> None:
    future = group.submit(tasks.square, (4,))
    future.result(60)
    seen: list[Any] = []

    future.add_done_callback(seen.append)

    assert seen == [future]


def test_callbacks_submit_and_wait(group: WorkerGroup) -> None:
    seen: list[int] = []

    def again(future: Any) -> None:
        # Waiting here is asked for not to be done; it must work all the same.
        seen.append(group.submit(tasks.square, (future.result(0),)).result(60))

    futures = [group.submit(tasks.square, (number,), on_done=again) for number in range(20)]
    assert len(wait(futures, 60)[0]) == 20

    wait_for(lambda: len(seen) == 20)
    assert sorted(seen) == [number**4 for number in range(20)]


def test_a_callback_may_wait_for_a_future_whose_result_came_with_its_own(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    for _ in range(10):
        futures: list[Any] = []
        seen: list[list[int]] = []

        def on_first(_: Any, futures: list[Any] = futures, seen: list[list[int]] = seen) -> None:
            seen.append([future.result(60) for future in futures[1:]])

        blocker = group.submit(tasks.wait_for_file, (str(go),))
        futures.append(group.submit(tasks.square, (0,)))
        futures.extend(group.submit(tasks.square, (number,)) for number in range(1, 30))
        futures[0].add_done_callback(on_first)
        go.touch()
        wait([blocker, *futures], 60)
        wait_for(lambda seen=seen: seen)
        assert seen == [[number * number for number in range(1, 30)]]
        go.unlink()


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_callback_that_raises_loses_nobodys_result(
    group: WorkerGroup, error: type[BaseException], tmp_path: Path
) -> None:
    def bad(_: Any) -> None:
        raise error("callback")

    go = tmp_path / "go"
    for _ in range(group.max_workers):
        group.submit(tasks.wait_for_file, (str(go),))  # until all callbacks are there nothing is done
    futures = [group.submit(tasks.square, (number,)) for number in range(100)]
    for future in futures[::10]:
        future.add_done_callback(bad)
    go.touch()
    found: list[int] = []
    for future in futures:
        while True:
            try:
                found.append(future.result(60))
                break
            except SystemExit:
                assert error is SystemExit  # it came out of the call that pumped

    assert found == [number * number for number in range(100)]


def test_the_standard_ways_to_wait_work(group: WorkerGroup) -> None:
    futures = [group.submit(tasks.square, (number,)) for number in range(50)]

    done, not_done = concurrent.futures.wait(futures, 60)
    assert done == set(futures)
    assert not not_done
    again = [group.submit(tasks.square, (number,)) for number in range(50)]
    assert {future.result(0) for future in concurrent.futures.as_completed(again, 60)} == {n * n for n in range(50)}


def test_first_exception_and_first_completed(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = group.submit(tasks.wait_for_file, (str(go),))
    bad = group.submit(tasks.fail, ("x",))

    done, not_done = concurrent.futures.wait([slow, bad], 60, concurrent.futures.FIRST_EXCEPTION)
    assert (done, not_done) == ({bad}, {slow})
    done, _ = concurrent.futures.wait([slow, bad], 60, concurrent.futures.FIRST_COMPLETED)
    assert done == {bad}
    go.touch()
    assert slow.result(60) is None


def test_asyncio_awaits_them(group: WorkerGroup) -> None:
    async def main() -> list[int]:
        futures = [asyncio.wrap_future(group.submit(tasks.square, (number,))) for number in range(50)]
        return list(await asyncio.wait_for(asyncio.gather(*futures), 60))

    assert asyncio.run(main()) == [number * number for number in range(50)]


def test_asyncio_cancels_them(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    blockers = [group.submit(tasks.wait_for_file, (str(go),)) for _ in range(2)]
    wait_for(lambda: all(blocker.running() for blocker in blockers))  # else a free worker may be faster than we

    async def main() -> bool:
        future = group.submit(tasks.square, (3,))
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        await asyncio.sleep(0)
        return future.cancelled()

    assert asyncio.run(main())
    go.touch()
    wait(blockers, 60)


def test_wait_for_some(group: WorkerGroup, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = group.submit(tasks.wait_for_file, (str(go),))
    quick = [group.submit(tasks.square, (number,)) for number in range(5)]

    done, not_done = wait([slow, *quick], 60, num_done=3)
    assert len(done) >= 3
    assert slow in not_done
    assert wait([slow], 0.01) == ([], [slow])
    assert wait([], 0) == ([], [])
    go.touch()
    assert wait([slow, *quick], 60)[1] == []


def test_two_sessions_do_not_disturb_each_other(tmp_path: Path, group: WorkerGroup) -> None:
    source = """
from live import tasks
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
print("ready", flush=True)
for number in range(200):
    assert group.submit(tasks.square, (number,)).result(60) == number * number
for _ in range(3):
    assert group.submit(tasks.die, ("kill",)).exception(60) is not None
print("done")
"""
    results: list[str] = []
    others = [threading.Thread(target=lambda: results.append(run(tmp_path, source))) for _ in range(2)]
    for other in others:
        other.start()
    while any(other.is_alive() for other in others):
        assert group.submit(tasks.square, (5,)).result(60) == 25
    for other in others:
        other.join()

    assert results == ["ready\ndone\n"] * 2


@pytest.mark.parametrize("seed", range(20))
def test_rounds_of_random_trouble(seed: int, ledger: Ledger) -> None:
    choose = random.Random(seed)
    private = choose.random() < 0.5
    options: dict[str, Any] = {}
    if private:
        options = {"initializer": tasks.remember, "initargs": (1,), "max_tasks_per_worker": choose.choice([None, 1, 7])}
    group = WorkerGroup(choose.randint(1, 3), **options)
    futures: dict[int, Any] = {}
    deadly: set[int] = set()
    for number in range(choose.randint(20, 120)):
        if choose.random() < 0.05:
            deadly.add(number)
            manner = choose.choice(["kill", "exit", "sys.exit"])
            futures[number] = group.submit(tasks.log_and_die, (ledger.path, number, manner))
        else:
            futures[number] = group.submit(tasks.log, (ledger.path, number))
        if choose.random() < 0.1:
            futures[choose.choice(list(futures))].cancel()
        if choose.random() < 0.05:
            wait([choose.choice(list(futures.values()))], 60)
    ending = choose.choice(["close", "terminate", "kill"])
    if ending == "close":
        group.close()
    else:
        group.terminate(kill=ending == "kill")
    assert group.join(60)

    counts = ledger.counts()
    for number, future in futures.items():
        check_end(future, number, counts[str(number)], number in deadly, ending)


def check_end(future: Any, number: int, times: int, is_deadly: bool, ending: str) -> None:
    """Each task ended once, ran at most once, and says why it did not return."""
    assert future.done()
    if future.cancelled():
        assert times == 0
        return
    error = future.exception(0)
    if error is None:
        assert (future.result(0), times, is_deadly) == (number, 1, False)
    elif isinstance(error, (WorkerDiedError, SystemExit)):
        assert (times, is_deadly) == (1, True)
    else:
        assert isinstance(error, TaskCancelledError)
        assert ending != "close"
        assert times <= 1
