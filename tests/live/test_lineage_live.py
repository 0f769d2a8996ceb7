"""Values that are lost in real sessions: made again where their tasks may run again, else an error that says why."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from scalepool._runtime.session import DriverSession, existing
from scalepool._store.files import in_memory
from scalepool.errors import ObjectLostError, WorkerDiedError
from scalepool.multiprocessing import Pool

np = pytest.importorskip("numpy")

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool import ObjectRef

pytestmark = pytest.mark.live

COUNT = 1 << 17  # a megabyte of float64


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    scalepool.shutdown()
    yield
    scalepool.shutdown()


def _session() -> DriverSession:
    session = existing()
    assert isinstance(session, DriverSession)
    return session


def _damage(*refs: ObjectRef[Any]) -> None:
    """Empty the files that these values lie in, as a damaged disk might."""
    values = _session().client.kept
    assert values is not None
    for ref in refs:
        (slot,) = values.slots([ref])
        assert slot.places, "it is large, and was not read"
        for place in slot.places.values():
            assert place.pid == os.getpid()
            fd = os.open(f"/proc/self/fd/{place.fd}", os.O_RDWR)
            os.ftruncate(fd, 0)
            os.close(fd)


def _ready(refs: Sequence[ObjectRef[Any]]) -> None:
    assert scalepool.wait(refs, num_returns=len(refs), timeout=60)[1] == []


def _count(path: str) -> int:
    """Count the calls of a task; return how many there have been."""
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def _make(path: str, value: float) -> Any:
    _count(path)
    return np.full(COUNT, value)


def _double(array: Any) -> Any:
    return array * 2


def _sum(array: Any) -> float:
    return float(array.sum())


def _pair(path: str) -> tuple[Any, Any]:
    times = _count(path)
    return np.full(COUNT, 1.0), np.full(COUNT, times)


def _dies_after_its_first_result(path: str) -> Any:
    if _count(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.ones(COUNT)


def test_a_lost_value_is_made_again_for_whoever_reads_it(tmp_path: Path) -> None:
    make = scalepool.remote(max_retries=2)(_make)
    ref = make.remote(str(tmp_path / "calls"), 3.0)
    _ready([ref])
    _damage(ref)
    assert (scalepool.get(ref, timeout=60) == 3.0).all()
    assert (tmp_path / "calls").stat().st_size == 2
    assert (scalepool.get(ref) == 3.0).all(), "once is enough"
    assert (tmp_path / "calls").stat().st_size == 2


def test_a_lost_value_is_made_again_for_the_task_that_needs_it(tmp_path: Path) -> None:
    make = scalepool.remote(max_retries=1)(_make)
    ref = make.remote(str(tmp_path / "calls"), 2.0)
    _ready([ref])
    _damage(ref)
    sums = [scalepool.remote(_sum).remote(ref) for _ in range(5)]
    assert scalepool.get(sums, timeout=60) == [2.0 * COUNT] * 5
    assert (tmp_path / "calls").stat().st_size == 2
    assert (scalepool.get(ref) == 2.0).all(), "and the driver knows where it is now"


def test_what_was_forgotten_is_made_again_for_what_was_made_of_it(tmp_path: Path) -> None:
    make = scalepool.remote(max_retries=1)(_make)
    double = scalepool.remote(max_retries=1)(_double)
    first = make.remote(str(tmp_path / "calls"), 1.0)
    last = first
    for _ in range(4):
        last = double.remote(last)
    _ready([last])
    del first
    while len(_session().hub._state.values) > 1:  # until the hub has heard that the others were dropped
        scalepool.wait([scalepool.put(0)])
    _damage(last)
    assert (scalepool.get(last, timeout=60) == 16.0).all()
    assert (tmp_path / "calls").stat().st_size == 2


def test_futures_and_coroutines_wait_for_it_as_well(tmp_path: Path) -> None:
    make = scalepool.remote(max_retries=1)(_make)
    refs = [make.remote(str(tmp_path / f"calls{number}"), 5.0) for number in range(2)]
    _ready(refs)
    _damage(*refs)

    async def read() -> Any:
        return await refs[0]

    assert (asyncio.run(read()) == 5.0).all()
    assert (refs[1].future().result(60) == 5.0).all()


def test_of_several_values_the_lost_one_is_made_again(tmp_path: Path) -> None:
    first, second = scalepool.remote(max_retries=1, num_returns=2)(_pair).remote(str(tmp_path / "calls"))
    _ready([first, second])
    _damage(second)
    assert (scalepool.get(second, timeout=60) == 2.0).all(), "it is that of the second call"
    assert (scalepool.get(first) == 1.0).all()


def test_it_is_not_made_again_more_often_than_allowed(tmp_path: Path) -> None:
    make = scalepool.remote(max_retries=1)(_make)
    ref = make.remote(str(tmp_path / "calls"), 3.0)
    _ready([ref])
    _damage(ref)
    assert scalepool.get(ref, timeout=60)[0] == 3.0
    _damage(ref)
    with pytest.raises(ObjectLostError, match=r"has run 2 times.*max_retries"):
        scalepool.get(ref, timeout=60)
    assert (tmp_path / "calls").stat().st_size == 2


def test_without_retries_the_error_names_the_task_and_the_node(tmp_path: Path) -> None:
    ref = scalepool.remote(_make).remote(str(tmp_path / "calls"), 3.0)
    _ready([ref])
    _damage(ref)
    with pytest.raises(ObjectLostError, match=r"_make is lost.*worker.*max_retries") as caught:
        scalepool.get(ref, timeout=60)
    assert (caught.value.task, caught.value.host) == ("_make", os.uname().nodename)
    with pytest.raises(ObjectLostError, match=r"_make, which _sum needs, is lost"):
        scalepool.get(scalepool.remote(_sum).remote(ref), timeout=60)
    assert (tmp_path / "calls").stat().st_size == 1


def test_what_was_put_is_gone_for_good() -> None:
    ref = scalepool.put(np.ones(COUNT))
    _damage(ref)
    with pytest.raises(ObjectLostError, match=r"put\(ndarray\) is lost: what the driver had made.*put\(\) never"):
        scalepool.get(ref, timeout=60)
    with pytest.raises(ObjectLostError, match=r"put\(ndarray\), which _sum needs"):
        scalepool.get(scalepool.remote(_sum).remote(ref), timeout=60)


class _Keeper:
    def make(self) -> Any:
        return np.ones(COUNT)

    def sum(self, array: Any) -> float:
        return _sum(array)


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_of_actors_wait_for_what_is_made_again(threads: int, tmp_path: Path) -> None:
    actor = scalepool.remote(max_concurrency=threads)(_Keeper).remote()
    ref = scalepool.remote(max_retries=1)(_make).remote(str(tmp_path / "calls"), 2.0)
    own = actor.make.remote()
    _ready([ref, own])
    _damage(ref, own)
    assert scalepool.get([actor.sum.remote(ref), actor.sum.remote(ref)], timeout=60) == [2.0 * COUNT] * 2
    with pytest.raises(ObjectLostError, match=r"_Keeper.make is lost.*calls of actors"):
        scalepool.get(own, timeout=60)


def test_files_on_the_disk_that_are_damaged(tmp_path: Path) -> None:
    scalepool.init(num_cpus=2, object_store_memory="16MiB", spill_limit="1GiB", spill_directory=tmp_path)
    make = scalepool.remote(max_retries=1)(_make)
    refs = [make.remote(str(tmp_path / f"calls{number}"), float(number)) for number in range(30)]
    _ready(refs)
    values = _session().client.kept
    assert values is not None
    places = {ref: next(iter((values.slots([ref])[0].places or {}).values())) for ref in refs}
    on_disk = [ref for ref, place in places.items() if not in_memory(place.fd)]
    assert on_disk
    _damage(*on_disk)
    for number, ref in enumerate(refs):
        assert (scalepool.get(ref, timeout=60) == number).all()


def test_a_worker_that_dies_with_its_result_is_a_matter_of_retries(tmp_path: Path) -> None:
    again = scalepool.remote(max_retries=1)(_dies_after_its_first_result)
    assert scalepool.get(again.remote(str(tmp_path / "a")), timeout=60).sum() == COUNT
    with pytest.raises(WorkerDiedError):
        scalepool.get(again.options(max_retries=0).remote(str(tmp_path / "b")), timeout=60)


def test_a_result_outlives_the_worker_that_made_it(tmp_path: Path) -> None:
    pids = scalepool.remote(lambda: (os.getpid(), np.ones(COUNT)))
    pid_ref, ref = pids.options(num_returns=2).remote()
    _ready([ref])
    os.kill(scalepool.get(pid_ref), signal.SIGKILL)
    assert scalepool.get(scalepool.remote(_sum).remote(ref), timeout=60) == COUNT
    assert scalepool.get(ref).sum() == COUNT


def _damage_what_the_driver_has_made() -> None:
    """Empty the files of all large objects that lie in memory of this process."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if "memfd" in str(entry.readlink()) and entry.stat().st_size >= 8 * COUNT:
                fd = os.open(entry, os.O_RDWR)
                os.ftruncate(fd, 0)
                os.close(fd)
        except OSError:
            continue  # the descriptor of the listing itself


