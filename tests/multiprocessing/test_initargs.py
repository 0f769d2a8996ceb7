"""What processes share: locks, queues and values by way of ``initargs``, managers' objects in any way."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import initargs_tasks as tasks
import pytest
from live.helpers import run, wait_for

import scalepool.multiprocessing as mp
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

Start = Callable[..., Callable[..., Any]]


@pytest.fixture(params=["pool", "executor"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """A function that gives workers ``initargs`` and returns one that starts a call in them and returns its ``get``."""
    made: list[Any] = []

    def start_pool(*initargs: Any, workers: int = 2, tasks_each: int | None = None) -> Callable[..., Any]:
        pool = mp.Pool(workers, tasks.take, initargs, maxtasksperchild=tasks_each)
        made.append(pool.join)
        made.append(pool.terminate)
        return lambda function, *args: pool.apply_async(function, args).get

    def start_executor(*initargs: Any, workers: int = 2, tasks_each: int | None = None) -> Callable[..., Any]:
        executor = ProcessPoolExecutor(
            workers, initializer=tasks.take, initargs=initargs, max_tasks_per_child=tasks_each
        )
        made.append(executor.shutdown)
        return lambda function, *args: executor.submit(function, *args).result

    yield start_pool if request.param == "pool" else start_executor
    while made:
        made.pop()()


CONTEXTS = [mp, mp.get_context(), mp.get_context("fork"), multiprocessing.get_context("spawn")]
any_context = pytest.mark.parametrize("context", CONTEXTS, ids=["module", "default", "fork", "original spawn"])


@any_context
@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_locks(start: Start, context: Any, name: str) -> None:
    lock = getattr(context, name)()
    call = start(lock, workers=1)
    assert call(tasks.try_acquire)(60)
    with lock:
        assert not call(tasks.try_acquire)(60)
    assert call(tasks.try_acquire)(60)


def test_condition(start: Start) -> None:
    condition = mp.Condition()
    call = start(condition)
    with condition:
        end = call(tasks.notify)
        assert condition.wait(60)
    end(60)


def test_event(start: Start) -> None:
    event = mp.Event()
    start(event)(tasks.set_event)(60)
    assert event.is_set()


def test_barrier(start: Start) -> None:
    barrier = mp.Barrier(2)
    end = start(barrier)(tasks.wait_at_barrier)
    mine = barrier.wait(60)
    assert {mine, end(60)} == {0, 1}


@any_context
@pytest.mark.parametrize("name", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_queues(start: Start, context: Any, name: str) -> None:
    there, back = getattr(context, name)(), getattr(context, name)()
    call = start(there, back)
    ends = [call(tasks.pass_on) for _ in range(4)]
    for item in range(4):
        there.put(item)
    assert sorted(back.get() for _ in range(4)) == [0, 10, 20, 30]
    for end in ends:
        end(60)
    if name == "JoinableQueue":
        there.join()


@any_context
def test_value_and_array(start: Start, context: Any) -> None:
    value, array = context.Value("i", 5), context.Array("d", 3)
    call = start(value)
    for end in [call(tasks.add, amount) for amount in range(10)]:
        end(60)
    assert value.value == 50
    call = start(array)
    for end in [call(tasks.fill, index) for index in range(3)]:
        end(60)
    assert array[:] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("duplex", [False, True])
def test_an_end_of_a_pipe(start: Start, duplex: bool) -> None:
    reader, writer = mp.Pipe(duplex)
    call = start(writer)
    writer.close()
    call(tasks.send, [1, 2])(60)
    assert reader.recv() == [1, 2]
    reader.close()


def test_workers_started_later_get_it_too(start: Start) -> None:
    reader, writer = mp.Pipe(duplex=False)
    call = start(writer, workers=1, tasks_each=1)
    writer.close()
    del writer
    gc.collect()
    pids = [call(tasks.send, item)(60) for item in range(3)]
    assert [reader.recv() for _ in range(3)] == [0, 1, 2]
    assert len(set(pids)) == 3

    value = mp.Value("i", 0)
    call = start(value, workers=1, tasks_each=1)
    assert len({call(tasks.add, 1)(60) for _ in range(3)}) == 3
    assert value.value == 3


def test_the_group_keeps_what_its_owner_drops(start: Start) -> None:
    call = start(mp.Lock(), workers=1, tasks_each=1)
    gc.collect()
    assert [call(tasks.try_acquire)(60) for _ in range(3)] == [True, True, True]


def test_a_reader_gets_the_end_when_the_pool_is_gone() -> None:
    reader, writer = mp.Pipe(duplex=False)
    pool = mp.Pool(2, tasks.take, (writer,))
    writer.close()
    pool.map(tasks.send, range(3))
    pool.close()
    assert sorted(reader.recv() for _ in range(3)) == [0, 1, 2]
    with pytest.raises(EOFError):
        reader.recv()
    pool.join()


def test_no_descriptor_is_left_of_a_pool() -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def use() -> None:
        with mp.Pool(1, tasks.take, (mp.SimpleQueue(), mp.Value("i", 0))) as pool:
            pool.apply(abs, (-1,))
        pool.join()

    use()
    gc.collect()
    before = count()
    use()
    gc.collect()
    wait_for(lambda: count() <= before)


def test_a_lock_of_the_originals_fork_context_is_refused_by_the_constructor() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    wanted = r"initargs\[1\].*Lock.*create it with scalepool\.multiprocessing\.Lock\(\) or multiprocessing\.get_context"
    with pytest.raises(SerializationError, match=wanted) as caught:
        mp.Pool(1, tasks.take, (1, lock))
    assert caught.value.path == "initargs[1]"
    with pytest.raises(SerializationError, match=wanted):
        ProcessPoolExecutor(1, initializer=tasks.take, initargs=(1, lock))


@pytest.mark.parametrize("name", ["Lock", "Queue", "Event"])
def test_as_plain_arguments_they_are_refused_as_by_the_original(name: str) -> None:
    thing = getattr(mp, name)()
    with mp.Pool(1) as pool, pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
        pool.apply(repr, (thing,))
    with ProcessPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="through inheritance") as caught:
        executor.submit(repr, thing).result(60)
    assert "pass it to the workers once, by initializer and initargs" in str(caught.value.__cause__)


def test_an_end_of_a_pipe_as_plain_argument_and_result() -> None:
    reader, writer = mp.Pipe(duplex=False)
    with mp.Pool(1) as pool:
        back = pool.apply(tasks.send_through, (writer, "there"))
        assert reader.recv() == "there"
        back.send("back")
        assert reader.recv() == "back"
    for end in (reader, writer, back):
        end.close()


def test_managers_objects(start: Start) -> None:
    with mp.Manager() as manager:
        mapping, queue = manager.dict(), manager.Queue()
        call = start(mapping)
        for end in [call(tasks.put_into_given, key) for key in range(3)]:
            end(60)
        with mp.Pool(2) as pool, ProcessPoolExecutor(2) as executor:
            pool.starmap(tasks.put_into, [(mapping, key) for key in range(3, 6)])
            executor.submit(tasks.put_into, mapping, 6).result(60)
            pool.apply(queue.put, ("item",))
        assert queue.get(timeout=60) == "item"
        assert sorted(mapping.keys()) == [0, 1, 2, 3, 4, 5, 6]
        assert os.getpid() not in mapping.values()


LATE_MANAGER = """
import sys, warnings
import scalepool.multiprocessing as mp
import initargs_tasks as tasks

