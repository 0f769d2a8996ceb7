"""Large arrays that many tasks carry: written once, always as they are at that moment, private to each task."""

from __future__ import annotations

import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from live import tasks
from live.helpers import run, wait_for
from scalepool._runtime.session import current
from scalepool.api import WorkerGroup, put_buffer
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.multiprocessing import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live

ITEMS = 400_000  # float64: 3.2 MB
NUMBERS = range(20)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2)
    yield pool
    pool.terminate()
    pool.join()


def created() -> int:
    return current().client.store.statistics().created


def in_store() -> int:
    return current().client.store.statistics().objects


def check_in_place(array: np.ndarray, number: int) -> tuple[float, int]:
    """What the array was, after it was overwritten: nobody else may see that."""
    total = float(array.sum())
    array[:] = number
    return total, number


def first_and_last(array: np.ndarray) -> tuple[float, float]:
    return float(array[0]), float(array[-1])


CALLS = {
    "starmap": lambda pool, array: pool.starmap(check_in_place, [(array, n) for n in NUMBERS], chunksize=1),
    "starmap in chunks of its own": lambda pool, array: pool.starmap(check_in_place, [(array, n) for n in NUMBERS]),
    "map with a partial": lambda pool, array: pool.map(partial(check_in_place, array), NUMBERS, chunksize=1),
    "map with a closure": lambda pool, array: pool.map(lambda n: check_in_place(array, n), NUMBERS, chunksize=1),
    "imap": lambda pool, array: list(pool.imap(partial(check_in_place, array), NUMBERS)),
    "apply_async": lambda pool, array: [
        one.get() for one in [pool.apply_async(check_in_place, (array, n)) for n in NUMBERS]
    ],
}


@pytest.mark.parametrize("name", [name for name in CALLS if name != "starmap in chunks of its own"])
def test_each_task_has_the_array_as_it_was_and_nobody_elses(pool: Pool, name: str) -> None:
    array = np.ones(ITEMS)
    for value in (1.0, 2.0):
        array[:] = value
        assert CALLS[name](pool, array) == [(value * ITEMS, number) for number in NUMBERS]
    assert array[5] == 2.0


@pytest.mark.parametrize(
    "name", ["starmap", "starmap in chunks of its own", "map with a partial", "map with a closure", "imap"]
)
def test_one_call_writes_it_once(pool: Pool, name: str) -> None:
    pool.map(tasks.square, NUMBERS)
    array = np.ones(ITEMS)
    before = created()
    CALLS[name](pool, array)
    assert created() == before + 1
    CALLS[name](pool, array)
    assert created() == before + 1
    array[-1] = 7
    CALLS[name](pool, array)
    assert created() == before + 2
    del array
    wait_for(lambda: in_store() == 0)


def test_an_executors_map_writes_it_once_too() -> None:
    with ProcessPoolExecutor(2) as executor:
        array = np.ones(ITEMS)
        executor.submit(tasks.square, 1).result()
        before = created()
        found = list(executor.map(np.dot, [array] * 20, [array] * 20))
        assert created() == before + 1
    assert found == [ITEMS] * 20


