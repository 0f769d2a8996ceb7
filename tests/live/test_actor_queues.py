"""`scalepool.util.Queue`: who waits, who dies, and what becomes of the items."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scalepool
from live.helpers import run, wait_for
from live.pool_actors import fill, pipe, take, take_for_ever, take_until_none
from scalepool.errors import ActorDiedError
from scalepool.util import Empty, Full, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


@pytest.fixture
def jobs() -> Iterator[Queue[Any]]:
    made: Queue[Any] = Queue()
    yield made
    made.shutdown(force=True)


@pytest.fixture
def short() -> Iterator[Queue[Any]]:
    made: Queue[Any] = Queue(maxsize=2)
    yield made
    made.shutdown(force=True)


def state(jobs: Queue[Any], what: str) -> int:
    return int(scalepool.get(jobs.actor.state.remote())[what])


def test_first_in_first_out(jobs: Queue[Any]) -> None:
    assert jobs.empty()
    for n in range(100):
        jobs.put(n)
    assert (len(jobs), jobs.size(), jobs.qsize(), jobs.empty(), jobs.full()) == (100, 100, 100, False, False)
    assert [jobs.get() for _ in range(100)] == list(range(100))


def test_any_item_comes_out_as_it_went_in(jobs: Queue[Any]) -> None:
    ref = scalepool.put(5)
    array = np.arange(1_000_000.0)
    for item in (None, (), [1, {"x": 2}], ref, (ref, ref)):
        jobs.put(item)
    jobs.put(array)
    assert jobs.get() is None
    assert jobs.get() == ()
    assert jobs.get() == [1, {"x": 2}]
    assert scalepool.get(jobs.get()) == 5
    assert scalepool.get(list(jobs.get())) == [5, 5]
    assert np.array_equal(jobs.get(), array)


def test_nothing_there(jobs: Queue[Any]) -> None:
    for call in (jobs.get_nowait, lambda: jobs.get(block=False), lambda: jobs.get(timeout=0.05)):
        with pytest.raises(Empty):
            call()
        with pytest.raises(queue.Empty):
            call()
    assert issubclass(Empty, queue.Empty)
    assert issubclass(Full, queue.Full)


def test_no_room(short: Queue[Any]) -> None:
    short.put(1)
    assert not short.full()
    short.put(2)
    assert short.full()
    for call in (lambda: short.put_nowait(3), lambda: short.put(3, block=False), lambda: short.put(3, timeout=0.05)):
        with pytest.raises(Full):
            call()
    assert [short.get(), short.get()] == [1, 2]
    assert short.empty()


def test_batches(short: Queue[Any]) -> None:
    with pytest.raises(Full, match="Cannot add 3 items to queue of size 0 and maxsize 2"):
        short.put_nowait_batch([1, 2, 3])
    short.put_nowait_batch([1, 2])
    with pytest.raises(Empty, match="Cannot get 3 items from queue of size 2"):
        short.get_nowait_batch(3)
    assert short.get_nowait_batch(2) == [1, 2]
    assert short.get_nowait_batch(0) == []
    with pytest.raises(TypeError, match="num_items"):
        short.get_nowait_batch("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_items"):
        short.get_nowait_batch(-1)


def test_wrong_arguments(jobs: Queue[Any]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        jobs.get(timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        jobs.put(1, timeout=-1)
    with pytest.raises(TypeError, match="maxsize"):
        Queue("5")  # type: ignore[arg-type]
    with pytest.raises(scalepool.errors.SerializationError, match="generator"):
        jobs.put(n for n in range(3))
    assert jobs.empty()


def test_who_waits_is_served_in_order(jobs: Queue[Any]) -> None:
    refs = []
    for count in range(1, 4):
        refs.append(jobs.actor.get.remote(None, 0))
        wait_for(lambda count=count: state(jobs, "getters") == count)  # type: ignore[misc]
    jobs.put_nowait_batch(["a", "b", "c"])
    assert [item for _, item in scalepool.get(refs)] == ["a", "b", "c"]


def test_between_tasks(short: Queue[Any]) -> None:
    done = [fill.remote(short, 0, 30), fill.remote(short, 100, 30)]
    taken = [take.remote(short, 20) for _ in range(3)]
    found = scalepool.get(taken)
    assert scalepool.get(done) == [None, None]
    assert sorted(item for part in found for item in part) == [*range(30), *range(100, 130)]
    for part in found:
        assert [item for item in part if item < 100] == sorted(item for item in part if item < 100)


def test_more_wait_than_there_are_slots(jobs: Queue[Any]) -> None:
    taken = [take.remote(jobs) for _ in range(12)]
    jobs.put_nowait_batch(range(12))
    assert sorted(scalepool.get(taken)) == [[n] for n in range(12)]


def test_in_event_loops(jobs: Queue[Any], short: Queue[Any]) -> None:
    ref = pipe.remote(jobs, short, 20)

    async def main() -> list[int]:
        async def feed() -> None:
            for n in range(20):
                await jobs.put_async(n)

        feeding = asyncio.ensure_future(feed())
        found = [await short.get_async(timeout=60) for _ in range(20)]
        await feeding
        with pytest.raises(Empty):
            await short.get_async(block=False)
        with pytest.raises(Empty):
            await short.get_async(timeout=0.01)
        await short.put_async(1, block=False)
        await short.put_async(2)
        with pytest.raises(Full):
            await short.put_async(3, block=False)
        with pytest.raises(Full):
            await short.put_async(3, timeout=0.01)
        return found

    assert asyncio.run(main()) == list(range(1, 21))
    scalepool.get(ref)


def test_a_cancelled_get_takes_nothing(jobs: Queue[Any]) -> None:
    async def main() -> Any:
        waiting = asyncio.ensure_future(jobs.get_async())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await jobs.put_async("still there")
        return await jobs.get_async(timeout=60)

    assert asyncio.run(main()) == "still there"


def test_a_consumer_that_dies_while_it_waits_loses_nothing(jobs: Queue[Any], tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    refs = [take_for_ever.remote(jobs, str(path)) for path in (first, second)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in (first, second)))
    wait_for(lambda: state(jobs, "getters") == 2)
    for path in (first, second):
        os.kill(int(path.read_text()), signal.SIGKILL)
    jobs.put("kept")  # perhaps before anybody knows that they are dead
    for ref in refs:
        with pytest.raises(scalepool.errors.WorkerDiedError):
            scalepool.get(ref)
    assert jobs.get(timeout=60) == "kept"


def test_consumers_that_are_killed_again_and_again_lose_nothing(jobs: Queue[Any], tmp_path: Path) -> None:
    """Each item is noted by somebody, unless he was killed between taking it and noting it down."""
    number, kills = 300, 6
    path = tmp_path / "taken"
    refs = [take_until_none.remote(jobs, str(path)) for _ in range(2)]
    killed: set[int] = set()

    def alive() -> list[int]:
        return [pid for file in tmp_path.iterdir() if (pid := int(file.name.rpartition("-")[2])) not in killed]

    for start in range(0, number, number // kills):
        jobs.put_nowait_batch(list(range(start, start + number // kills)))
        wait_for(lambda: bool(alive()))
        pid = alive()[0]
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: jobs.empty() and not state(jobs, "lent"), 60)
    jobs.put_nowait_batch([None, None])
    assert scalepool.get(refs, timeout=60) == [None, None]
    lines = [int(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(set(range(number)).difference(lines)) <= kills
    assert len(lines) - len(set(lines)) <= kills


def test_an_interrupted_get_takes_nothing(tmp_path: Path) -> None:
    source = """
    import os, signal, threading
    import scalepool
    from scalepool.util import Queue

    jobs = Queue()
    assert jobs.empty()
    for _ in range(5):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            jobs.get()
        except KeyboardInterrupt:
            print("interrupted")
    jobs.put("there")
    print(jobs.get(timeout=60), len(jobs))
    """
    assert run(tmp_path, source) == "interrupted\n" * 5 + "there 0\n"


def test_after_its_end_every_call_says_so() -> None:
    jobs: Queue[Any] = Queue()
    jobs.put(1)
    caught: list[BaseException] = []

    def waits() -> None:
        try:
            [jobs.get() for _ in range(2)]
        except ActorDiedError as error:
            caught.append(error)

    thread = threading.Thread(target=waits)
    thread.start()
    wait_for(lambda: state(jobs, "getters") == 1)
    jobs.shutdown()
    thread.join(60)
    assert len(caught) == 1
    for call in (jobs.qsize, jobs.get, jobs.get_nowait, lambda: jobs.put(1), lambda: jobs.put_nowait(1)):
        with pytest.raises(ActorDiedError, match="QueueActor"):
            call()
    jobs.shutdown()
    jobs.shutdown(force=True)


def test_it_ends_with_its_process_and_with_its_last_handle() -> None:
    jobs: Queue[Any] = Queue()
    pid = state(jobs, "pid")
    del jobs
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: PTH110
    jobs = Queue()
    os.kill(state(jobs, "pid"), signal.SIGKILL)
    with pytest.raises(ActorDiedError, match="SIGKILL"):
        jobs.get()


def test_with_options_of_the_actor() -> None:
    jobs: Queue[Any] = Queue(actor_options={"name": "test-jobs"})
    jobs.put(3)
    assert scalepool.get(scalepool.get_actor("test-jobs").qsize.remote()) == 1
    jobs.shutdown()
