"""Remote functions and references with real workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import pickle
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scalepool
from live import remote_tasks as tasks
from scalepool._runtime.session import DriverSession, existing
from scalepool._runtime.values import values_of
from scalepool.errors import (
    ObjectLostError,
    SerializationError,
    SessionError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerDiedError,
)
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.live


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def hub_values() -> int:
    gc.collect()
    session = existing()
    if session is None:  # nobody has used it yet
        return 0
    assert isinstance(session, DriverSession)
    return len(session.hub._state.values)


# ---- calls and values ----


def test_a_call_and_its_value() -> None:
    ref = tasks.add.remote(1, other=2)
    assert scalepool.get(ref) == 3
    assert "add: ready" in repr(ref)
    assert tasks.add.function(1, 2) == 3
    with pytest.raises(TypeError, match=r"add\.remote\(\.\.\.\)"):
        tasks.add(1, 2)


def test_references_as_arguments_are_replaced_by_their_values() -> None:
    one = tasks.add.remote(1, 1)
    assert scalepool.get(tasks.add.remote(one, other=one)) == 4
    assert scalepool.get(tasks.kind_of.remote(one)) == "int"
    assert scalepool.get(tasks.kind_of.remote([one])) == "list of ObjectRef"
    assert scalepool.get(tasks.first_of.remote([one])) == 2


def test_a_chain_runs_while_the_caller_does_something_else() -> None:
    ref = scalepool.put(0)
    for _ in range(200):
        ref = tasks.add.remote(ref)
    assert scalepool.get(ref, timeout=60) == 200


def test_a_tree() -> None:
    level = tasks.add.map(range(64), range(64))
    while len(level) > 1:
        level = tasks.add.map(level[::2], level[1::2])
    assert scalepool.get(level[0]) == 2 * sum(range(64))


def test_nested_containers_come_back_in_shape() -> None:
    refs = tasks.add.map(range(3))
    assert scalepool.get({"a": refs[0], "b": (refs[1], [refs[2]])}) == {"a": 1, "b": (2, [3])}
    assert scalepool.get([]) == []
    with pytest.raises(TypeError, match="not 5"):
        scalepool.get([refs[0], 5])


def test_closures_lambdas_and_redefinition() -> None:
    factor = 3

    @scalepool.remote
    def times(x: int) -> int:
        return x * factor

    assert scalepool.get(times.remote(5)) == 15
    factor = 4
    assert scalepool.get(times.remote(5)) == 20
    assert scalepool.get(scalepool.remote(lambda x: -x).remote(1)) == -1


def test_nested_tasks() -> None:
    assert scalepool.get(tasks.fib.remote(8)) == 21


def test_several_values() -> None:
    a, b, c = tasks.three.remote(7)
    assert scalepool.get([c, b, a]) == [{"three": 7}, "two", 7]
    assert scalepool.get(tasks.add.remote(b, "!")) == "two!"
    del a, b, c
    with pytest.raises(ValueError, match="num_returns=2 returned 3 values"):
        scalepool.get(tasks.wrong_number.remote())


def test_many_values_of_one_task_large_and_small() -> None:
    @scalepool.remote(num_returns=40)
    def arrays() -> list[Any]:
        return [np.full(50_000 if n % 2 else 10, n) for n in range(40)]

    assert [int(value[-1]) for value in scalepool.get(arrays.remote())] == list(range(40))


# ---- errors ----


def test_an_error_is_raised_by_get_and_by_what_needs_it() -> None:
    def bad(x: int) -> None:
        raise KeyError(x)

    first = scalepool.remote(bad).remote(5)
    second = tasks.add.remote(tasks.add.remote(first))
    for ref in (first, second):
        with pytest.raises(KeyError) as caught:
            scalepool.get(ref)
        assert "in bad" in str(caught.value.__cause__)
    assert scalepool.wait([second]) == ([second], [])


def test_a_large_error_is_one_all_the_same() -> None:
    def bad() -> None:
        raise ValueError(np.ones(1_000_000))

    first = scalepool.remote(bad).remote()
    needing = [tasks.add.remote(first), tasks.add.remote(tasks.add.remote(first))]
    for ref in (first, *needing, tasks.add.remote(first)):
        with pytest.raises(ValueError) as caught:
            scalepool.get(ref, timeout=60)
        assert caught.value.args[0].sum() == 1_000_000
    del first, needing, ref, caught
    assert eventually(lambda: hub_values() == 0)


def test_the_first_failure_is_raised_while_others_run() -> None:
    slow = tasks.sleeps.remote(20)
    with pytest.raises(TypeError):
        scalepool.get([slow, tasks.add.remote(1, "x")], timeout=15)
    assert scalepool.cancel(slow, force=True)


def test_a_death_names_its_task_also_for_what_needs_it() -> None:
    first = tasks.dies.options(name="the culprit").remote()
    second = tasks.add.remote(first)
    for ref in (first, second):
        with pytest.raises(WorkerDiedError, match="while it ran the culprit"):
            scalepool.get(ref)


def test_a_task_may_be_run_again(tmp_path: Path) -> None:
    assert scalepool.get(tasks.survives.remote(str(tmp_path / "mark"))) == 42
    assert scalepool.get(tasks.flaky.remote(str(tmp_path / "count"), [])) == [1]
    with pytest.raises(ConnectionError):
        scalepool.get(tasks.flaky.options(max_retries=1).remote(str(tmp_path / "other"), []))


def test_a_task_may_have_a_limit() -> None:
    slow = tasks.sleeps.options(timeout_s=0.2, name="the slow one").remote(60)
    with pytest.raises(TaskTimeoutError, match="the slow one"):
        scalepool.get([tasks.add.remote(slow)])
    with pytest.raises(ValueError, match="timeout"):
        tasks.add.options(timeout_s=-1)


def test_what_cannot_be_pickled_is_said_where_it_happens() -> None:
    import threading

    with pytest.raises(SerializationError, match=r"args\[0\]"):
        tasks.add.remote(threading.Lock())
    with pytest.raises(SerializationError, match="value"):
        scalepool.put(threading.Lock())

    @scalepool.remote
    def makes_a_lock() -> object:
        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        scalepool.get(makes_a_lock.remote())


@pytest.mark.parametrize(
    "options",
    [{"num_returns": -1}, {"num_returns": True}, {"num_returns": "many"}, {"max_retries": -2}, {"max_retries": 1.5}],
)
def test_values_of_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        scalepool.remote(**options)
    with pytest.raises(ValueError, match=next(iter(options))):
        tasks.add.options(**options)


def test_what_is_no_function() -> None:
    for wrong, why in [(5, "takes a function"), (None, "takes a function"), (tasks.add, "already")]:
        with pytest.raises(TypeError, match=why):
            scalepool.remote(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        scalepool.remote(colour="red")
    with pytest.raises(TypeError, match="reference already"):
        scalepool.put(scalepool.put(1))
    with pytest.raises(TypeError, match="not iterable"):
        list(tasks.add.remote(1))
    with pytest.raises(TypeError, match="retry_exceptions"):
        tasks.add.options(retry_exceptions=[5])


# ---- waiting ----


def test_get_in_time_or_not() -> None:
    ref = tasks.sleeps.remote(100)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="1 of 2 values"):
        scalepool.get([ref, scalepool.put(1)], timeout=0.05)
    assert time.monotonic() - start < 50
    assert scalepool.cancel(ref, force=True)


def test_wait_splits() -> None:
    fast, slow = tasks.add.remote(1), tasks.sleeps.remote(20)
    assert scalepool.wait([slow, fast], timeout=30) == ([fast], [slow])
    ready, others = scalepool.wait([slow, fast], num_returns=2, timeout=0.01)
    assert (ready, others) == ([fast], [slow])
    more = [scalepool.put(n) for n in range(3)]
    assert scalepool.wait(more, num_returns=2) == (more[:2], more[2:])
    for wrong in ([fast, fast], [fast]):
        with pytest.raises(ValueError, match=r"once|from 1 to 1"):
            scalepool.wait(wrong, num_returns=2)
    with pytest.raises(TypeError, match="list of ObjectRefs"):
        scalepool.wait(fast)  # type: ignore[arg-type]
    assert scalepool.cancel(slow, force=True)


def test_as_completed_yields_each_once() -> None:
    refs = tasks.add.map(range(50))
    assert {scalepool.get(ref) for ref in scalepool.as_completed([*refs, refs[0]])} == set(range(1, 51))
    slow = tasks.sleeps.remote(20)
    with pytest.raises(TimeoutError, match="1 of 2"):
        list(scalepool.as_completed([refs[0], slow], timeout=0.1))
    assert scalepool.cancel(slow, force=True)


def test_a_reference_as_a_future() -> None:
    future = tasks.add.remote(1, 1).future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(30) == 2
    done, _ = concurrent.futures.wait([tasks.add.remote(n).future() for n in range(5)], timeout=30)
    assert sorted(future.result() for future in done) == [1, 2, 3, 4, 5]
    with pytest.raises(TypeError):
        tasks.add.remote(1, "x").future().result(30)
    slow = tasks.sleeps.remote(20)
    waiting = tasks.add.remote(slow)
    assert waiting.future().cancel()
    assert scalepool.cancel(slow, force=True)


def test_a_reference_is_awaitable() -> None:
    async def main() -> list[Any]:
        return [await tasks.add.remote(1), *await asyncio.gather(*map(awaited, tasks.add.map(range(5))))]

    async def awaited(ref: Any) -> Any:
        return await ref

    assert asyncio.run(main()) == [2, 1, 2, 3, 4, 5]


# ---- cancelling ----


def test_cancel(tmp_path: Path) -> None:
    running = tasks.sleeps.remote(30)
    waiting = tasks.add.remote(running)
    assert scalepool.cancel(waiting)
    with pytest.raises(TaskCancelledError, match="add was cancelled"):
        scalepool.get(waiting)
    mark = tmp_path / "mark"
    parent = tasks.spawns.remote(str(mark))
    assert eventually(mark.exists)
    assert scalepool.cancel(parent, force=True)
    assert scalepool.cancel(running, force=True)
    assert not scalepool.cancel(scalepool.put(1))
    assert scalepool.get(tasks.add.remote(1)) == 2
    session = existing()
    assert isinstance(session, DriverSession)
    assert eventually(lambda: not session.hub._state.tasks)


# ---- counting ----


def test_values_are_forgotten_soon_after_the_last_reference() -> None:
    gc.collect()
    assert eventually(lambda: hub_values() == 0), "left by other tests"
    refs = [*tasks.add.map(range(100)), scalepool.put(np.zeros(1 << 20)), *tasks.three.remote(1)]
    scalepool.wait(refs, num_returns=len(refs))
    session = existing()
    assert isinstance(session, DriverSession)
    assert hub_values() == 104
    del refs
    assert eventually(lambda: hub_values() == 0 and len(session.hub._state.objects) == 0)
    assert not values_of(session.client).table


def test_a_dropped_reference_does_not_stop_its_task(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    tasks.marks.remote(str(mark), 0.0)
    assert eventually(mark.exists)
    assert eventually(lambda: hub_values() == 0)


def test_references_travel_back_and_forth() -> None:
    box = scalepool.get(tasks.passes_on.remote([tasks.add.remote(1)]))
    assert scalepool.get(box) == [2, 30, "own"]
    del box
    assert eventually(lambda: hub_values() == 0)


def test_a_worker_keeps_what_it_borrowed() -> None:
    keep = tasks.keeps.remote([scalepool.put("kept")])
    owner = scalepool.get(keep)
    assert eventually(lambda: hub_values() == 2)
    assert eventually(lambda: scalepool.get(tasks.value_kept.remote()) == "kept")
    assert eventually(lambda: scalepool.get(tasks.lets_go.remote()) == owner)
    del keep
    assert eventually(lambda: hub_values() == 0)


def test_a_reference_within_a_value_lives_with_it() -> None:
    outer = scalepool.put([scalepool.put("inner")])
    gc.collect()
    assert hub_values() == 2 or eventually(lambda: hub_values() == 2)
    assert scalepool.get(scalepool.get(outer)) == ["inner"]
    assert scalepool.get(tasks.first_of.remote(outer)) == "inner"
    del outer
    assert eventually(lambda: hub_values() == 0)


def test_a_reference_pickled_by_other_means_keeps_nothing() -> None:
    ref = scalepool.put("gone")
    data = pickle.dumps(ref)
    assert pickle.loads(data) == ref
    assert scalepool.get(pickle.loads(data)) == "gone"
    del ref
    scalepool.get(tasks.add.remote(1))  # by then the session has heard of both
    assert eventually(lambda: hub_values() == 0)
    with pytest.raises(ObjectLostError, match="put"):
        scalepool.get(pickle.loads(data), timeout=30)


def test_references_are_equal_and_hash_alike_by_value() -> None:
    ref = scalepool.put(1)
    again = pickle.loads(pickle.dumps(ref))
    assert ref == again
    assert len({ref, again, scalepool.put(1)}) == 2
    assert ref != 1


# ---- arrays ----


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_arrays_are_read_only_unless_asked_for(size: int) -> None:
    for ref in (scalepool.put(np.arange(size)), scalepool.remote(np.arange).remote(size)):
        array = scalepool.get(ref)
        assert not array.flags.writeable
        assert array.flags.aligned
        mine = scalepool.get(ref, copy="private")
        mine[0] = 99
        assert scalepool.get(ref)[0] == array[0] == 0
        assert scalepool.get(scalepool.remote(lambda a: (a.flags.writeable, int(a.sum()))).remote(ref)) == (
            False, size * (size - 1) // 2,
        )  # fmt: skip
    with pytest.raises(ValueError, match="copy must be"):
        scalepool.get(ref, copy="maybe")  # type: ignore[arg-type]


def test_an_array_outlives_its_reference() -> None:
    array = scalepool.get(scalepool.remote(np.ones).remote(1_000_000))
    assert eventually(lambda: hub_values() == 0)
    others = [scalepool.get(scalepool.remote(np.zeros).remote(1_000_000)) for _ in range(10)]
    assert array.sum() == 1_000_000
    assert all(other.sum() == 0 for other in others)
    session = existing()
    assert isinstance(session, DriverSession)
    del array, others
    assert eventually(lambda: len(session.hub._state.objects) == 0)


def test_a_large_value_crosses_once_and_is_shared() -> None:
    ref = scalepool.put(np.ones(1_000_000))
    sums = scalepool.get([scalepool.remote(np.sum).remote(ref) for _ in range(20)])
    assert sums == [1_000_000.0] * 20


# ---- sessions ----


def test_references_of_a_dead_session() -> None:
    ref, pending = scalepool.put(1), tasks.sleeps.remote(30)
    future = pending.future()
    data = pickle.dumps(ref)
    scalepool.shutdown()
    scalepool.shutdown()
    for call in (
        lambda: scalepool.get(ref),
        lambda: scalepool.wait([pending]),
        lambda: tasks.add.remote(ref),
        lambda: scalepool.get(pickle.loads(data)),
        lambda: scalepool.cancel(pending),
        ref.future,
    ):
        with pytest.raises(SessionError, match="another session, or its session was shut down"):
            call()
    with pytest.raises(SessionError):
        future.result(5)
    with pytest.raises(SessionError, match=rf"args\[0\]\[0\].*<ObjectRef {ref.id} .*its session was shut down"):
        tasks.add.remote([ref])
    assert "has ended" in repr(pickle.loads(data))
    assert repr(ref)
    assert scalepool.get(tasks.add.remote(1)) == 2


# ---- chains that run ahead ----


def test_a_chain_behind_a_failure_fails_and_the_worker_goes_on() -> None:
    scalepool.get(tasks.add.map(range(200)))  # by now calls are known to be short
    gate = tasks.sleeps.remote(0.2)
    bad = tasks.add.remote(gate, "x")
    last = bad
    for _ in range(300):
        last = tasks.add.remote(last)
    other = scalepool.put(0)
    for _ in range(300):
        other = tasks.add.remote(other)
    with pytest.raises(TypeError):
        scalepool.get(last, timeout=60)
    assert scalepool.get(other, timeout=60) == 300


def test_a_chain_whose_worker_is_killed_in_the_middle(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    last = scalepool.put(0)
    for _ in range(100):
        last = tasks.add.remote(last)
    last = tasks.survives.remote(mark, last)
    for _ in range(100):
        last = tasks.add.remote(last)
    assert scalepool.get(last, timeout=60) == 142


def test_a_cancelled_link_takes_the_rest_of_the_chain_with_it() -> None:
    gate = tasks.sleeps.remote(0.5)
    links = [tasks.add.remote(gate)]
    for _ in range(20):
        links.append(tasks.add.remote(links[-1]))
    assert scalepool.cancel(links[10])
    assert scalepool.get(links[9], timeout=60) == 10.5
    for link in (links[10], links[20]):
        with pytest.raises(TaskCancelledError):
            scalepool.get(link, timeout=60)


# ---- together with pools ----


def test_references_go_into_and_out_of_the_tasks_of_a_pool() -> None:
    ref = scalepool.put("value")
    with Pool(2) as pool:
        assert pool.map(tasks.reads, [ref] * 5) == ["value"] * 5
        made = pool.map(tasks.makes_references, range(5))
        assert scalepool.get(made) == [[n + 1, n] for n in range(5)]
    assert scalepool.get(made[-1]) == [5, 4], "what a pool's tasks have made outlives the pool"
    del ref, made
    assert eventually(lambda: hub_values() == 0)


def test_threads_share_a_session() -> None:
    def work(number: int) -> int:
        ref = tasks.add.remote(number)
        for _ in range(20):
            ref = tasks.add.remote(ref)
        return int(scalepool.get(ref, timeout=60))

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(16))) == [n + 21 for n in range(16)]