def test_calls_that_are_outstanding_share_it_and_changes_make_a_new_one(pool: Pool, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    array = np.zeros(ITEMS)
    before = created()
    results = []
    for number in range(12):
        array[number // 4] = 1
        results.append(pool.apply_async(tasks.wait_for_file, (go, array)))
    assert created() == before + 3
    (tmp_path / "go").touch()
    sums = [result.get(60).sum() for result in results]
    assert sums == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def changing(array: np.ndarray) -> Iterator[np.ndarray]:
    for number in range(30):
        array[:] = number
        yield array


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_array_that_a_generator_fills_anew_is_never_stale(pool: Pool, chunksize: int) -> None:
    array = np.zeros(ITEMS)
    found = list(pool.imap(first_and_last, changing(array), chunksize=chunksize))
    # A chunk holds the same array several times over, as it is when the chunk is full: as with multiprocessing.
    last = [chunksize * (number // chunksize) + chunksize - 1 for number in range(30)]
    assert found == [(number, number) for number in last]


def test_results_are_freed_one_by_one(pool: Pool) -> None:
    arrays = pool.map(partial(np.full, ITEMS), range(4), chunksize=4)
    kept = arrays[2]
    del arrays
    hub: Any = current().hub  # type: ignore[union-attr]
    wait_for(lambda: len(hub._state.objects) == 1)
    assert kept[0] == kept[-1] == 2
    del kept
    wait_for(lambda: len(hub._state.objects) == 0)


def make(number: int) -> np.ndarray:
    return np.full(ITEMS, float(number))


def test_memory_that_results_come_in_again_shows_no_old_bytes(pool: Pool) -> None:
    for round_ in range(6):
        for number, array in enumerate(pool.imap(make, range(10))):
            assert (array == number).all(), round_
            if number % 3 == 0:
                array.fill(-1.0)  # on private pages, which the next result in this memory must not have


def test_handles_views_and_tasks_keep_an_object_together(group: WorkerGroup) -> None:
    buffer = put_buffer(np.arange(ITEMS))
    for _ in range(3):
        assert np.frombuffer(buffer.open(), dtype=int)[-1] == ITEMS - 1
        assert group.submit(tasks.square, (2,)).result(60) == 4  # the hub has heard what was released
    view = buffer.open()
    del buffer
    others = [put_buffer(np.zeros(ITEMS)) for _ in range(3)]
    assert np.frombuffer(view, dtype=int)[-1] == ITEMS - 1
    assert len(others) == 3


def test_a_killed_worker_takes_no_shared_array_along(group: WorkerGroup) -> None:
    array = np.ones(ITEMS)
    good = [group.submit(first_and_last, (array,)) for _ in range(5)]
    bad = group.submit(kill_with, (array,))
    more = [group.submit(first_and_last, (array,)) for _ in range(5)]
    assert [future.result(60) for future in good + more] == [(1.0, 1.0)] * 10
    assert bad.exception(60) is not None
    del array
    wait_for(lambda: in_store() == 0)


def kill_with(array: np.ndarray) -> None:
    assert array[0] == 1
    os.kill(os.getpid(), 9)


def peak(limit: int, count: int) -> str:
    return f"""
import itertools
import numpy as np
from scalepool.api import WorkerGroup, init
from scalepool._runtime.session import current, start
start({{"outstanding_limit_bytes": {limit}}})
group = WorkerGroup(2)
group.start()
store, most = current().client.store, 0
futures = []
for number in range({count}):
    futures.append(group.submit(np.sum, (np.full(500_000, number),)))
    most = max(most, store.statistics().object_bytes)
assert [int(future.result(60)) for future in futures] == [500_000 * number for number in range({count})]
print(most // 4_000_000)
"""


def test_bytes_of_outstanding_arrays_are_bounded(tmp_path: Path) -> None:
    assert 1 <= int(run(tmp_path, peak(limit=10_000_000, count=30))) <= 4


def test_a_large_global_of_the_script_is_sent_once_until_it_changes(tmp_path: Path) -> None:
    source = """
import numpy as np
from live.helpers import wait_for
from scalepool.multiprocessing import Pool
from scalepool._runtime.session import current
data = np.zeros(1_000_000)
def work(number):
    return data[number] + data[-1]
if __name__ == "__main__":
    with Pool(2) as pool:
        store = current().client.store
        for value in (0, 0, 0, 5, 5):
            data[-1] = value
            assert pool.map(work, range(20)) == [value] * 20
            assert [one.get() for one in [pool.apply_async(work, (n,)) for n in range(5)]] == [value] * 5
        print(store.statistics().created)
        wait_for(lambda: store.statistics().objects == 1)
        data = None
        assert pool.map(len, ["abc"]) == [3]
        print(len(current().client.outgoing.held))
"""
    assert run(tmp_path, source) == "2\n0\n"


def test_idle_memory_is_given_back(tmp_path: Path) -> None:
    source = """
import time
import numpy as np
from scalepool.multiprocessing import Pool
from scalepool._runtime.session import current
pool = Pool(2)
array = np.ones(1_000_000)
assert pool.starmap(np.dot, [(array, array)] * 8) == [1e6] * 8
client = current().client
idle = client.store._allocator._idle
idle._limits = idle._limits._replace(idle_s=0.1)
del array
deadline = time.monotonic() + 30
while client.store.statistics().open_fds and time.monotonic() < deadline:
    time.sleep(0.05)
print(client.store.statistics().open_fds, client.store.statistics().idle_bytes)
pool.terminate()
"""
    assert run(tmp_path, source) == "0 0\n"


def test_a_task_that_keeps_an_array_keeps_it_as_it_was() -> None:
    group = WorkerGroup(1, initializer=tasks.remember, initargs=(1,))
    array = np.zeros(ITEMS)
    for number in itertools.count():
        array[:] = number
        group.submit(keep, (array, number)).result(60)
        if number == 6:
            break
    assert group.submit(kept_values).result(60) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    group.terminate()


def keep(array: np.ndarray, number: int) -> None:
    tasks.state.setdefault("arrays", []).append(array)
    assert array[0] == array[-1] == number


def kept_values() -> list[float]:
    assert all((array == array[0]).all() for array in tasks.state["arrays"])
    return [float(array[0]) for array in tasks.state["arrays"]]
