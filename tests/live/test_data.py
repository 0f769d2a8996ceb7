"""Arguments and results: private and writable copies at every size."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import tasks
from live.helpers import run
from scalepool.api import WorkerGroup, put_buffer
from scalepool.errors import SerializationError

pytestmark = pytest.mark.live

SIZES = [0, 1, 1_000, 65_535, 65_536, 65_537, 1_000_000, 64_000_000]


def overwrite(array: np.ndarray) -> np.ndarray:
    assert array.flags.writeable
    before = array.copy()
    array += 1
    array[:1] = 200
    assert array.size == 0 or not np.array_equal(before, array)
    return array


@pytest.mark.parametrize("size", SIZES)
def test_arrays_are_private_and_writable_on_both_sides(group: WorkerGroup, size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    before = array.copy()

    first = group.submit(overwrite, (array,)).result(60)

    assert np.array_equal(array, before)
    expected = before + np.uint8(1)
    expected[:1] = 200
    assert np.array_equal(first, expected)
    assert first.flags.writeable
    first += 1  # writable, and nobody else's
    assert np.array_equal(group.submit(overwrite, (array,)).result(60), expected)


@pytest.mark.parametrize("size", SIZES[:-1])
def test_bytes_and_bytearrays_arrive_as_they_were(group: WorkerGroup, size: int) -> None:
    data = os.urandom(size)
    for value in (data, bytearray(data), {"a": [data, bytearray(data)], "b": data}):
        found = group.submit(tasks.wait_for_file, ("/", value)).result(60)
        assert found == value
        assert type(found) is type(value)


def swap(first: np.ndarray, second: np.ndarray, *, scale: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return second * scale, {"first": first}


def test_many_arrays_in_one_call(group: WorkerGroup) -> None:
    arrays = [np.full(50_000, number, dtype=float) for number in range(20)]
    futures = [group.submit(swap, (one, two), {"scale": 2.0}) for one, two in itertools.pairwise(arrays)]

    for number, future in enumerate(futures):
        scaled, rest = future.result(60)
        assert np.array_equal(scaled, arrays[number + 1] * 2)
        assert np.array_equal(rest["first"], arrays[number])


def test_an_argument_may_change_as_soon_as_it_was_submitted(group: WorkerGroup) -> None:
    array = np.zeros(500_000)
    futures = []
    for number in range(10):
        array[:] = number
        futures.append(group.submit(np.unique, (array,)))

    assert [future.result(60).tolist() for future in futures] == [[float(number)] for number in range(10)]


def test_results_are_kept_while_their_memory_is_reused(group: WorkerGroup) -> None:
    kept = [group.submit(np.full, (100_000, number)).result(60) for number in range(40)]
    for _ in range(40):
        group.submit(np.zeros, (100_000,)).result(60)

    assert [int(array[0]) for array in kept] == list(range(40))
    assert all((array == array[0]).all() for array in kept)


def keep(array: np.ndarray) -> int:
    tasks.state["kept"] = array
    return os.getpid()


def sum_of_kept(_: object) -> tuple[int, float]:
    return os.getpid(), float(tasks.state["kept"].sum())


def test_an_argument_that_a_task_keeps_stays_as_it_was() -> None:
    group = WorkerGroup(1, initializer=tasks.remember, initargs=(1,))
    group.submit(keep, (np.ones(200_000),)).result(60)
    for _ in range(20):
        group.submit(np.sum, (np.full(200_000, 7.0),)).result(60)

    assert group.submit(sum_of_kept, (None,)).result(60)[1] == 200_000.0
    group.terminate()


def big_then_die(array: np.ndarray) -> None:
    tasks.state["result"] = array * 2
    tasks.die("kill")


def test_large_results_outlive_the_worker_that_made_them(group: WorkerGroup) -> None:
    group.start()
    array = group.submit(np.arange, (1_000_000,)).result(60)
    for worker in group.workers():
        os.kill(worker.pid, 9)
    assert group.submit(tasks.square, (2,)).result(60) == 4

    assert int(array.sum()) == 499_999_500_000
    array[0] = 5


def test_arguments_of_a_task_that_killed_its_worker_are_freed_and_others_go_on(group: WorkerGroup) -> None:
    array = np.ones(300_000)
    bad = [group.submit(big_then_die, (array,)) for _ in range(3)]
    good = [group.submit(np.sum, (array,)) for _ in range(10)]

    assert [float(future.result(60)) for future in good] == [300_000.0] * 10
    assert all(future.exception(60) is not None for future in bad)


def write_into(buffer: Any, mode: str) -> int:
    view = memoryview(buffer.open(mode))
    if mode == "c":
        view[0] = 99
    return sum(view[:10])


def test_a_shared_buffer_is_sent_once_and_read_by_many(group: WorkerGroup) -> None:
    data = bytes(range(100)) * 10_000
    buffer = put_buffer(data)

    assert buffer.size_bytes == len(data)
    reading = [group.submit(write_into, (buffer, "r")) for _ in range(20)]
    copying = [group.submit(write_into, (buffer, "c")) for _ in range(5)]
    assert {future.result(60) for future in reading} == {45}
    assert {future.result(60) for future in copying} == {144}
    assert bytes(memoryview(buffer.open())[:3]) == b"\0\1\2"
    with pytest.raises(TypeError):
        memoryview(buffer.open("r"))[0] = 1
    assert "1000000" in repr(buffer)


def test_a_shared_buffer_lives_as_long_as_a_task_that_carries_it(group: WorkerGroup, tmp_path: Path) -> None:
    buffer = put_buffer(b"x" * 500_000)
    go = str(tmp_path / "go")
    blockers = [group.submit(tasks.wait_for_file, (go,)) for _ in range(2)]
    future = group.submit(write_into, (buffer, "r"))
    del buffer
    others = [put_buffer(b"y" * 500_000) for _ in range(3)]
    Path(go).touch()

    assert future.result(60) == 10 * ord("x")
    assert len(others) == len(blockers) + 1


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("cannot travel")


def make_unpicklable() -> object:
    return Unpicklable()


class Bomb:
    """Travels, and raises when it is loaded."""

    def __init__(self, error: str) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _explode, (self.error,)


def _explode(error: str) -> None:
    raise {"ValueError": ValueError, "SystemExit": SystemExit, "KeyError": KeyError}[error]("boom")


def make_bomb(error: str) -> Bomb:
    return Bomb(error)


def test_what_cannot_be_pickled_fails_its_own_call_only(group: WorkerGroup) -> None:
    before = group.submit(tasks.square, (1,))
    bad_argument = group.submit(tasks.square, (Unpicklable(),))
    bad_result = group.submit(make_unpicklable)
    after = group.submit(tasks.square, (2,))

    error = bad_argument.exception(0)
    assert isinstance(error, SerializationError)
    assert isinstance(error.__cause__, RuntimeError)
    assert "args" in str(error)
    assert "cannot travel" in str(bad_result.exception(60))
    assert [before.result(60), after.result(60)] == [1, 4]


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyError"])
def test_what_raises_when_loaded_fails_its_own_call_only(group: WorkerGroup, error: str) -> None:
    as_argument = group.submit(tasks.square, (Bomb(error),))
    as_result = group.submit(make_bomb, (error,))
    after = group.submit(tasks.square, (2,))

    assert type(as_argument.exception(60)).__name__ == error
    assert type(as_result.exception(60)).__name__ == error
    assert after.result(60) == 4


def test_many_small_results_are_more_than_the_log_holds(group: WorkerGroup) -> None:
    # The flight record has room for a mebibyte of results: 60 kB each stay inline and fill it.
    futures = [group.submit(bytes, (60_000,)) for _ in range(100)]

    assert {len(future.result(60)) for future in futures} == {60_000}


def test_few_descriptors_do_not_stop_large_data(tmp_path: Path) -> None:
    source = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
import numpy as np
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
futures = [group.submit(np.full, (10_000, number)) for number in range(300)]
kept = [future.result(60) for future in futures]
assert [int(array[5]) for array in kept] == list(range(300))
sums = [group.submit(np.sum, (array,)) for array in kept]
print(sum(int(future.result(60)) for future in sums))
"""
    assert run(tmp_path, source) == f"{10_000 * sum(range(300))}\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_more_than_two_gigabytes_go_there_and_back(tmp_path: Path) -> None:
    source = """
import numpy as np
from scalepool.api import WorkerGroup
size = 2**31 + 1
group = WorkerGroup(1)
array = np.zeros(size, dtype=np.uint8)
array[-1] = 7
assert int(group.submit(np.sum, (array,)).result(280)) == 7
del array
back = group.submit(np.ones, (size, np.uint8)).result(280)
assert back.nbytes == size and back[-1] == 1
back[0] = 3
print("done")
"""
    free = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    if free < 8 * 2**30:
        pytest.skip("needs eight gigabytes of free memory")
    assert run(tmp_path, source) == "done\n"