def _wait_for(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.01)
    return 1


def _first(values: Any) -> float:
    return float(values[0].sum())


@pytest.mark.parametrize("nested", [True, False])
def test_an_argument_that_is_lost_before_the_task_begins(nested: bool, tmp_path: Path) -> None:
    scalepool.init(num_cpus=1)
    go = tmp_path / "go"
    blocking = scalepool.remote(_wait_for).remote(str(go))
    array = np.full(COUNT, 2.0)
    ref = scalepool.remote(_first if nested else _sum).remote([array] if nested else array)
    _damage_what_the_driver_has_made()
    go.touch()
    assert scalepool.get(blocking, timeout=60) == 1
    with pytest.raises(
        ObjectLostError, match=r"an argument of this call, or its function, is lost: what the driver had"
    ) as lost:
        scalepool.get(ref, timeout=60)
    assert (lost.value.task, lost.value.host) == ("_first" if nested else "_sum", os.uname().nodename)


def test_an_argument_of_a_pools_call(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with Pool(1) as pool:
        blocking = pool.apply_async(_wait_for, (str(go),))
        result = pool.apply_async(_first, ([np.full(COUNT, 2.0)],))
        _damage_what_the_driver_has_made()
        go.touch()
        assert blocking.get(60) == 1
        with pytest.raises(ObjectLostError, match="an argument of this call"):
            result.get(60)
        assert pool.apply(_first, ([np.full(COUNT, 2.0)],)) == 2.0 * COUNT
