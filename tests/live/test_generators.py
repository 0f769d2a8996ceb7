"""Remote generator functions with real workers: streams, their ends, and how far ahead of their readers they run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live import generator_tasks as tasks
from live import remote_tasks
from live.helpers import run, wait_for
from scalepool import DynamicObjectRefGenerator, ObjectRefGenerator
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import SerializationError, SessionError, TaskCancelledError, TaskTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from live.helpers import Ledger

pytestmark = pytest.mark.live


def nothing_left() -> bool:
    gc.collect()
    session = existing()
    assert isinstance(session, DriverSession)
    state = session.hub._state
    return not (len(state.values) or state.streams or state.tasks or len(state.objects))


@pytest.fixture(autouse=True)
def everything_goes() -> Iterator[None]:
    yield
    gc.collect()
    if existing() is not None:
        wait_for(nothing_left)


# ---- reading ----


def test_a_generator_function_returns_at_once_what_yields_references() -> None:
    gen = tasks.counts.remote(5)
    assert isinstance(gen, ObjectRefGenerator)
    assert "counts: running" in repr(gen)
    assert iter(gen) is gen
    refs = list(gen)
    assert scalepool.get(refs) == [0, 1, 2, 3, 4]
    assert scalepool.get(remote_tasks.add.remote(refs[3])) == 4
    assert "counts: ready" in repr(gen)
    with pytest.raises(StopIteration):
        next(gen)
    assert list(tasks.counts.remote(0)) == []


def test_each_is_there_as_soon_as_it_was_yielded(ledger: Ledger) -> None:
    gen = tasks.counts.remote(2, ledger.path, 20.0)
    assert scalepool.get(next(gen), timeout=15) == 0
    with pytest.raises(TimeoutError, match=r"counts yielded nothing within 0.05 seconds"):
        gen.next(timeout=0.05)
    assert scalepool.cancel(gen, force=True)


def test_large_arrays_and_what_is_kept_of_them() -> None:
    kept = []
    for n, ref in enumerate(tasks.arrays.remote(12)):
        array = scalepool.get(ref)
        assert (int(array[0]), array.flags.writeable) == (n, False)
        kept.append(array)
    assert [int(array[-1]) for array in kept] == list(range(12))


def test_several_at_once_and_by_threads() -> None:
    gens = [tasks.counts.remote(50) for _ in range(6)]
    assert [scalepool.get(list(gen)) for gen in gens] == [list(range(50))] * 6
    shared = tasks.counts.remote(200)
    found: list[Any] = []

    def reads() -> None:
        found.extend(shared)

    threads = [threading.Thread(target=reads) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(scalepool.get(found)) == list(range(200))


def test_a_stream_is_read_inside_a_task() -> None:
    assert scalepool.get(tasks.sums.map([0, 1, 30, 100]), timeout=60) == [0, 0, 435, 4950]


def test_what_it_yields_may_hold_references() -> None:
    for n, ref in enumerate(tasks.children.remote(4)):
        number, inner = scalepool.get(ref)
        assert number == n
        assert scalepool.get(list(scalepool.get(inner))) == list(range(n))


def test_an_iterator_is_as_good() -> None:
    gen = scalepool.remote(num_returns="streaming")(lambda n: map(str, range(n))).remote(3)
    assert scalepool.get(list(gen)) == ["0", "1", "2"]
    assert scalepool.get(list(scalepool.remote(tasks.counts.function).remote(2))) == [0, 1]
    wrong = scalepool.remote(num_returns="streaming")(lambda: 5).remote()
    with pytest.raises(TypeError, match=r"num_returns='streaming' or 'dynamic' returned int"):
        scalepool.get(next(wrong))


# ---- how it ends ----


def test_an_error_follows_what_was_yielded() -> None:
    gen = tasks.fails.remote(3)
    refs = list(gen)
    assert scalepool.get(refs[:3]) == [0, 1, 2]
    with pytest.raises(KeyError) as caught:
        scalepool.get(refs[3])
    assert "in fails" in str(caught.value.__cause__)
    assert len(refs) == 4
    with pytest.raises(KeyError):
        scalepool.get(gen.completed())
    with pytest.raises(StopIteration):
        next(gen)


def test_what_a_worker_had_yielded_outlives_it() -> None:
    for number in (0, 1, 30):
        refs = list(tasks.dies.remote(number))
        assert scalepool.get(refs[:-1]) == list(range(number))
        with pytest.raises(WorkerDiedError, match="while it ran dies"):
            scalepool.get(refs[-1])


@pytest.mark.parametrize("number", [5, 100, 3000])
def test_nothing_that_a_killed_worker_had_yielded_is_lost(number: int) -> None:
    refs = list(tasks.killed.options(generator_backpressure=10_000).remote(number))
    assert scalepool.get(refs[:-1]) == list(range(number))
    with pytest.raises(WorkerDiedError):
        scalepool.get(refs[-1])


def test_fast_items_do_not_wait_for_a_slow_one() -> None:
    gen = tasks.fast_then_slow.options(generator_backpressure=10_000).remote(3000)
    assert scalepool.get([gen.next(timeout=60) for _ in range(3000)]) == list(range(3000))
    assert scalepool.cancel(gen, force=True)


def test_fast_streams_of_an_actors_threads() -> None:
    actor = tasks.Several.remote()
    gens = [actor.counts.remote(first, 2000) for first in (0, 10_000, 20_000)]
    for gen, first in zip(gens, (0, 10_000, 20_000), strict=True):
        assert scalepool.get(list(gen)) == list(range(first, first + 2000))


def test_an_item_that_cannot_be_pickled_is_named() -> None:
    refs = list(tasks.unpicklable.remote())
    assert scalepool.get(refs[0]) == 1
    with pytest.raises(SerializationError, match=r"item 1.*generator"):
        scalepool.get(refs[1])


def test_a_time_limit() -> None:
    gen = tasks.counts.options(timeout_s=0.4, name="slow").remote(2, "", 60.0)
    assert scalepool.get(next(gen)) == 0
    with pytest.raises(TaskTimeoutError, match="slow"):
        scalepool.get(next(gen))


@pytest.mark.parametrize("ahead", [1, 3, None])
def test_a_task_that_is_tried_again_tells_nothing_twice(tmp_path: Path, ahead: int | None) -> None:
    for function in (tasks.dies_once, tasks.fails_twice):
        gen = function.options(generator_backpressure=ahead).remote(str(tmp_path / function.function.__name__), 20)
        assert [scalepool.get(ref) for ref in gen] == list(range(20))


def test_cancelling(ledger: Ledger) -> None:
    gen = tasks.counts.remote(10**9, ledger.path, 0.001)
    first = next(gen)
    assert scalepool.cancel(gen)
    *others, last = gen
    assert scalepool.get([first, *others]) == list(range(1 + len(others)))
    with pytest.raises(TaskCancelledError, match="counts was cancelled"):
        scalepool.get(last)
    assert ledger.lines()[-1] == "closed"
    waiting = tasks.counts.remote(remote_tasks.sleeps.remote(0.5))
    assert scalepool.cancel(waiting)
    (only,) = waiting
    with pytest.raises(TaskCancelledError):
        scalepool.get(only)
    stuck = tasks.slow.remote(ledger.path)
    wait_for(lambda: "begun" in ledger.lines())
    assert not scalepool.cancel(stuck)
    assert scalepool.cancel(stuck, force=True)


# ---- reading no more ----


@pytest.mark.parametrize("function", [tasks.counts, tasks.asynchronous])
def test_dropping_it_closes_the_tasks_generator(function: Any, ledger: Ledger) -> None:
    gen = function.options(generator_backpressure=5).remote(10**9, ledger.path)
    kept = next(gen)
    del gen
    wait_for(lambda: "closed" in ledger.lines())
    assert scalepool.get(kept) == 0
    del kept
    wait_for(nothing_left)


def test_closing_it(ledger: Ledger) -> None:
    with contextlib.closing(tasks.counts.remote(10**9, ledger.path, 0.001)) as gen:
        next(gen)
        end = gen.completed()
    assert list(gen) == []
    gen.close()
    assert scalepool.get(end, timeout=60) is None
    assert ledger.lines()[-1] == "closed"


def test_a_dropped_one_that_has_not_started_never_does(ledger: Ledger) -> None:
    gate = remote_tasks.sleeps.remote(0.5)
    tasks.counts.remote(gate, ledger.path)
    assert scalepool.get(gate) == 0.5
    assert ledger.lines() == []


def test_a_break_within_a_loop(ledger: Ledger) -> None:
    for ref in tasks.counts.remote(10**9, ledger.path, 0.001):
        if scalepool.get(ref) == 3:
            break
    del ref
    wait_for(lambda: "closed" in ledger.lines())


def test_the_death_of_its_reader_ends_it(ledger: Ledger) -> None:
    with pytest.raises(WorkerDiedError, match="reads_and_dies"):
        scalepool.get(tasks.reads_and_dies.remote(ledger.path))
    wait_for(nothing_left)
    assert scalepool.get(tasks.sums.remote(30), timeout=60) == 435


def test_what_was_not_taken_is_forgotten_soon() -> None:
    gens = [tasks.arrays.options(generator_backpressure=3).remote(100)]
    next(gens[0])
    wait_for(lambda: len(gens[0]._stream.arrived) >= 2)
    gens.clear()
    start = time.monotonic()
    wait_for(nothing_left)
    assert time.monotonic() - start < 10, "it takes less than a second on a machine with time to spare"


# ---- backpressure ----


@pytest.mark.parametrize("ahead", [1, 4])
def test_it_runs_so_far_ahead_and_no_further(ahead: int, ledger: Ledger) -> None:
    gen = tasks.counts.options(generator_backpressure=ahead).remote(30, ledger.path)
    wait_for(lambda: len(ledger.lines()) == ahead)
    time.sleep(0.1)
    assert len(ledger.lines()) == ahead
    for taken in range(1, 30):
        next(gen)
        assert len(ledger.lines()) <= taken + ahead
    assert len(list(gen)) == 1


def test_what_waits_for_its_reader_lets_others_run() -> None:
    gens = [tasks.counts.options(generator_backpressure=1).remote(3) for _ in range(6)]
    firsts = [next(gen) for gen in gens]
    assert scalepool.get(remote_tasks.add.map(firsts), timeout=60) == [1] * 6
    assert [scalepool.get(list(gen)) for gen in gens] == [[1, 2]] * 6


def test_large_values_count_by_their_size(tmp_path: Path) -> None:
    assert (
        run(
            tmp_path,
            """
        import os
        import time
        import numpy as np
        import scalepool

        def arrays(path):
            for n in range(20):
                with open(path, "a") as file:
                    file.write("x")
                yield np.full(1 << 17, n)

        scalepool.init(num_cpus=1, object_store_memory=64 << 20)
        limit_bytes = scalepool._runtime.session.existing().client.limit_bytes
        gen = scalepool.remote(arrays).remote("made")
        first = next(gen)
        time.sleep(0.5)
        made = os.path.getsize("made")
        assert made < 20 and (made - 1) << 20 <= limit_bytes + (2 << 20), (made, limit_bytes)
        assert [int(scalepool.get(ref)[0]) for ref in gen] == list(range(1, 20))
        print("ok")
        """,
        )
        == "ok\n"
    )


def test_values_of_the_option() -> None:
    assert len(list(tasks.counts.options(generator_backpressure=-1).remote(3000))) == 3000
    assert len(list(tasks.counts.options(_generator_backpressure_num_objects=2).remote(5))) == 5
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(ValueError, match="generator_backpressure"):
            tasks.counts.options(generator_backpressure=wrong)


# ---- together with the others ----


def test_wait_and_as_completed() -> None:
    fast, slow, ref = tasks.counts.remote(2), tasks.counts.remote(2, "", 60.0), scalepool.put(5)
    next(slow)
    ready, others = scalepool.wait([slow, fast, ref], num_returns=2, timeout=30)
    assert (ready, others) == ([fast, ref], [slow])
    assert set(scalepool.as_completed([fast, ref])) == {fast, ref}
    next(fast)
    next(fast)
    assert scalepool.wait([fast], timeout=30) == ([fast], []), "the news that there are no more is news, too"
    with pytest.raises(TimeoutError, match="1 of 2"):
        list(scalepool.as_completed([slow, ref], timeout=0.1))
    assert scalepool.cancel(slow, force=True)


def test_what_it_cannot_be_used_for() -> None:
    gen = tasks.counts.remote(2)
    with pytest.raises(TypeError, match=r"get\(list\(gen\)\)"):
        scalepool.get(gen)
    with pytest.raises(TypeError, match="only who called"):
        pickle.dumps(gen)
    with pytest.raises(SerializationError, match=r"args\[0\].*ObjectRefGenerator"):
        remote_tasks.add.remote(gen)
    with pytest.raises(TypeError, match="nothing to put"):
        scalepool.put(gen)
    scalepool.shutdown()
    for call in (lambda: next(gen), gen.completed, lambda: scalepool.wait([gen]), lambda: scalepool.cancel(gen)):
        with pytest.raises(SessionError):
            call()


def test_dynamic() -> None:
    ref = tasks.counts.options(num_returns="dynamic").remote(4)
    refs = scalepool.get(ref)
    assert isinstance(refs, DynamicObjectRefGenerator)
    assert (len(refs), scalepool.get(list(refs)), scalepool.get(refs[2])) == (4, [0, 1, 2, 3], 2)
    assert "4 references" in repr(refs)
    assert scalepool.get(remote_tasks.kind_of.remote(ref)) == "DynamicObjectRefGenerator"
    assert scalepool.get(list(scalepool.get(tasks.asynchronous.options(num_returns="dynamic").remote(2)))) == [0, 1]
    *good, bad = scalepool.get(tasks.fails.options(num_returns="dynamic").remote(2))
    assert scalepool.get(good) == [0, 1]
    with pytest.raises(KeyError) as caught:
        scalepool.get(bad)
    assert "in fails" in str(caught.value.__cause__)
    assert [scalepool.get(one)[0] for one in scalepool.get(tasks.arrays.options(num_returns="dynamic").remote(3))] == [
        0, 1, 2,
    ]  # fmt: skip


def test_dynamic_with_exceptions_that_are_tried_again(tmp_path: Path) -> None:
    refs = scalepool.get(tasks.fails_twice.options(num_returns="dynamic").remote(str(tmp_path / "a"), 6))
    assert scalepool.get(list(refs)) == list(range(6))


def test_a_number_of_values_out_of_a_generator() -> None:
    for function in (tasks.counts, tasks.asynchronous):
        assert scalepool.get(function.options(num_returns=3).remote(3)) == [0, 1, 2]
        with pytest.raises(ValueError, match="num_returns=3 returned 4 values"):
            scalepool.get(function.options(num_returns=3).remote(4))
    with pytest.raises(SerializationError, match="generator"):
        scalepool.get(tasks.counts.options(num_returns=1).remote(3))


def test_nothing_is_returned(ledger: Ledger, tmp_path: Path) -> None:
    assert tasks.notes.remote(ledger.path, "ran") is None
    assert tasks.notes.map([ledger.path] * 3, "abc") == [None] * 3
    wait_for(lambda: sorted(ledger.lines()) == ["a", "b", "c", "ran"])
    out = run(
        tmp_path,
        """
        import contextlib, io, sys, time
        import scalepool
        from live import generator_tasks as tasks

        sys.stderr = caught = io.StringIO()
        tasks.complains.remote()
        deadline = time.monotonic() + 50
        while "KeyError: 'unheard'" not in caught.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        print("complains, a task with num_returns=0, raised" in caught.getvalue())
        """,
    )
    assert out == "True\n"


# ---- event loops ----


def test_coroutine_functions() -> None:
    assert scalepool.get(tasks.later.remote(1)) == 2
    assert scalepool.get(tasks.gathers.remote(5), timeout=60) == [1, 2, 3, 4, 5]

    async def bad() -> None:
        raise KeyError("async")

    with pytest.raises(KeyError, match="async"):
        scalepool.get(scalepool.remote(bad).remote())


def test_async_for() -> None:
    async def reads(number: int) -> list[int]:
        return [await ref async for ref in tasks.counts.remote(number)]

    async def main() -> Any:
        return await asyncio.gather(*[reads(n) for n in (0, 1, 100)])

    assert asyncio.run(main()) == [list(range(n)) for n in (0, 1, 100)]


def test_async_for_with_an_error_and_left_early(ledger: Ledger) -> None:
    async def main() -> None:
        seen = []
        with pytest.raises(KeyError):
            async for ref in tasks.fails.remote(3):
                seen.append(await ref)
        assert seen == [0, 1, 2]
        async for ref in tasks.counts.remote(10**9, ledger.path, 0.001):
            if await ref == 2:
                break

    asyncio.run(main())
    wait_for(lambda: "closed" in ledger.lines())