warnings.filterwarnings("ignore", category=DeprecationWarning)  # the manager is forked beside our thread
pool = mp.Pool(2)
pool.map(abs, [-1])
assert "multiprocessing.managers" not in sys.modules
with mp.Manager() as manager:
    mapping = manager.dict()
    pool.starmap(tasks.put_into, [(mapping, key) for key in range(4)])
    print(sorted(mapping.keys()))
    pool.close()
    pool.join()
"""


def test_a_manager_made_long_after_the_pool(tmp_path: Path) -> None:
    assert run(tmp_path, LATE_MANAGER, environ={"PYTHONPATH": PATH}) == "[0, 1, 2, 3]\n"


EVERYTHING = """
import scalepool.multiprocessing as mp
import initargs_tasks as tasks

given = [mp.Value("i", 0), mp.Queue(), mp.Condition(), mp.Barrier(2), mp.Array("d", 4)]
pool = mp.Pool(2, tasks.take, given, maxtasksperchild=1)
pool.map(tasks.add, [1] * 4, chunksize=1)
print(given[0].value, given[0].get_lock()._semlock.name, given[1]._rlock._semlock.name)
{end}
"""
UNCLOSED = "import warnings; warnings.simplefilter('ignore', ResourceWarning)"
PATH = os.pathsep.join(str(Path(__file__).resolve().parents[level]) for level in range(3))


@pytest.mark.parametrize("end", ["pool.close(); pool.join()", "pool.terminate(); pool.join()", UNCLOSED])
def test_nothing_is_left_after_the_driver(tmp_path: Path, end: str) -> None:
    value, *names = run(tmp_path, EVERYTHING.format(end=end), environ={"PYTHONPATH": PATH}).split()

    assert value == "4"
    assert not set(names) & {path.name.replace("sem.", "/") for path in Path("/dev/shm").iterdir()}
