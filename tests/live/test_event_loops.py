"""References in event loops: awaited by many, in several threads, given up on, and never in the way of the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live import generator_tasks
from live import remote_tasks as tasks
from live.helpers import PATIENCE_S, run, wait_for
from scalepool import tasks as public
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import SessionError, TaskCancelledError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live


def hub_values() -> int:
    gc.collect()
    session = existing()
    assert isinstance(session, DriverSession)
    return len(session.hub._state.values)


async def watched(ref: Any, times: int) -> None:
    """Wait until so many wait for a reference."""
    deadline = time.monotonic() + PATIENCE_S
    while len(ref._slot().watchers or ()) < times:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_gather_takes_references() -> None:
    async def main() -> Any:
        return await asyncio.gather(*tasks.add.map(range(200)), scalepool.put("x"))

    assert asyncio.run(main()) == [*range(1, 201), "x"]
    wait_for(lambda: hub_values() == 0)


def test_awaiting_twice_and_by_several() -> None:
    async def reads(ref: Any) -> Any:
        return await ref

    async def main() -> Any:
        ref = tasks.sleeps.remote(0.1)
        first = await asyncio.gather(*[reads(ref) for _ in range(10)])
        return [*first, await ref]

    assert asyncio.run(main()) == [0.1] * 11


def test_errors_are_raised() -> None:
    async def main() -> None:
        with pytest.raises(TypeError) as caught:
            await tasks.add.remote(1, "x")
        assert caught.value.__cause__ is not None
        results = await asyncio.gather(tasks.add.remote(1), tasks.add.remote(1, "x"), return_exceptions=True)
        assert results[0] == 2
        assert isinstance(results[1], TypeError)

    asyncio.run(main())


def test_errors_that_mean_something_to_generators_and_loops() -> None:
    async def main(kind: type[BaseException]) -> Any:
        return (await asyncio.gather(tasks.raises.remote(kind), return_exceptions=True))[0]

    found = asyncio.run(main(StopIteration))
    assert isinstance(found, RuntimeError)
    assert "raises raised StopIteration" in str(found)
    assert isinstance(found.__cause__, StopIteration)
    for kind in (StopAsyncIteration, GeneratorExit, asyncio.CancelledError):
        assert isinstance(asyncio.run(main(kind)), kind)
    for kind in (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError):
        with pytest.raises(kind):
            scalepool.get(tasks.raises.remote(kind), timeout=60)
        with pytest.raises(kind):
            tasks.raises.remote(kind).future().result(60)


def test_one_stream_read_by_two_and_given_up_on(tmp_path: Path) -> None:
    async def main() -> list[int]:
        stream = tasks.count_on.remote(str(tmp_path / "closed"))
        taken: list[int] = []
        enough = asyncio.Event()

        async def read() -> None:
            async for ref in stream:
                taken.append(await ref)
                if len(taken) > 50:
                    enough.set()

        readers = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.wait_for(enough.wait(), 60)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        taken.append(await (await asyncio.wait_for(anext(stream), 60)))
        return taken

    taken = asyncio.run(main())
    assert len(set(taken)) == len(taken) > 51
    wait_for((tmp_path / "closed").exists)
    wait_for(lambda: hub_values() == 0)


def test_callbacks_of_futures_that_raise_take_nothing_from_others(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def fails(future: Any) -> None:
        seen.append(future.result())
        raise ValueError("callback")

    futures = [ref.future() for ref in tasks.add.map(range(100))]
    for future in futures[::10]:
        future.add_done_callback(fails)
        future.add_done_callback(lambda future: seen.append(-future.result()))
    assert [future.result(60) for future in futures] == list(range(1, 101))
    wait_for(lambda: len(seen) == 20)
    assert sorted(seen) == sorted([*range(-91, 0, 10), *range(1, 101, 10)])


def test_a_value_in_time_or_not() -> None:
    async def main() -> None:
        slow = tasks.sleeps.remote(1.0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(slow, 0.05)
        assert await asyncio.wait_for(slow, 60) == 1.0, "giving up on it has not cancelled it"
        assert await asyncio.wait_for(tasks.add.remote(1), 60) == 2

    asyncio.run(main())
    wait_for(lambda: hub_values() == 0)


def test_cancelling_who_waits_leaves_things_tidy() -> None:
    async def waits(ref: Any) -> Any:
        return await ref

    async def main() -> Any:
        slow = tasks.sleeps.remote(0.5)
        waiting = [asyncio.ensure_future(waits(slow)) for _ in range(5)]
        await watched(slow, 5)
        for one in waiting[:4]:
            one.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[:4])
        assert slow._slot().watchers is None
        return results[4]

    assert asyncio.run(main()) == 0.5
    wait_for(lambda: hub_values() == 0)


def test_cancelling_the_task_wakes_who_waits() -> None:
    async def main() -> None:
        gate = tasks.sleeps.remote(30)
        ref = tasks.add.remote(gate)
        waiting = asyncio.ensure_future(asyncio.wait_for(ref, 60))
        await watched(ref, 1)
        assert await asyncio.to_thread(scalepool.cancel, ref)
        with pytest.raises(TaskCancelledError):
            await waiting
        assert await asyncio.to_thread(scalepool.cancel, gate, force=True)

    asyncio.run(main())


def test_a_thousand_references_do_not_hold_the_loop_up() -> None:
    longest_s = 0.0

    async def ticks(done: asyncio.Event) -> None:
        nonlocal longest_s
        while not done.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.monotonic() - before)

    async def main() -> Any:
        done = asyncio.Event()
        refs = tasks.sleeps.map([0.002] * 1000)
        ticking = asyncio.ensure_future(ticks(done))
        values = await asyncio.gather(*refs)
        done.set()
        await ticking
        return values

    started = time.monotonic()
    assert asyncio.run(main()) == [0.002] * 1000
    all_s = time.monotonic() - started
    assert longest_s < all_s / 2, "a loop that waited for the tasks would have stood still as long as they take"


def test_loops_in_several_threads() -> None:
    async def work(number: int) -> int:
        refs = tasks.add.map(range(number, number + 20))
        return sum([await ref async for ref in scalepool.as_completed(refs)])

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda number: asyncio.run(work(number)), range(6)))
    assert found == [sum(range(number + 1, number + 21)) for number in range(6)]


def test_as_completed_in_a_loop() -> None:
    async def main() -> None:
        slow, fast, stream = tasks.sleeps.remote(0.5), tasks.add.remote(1), generator_tasks.counts.remote(2)
        seen = [ref async for ref in scalepool.as_completed([slow, fast, stream, fast])]
        assert set(seen) == {slow, fast, stream}
        assert seen[-1] is slow
        assert [ref async for ref in scalepool.as_completed([])] == []
        slow = tasks.sleeps.remote(20)
        with pytest.raises(TimeoutError, match="1 of 1"):
            async for _ in scalepool.as_completed([slow], timeout=0.05):
                raise AssertionError
        assert await asyncio.to_thread(scalepool.cancel, slow, force=True)

    asyncio.run(main())


def test_get_inside_a_loop_says_once_what_it_does() -> None:
    async def main() -> None:
        assert scalepool.get(scalepool.put(1)) == 1  # does not wait
        with pytest.warns(RuntimeWarning, match="await the reference"):
            scalepool.get(tasks.sleeps.remote(0.05))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scalepool.get(tasks.sleeps.remote(0.05))

    public._warned.clear()
    asyncio.run(main())


def test_a_loop_hears_of_the_end_of_its_session() -> None:
    async def main() -> None:
        stream = generator_tasks.counts.remote(2, "", 60.0)
        await anext(stream)
        never = tasks.sleeps.remote(60)
        waiting = [asyncio.ensure_future(asyncio.wait_for(one, 60)) for one in (never, anext(stream))]
        await watched(never, 1)
        await asyncio.to_thread(scalepool.shutdown)
        for one in waiting:
            with pytest.raises(SessionError):
                await one

    asyncio.run(main())


def test_a_loop_that_is_closed_before_its_values_come(tmp_path: Path) -> None:
    assert (
        run(
            tmp_path,
            """
        import asyncio
        import scalepool
        from live import remote_tasks as tasks

        async def main(ref):
            await asyncio.wait([asyncio.ensure_future(wait(ref))], timeout=0.05)

        async def wait(ref):
            await ref

        ref = tasks.sleeps.remote(0.4)
        asyncio.run(main(ref))
        print(scalepool.get(ref))
        """,
        )
        == "0.4\n"
    )


def test_tasks_that_are_coroutines_await_others() -> None:
    assert scalepool.get(generator_tasks.gathers.map([3] * 4), timeout=60) == [[1, 2, 3]] * 4
