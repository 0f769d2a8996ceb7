"""Resources in real sessions: as many tasks as fit, GPUs by number (made up), memory that is a limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scalepool
from live import resource_tasks as tasks
from live.helpers import wait_for
from scalepool._runtime.session import DriverSession, existing
from scalepool.errors import ActorUnavailableError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live


def get(refs: Any) -> Any:
    return scalepool.get(refs, timeout=60)


@pytest.fixture(autouse=True)
def own_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scalepool.shutdown()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-89,7")
    yield
    scalepool.shutdown()


def workers() -> int:
    session = existing()
    assert isinstance(session, DriverSession)
    return len(session.hub._state.roster.workers)


def is_free(**amounts: float) -> bool:
    free = scalepool.available_resources()
    return all(free[name] == amount for name, amount in amounts.items())


# ---- how many at once ----


def test_ten_tasks_of_a_tenth_of_a_cpu_run_at_once(tmp_path: Path) -> None:
    scalepool.init(num_cpus=1)
    tenth = tasks.meets.options(num_cpus=0.1)
    assert get([tenth.remote(str(tmp_path), 10) for _ in range(10)]) == [10] * 10


def test_tasks_that_need_no_cpu_run_beside_one_that_has_them_all(tmp_path: Path) -> None:
    scalepool.init(num_cpus=1)
    none, one = tasks.meets.options(num_cpus=0), tasks.meets
    assert get([one.remote(str(tmp_path), 4), *[none.remote(str(tmp_path), 4) for _ in range(3)]]) == [4] * 4


def test_no_more_run_at_once_than_fit(tmp_path: Path) -> None:
    scalepool.init(num_cpus=4, resources={"license": 2})
    for options, most in [({"num_cpus": 2}, 2), ({"resources": {"license": 1}}, 2), ({"resources": {"license": 2}}, 1)]:
        call = tasks.counts_inside.options(**options)
        assert max(get([call.remote(str(tmp_path), 0.05) for _ in range(8)])) <= most
    wait_for(lambda: is_free(CPU=4, license=2))


def test_sizes_mix(tmp_path: Path) -> None:
    scalepool.init(num_cpus=3)
    small, large = tasks.counts_inside, tasks.counts_inside.options(num_cpus=3)
    refs = [small.remote(str(tmp_path), 0.02) for _ in range(60)]
    last = large.remote(str(tmp_path), 0.02)
    assert get(last) == 1, "it had the three CPUs for itself"
    assert max(get(refs)) <= 3


def test_nested_tasks_with_one_cpu() -> None:
    scalepool.init(num_cpus=1)
    assert get(tasks.parent.remote(4)) == 31
    wait_for(lambda: is_free(CPU=1))


def test_what_a_task_sees_of_the_session() -> None:
    scalepool.init(num_cpus=2, resources={"license": 1}, memory="1GB")
    free, total, nodes = get(tasks.free_inside.options(resources={"license": 0.25}).remote())
    assert total == {"CPU": 2.0, "GPU": 3.0, "memory": 1e9, "license": 1.0}
    assert (free["CPU"], free["license"], nodes) == (1.0, 0.75, 1)


# ---- what can never run ----


def test_more_than_there_is_fails_where_the_call_is_made() -> None:
    scalepool.init(num_cpus=2)
    with pytest.raises(ResourceError, match=r"parent can never run: it needs 3 CPU, and the session has 2 CPU"):
        tasks.parent.options(num_cpus=3).remote(0)
    with pytest.raises(ResourceError, match=r"4 GPU, and the session has 3 GPU"):
        tasks.on_gpu.options(num_gpus=4).remote()
    with pytest.raises(ResourceError, match=r"Holder\(\) can never run: it needs 1 license"):
        tasks.Holder.options(resources={"license": 1}).remote()
    with pytest.raises(TypeError, match="num_cpus"):
        tasks.Holder.options(num_cpus="two")
    assert get(tasks.parent.remote(0)) == 1


# ---- GPUs ----


def test_each_task_has_its_own_gpu() -> None:
    scalepool.init(num_cpus=4)
    found = get([tasks.on_gpu.remote(0.3) for _ in range(3)])
    assert {visible for visible, _, _ in found} == {"2", "GPU-89", "7"}
    assert {ids[0] for _, ids, _ in found} == {2, "GPU-89", 7}
    again = get([tasks.on_gpu.remote() for _ in range(9)])
    assert {(visible, pid) for visible, _, pid in again} <= {(visible, pid) for visible, _, pid in found}


def test_several_gpus_and_parts_of_them() -> None:
    scalepool.init(num_cpus=4)
    visible, ids, _ = get(tasks.on_gpu.options(num_gpus=2).remote())
    assert (visible, ids) == ("2,GPU-89", [2, "GPU-89"])
    halves = get([tasks.on_gpu.options(num_gpus=0.5).remote(0.3) for _ in range(2)])
    assert len({visible for visible, _, _ in halves}) == 1
    assert len({pid for _, _, pid in halves}) == 2


def test_who_asks_for_no_gpu_sees_none_and_pools_see_all() -> None:
    scalepool.init(num_cpus=2)
    visible, ids, _ = get(tasks.plain.remote())
    assert (visible, ids) == ("", [])
    assert scalepool.get_gpu_ids() == []
    from scalepool.multiprocessing import Pool

    with Pool(1) as pool:
        assert pool.apply(os.getenv, ("CUDA_VISIBLE_DEVICES",)) == "2,GPU-89,7"
    assert get(tasks.plain.remote())[0] == ""


def test_a_session_without_gpus_leaves_the_variable_alone() -> None:
    scalepool.init(num_cpus=1, num_gpus=0)
    assert get(tasks.plain.remote())[0] == "2,GPU-89,7"


def test_more_gpus_than_the_environment_leaves() -> None:
    with pytest.raises(ValueError, match=r"num_gpus=4, but CUDA_VISIBLE_DEVICES='2,GPU-89,7' leaves 3"):
        scalepool.init(num_gpus=4)
    assert not scalepool.is_initialized()


# ---- memory ----


def test_a_task_gets_the_memory_that_it_asked_for_and_no_more() -> None:
    scalepool.init(num_cpus=1)
    _, pid = get(tasks.takes.remote(50_000_000))
    with pytest.raises(MemoryError, match=r"takes needs more than the 150 MB that it asked for with memory="):
        get(tasks.takes.remote(400_000_000))
    assert get(tasks.takes.remote(50_000_000)) == (1, pid), "its process lives on"
    assert get(tasks.takes.options(memory=None).remote(400_000_000))[0] == 1


def test_shared_memory_does_not_count() -> None:
    scalepool.init(num_cpus=1)
    large = scalepool.put(np.ones(400_000_000, dtype=np.uint8))
    assert get(tasks.takes.remote(1000, large))[0] == 2


def test_memory_is_shared_out() -> None:
    scalepool.init(num_cpus=4, memory="200MB")
    wait_for(lambda: is_free(memory=2e8))
    with pytest.raises(ResourceError, match=r"needs 300 MB memory, and the session has 200 MB memory"):
        tasks.takes.options(memory="300MB").remote(1)


# ---- actors ----


def test_an_actor_holds_what_it_asked_for_until_it_ends() -> None:
    scalepool.init(num_cpus=2)
    holder = tasks.Holder.options(num_cpus=1, num_gpus=1, resources={}).remote()
    visible, ids, _ = get(holder.own.remote())
    assert (visible, ids) == ("2", [2])
    assert is_free(CPU=1, GPU=2)
    assert get(tasks.on_gpu.remote())[0] == "GPU-89"
    scalepool.kill(holder)
    wait_for(lambda: is_free(CPU=2, GPU=3))


def test_an_actor_that_asks_for_nothing_holds_nothing() -> None:
    scalepool.init(num_cpus=1)
    holders = [tasks.Holder.remote() for _ in range(3)]
    assert [visible for visible, _, _ in get([holder.own.remote() for holder in holders])] == [""] * 3
    assert is_free(CPU=1, GPU=3)


def test_an_actor_waits_for_its_gpu() -> None:
    scalepool.init(num_cpus=2, num_gpus=1)
    first = tasks.Holder.options(num_gpus=1).remote()
    assert get(first.own.remote())[0] == "2"
    second = tasks.Holder.options(num_gpus=1).remote()
    waiting = second.own.remote()
    assert scalepool.wait([waiting], timeout=0.3)[0] == []
    scalepool.kill(first)
    assert get(waiting)[0] == "2"


def test_an_actor_that_begins_anew_gets_what_it_asked_for_again() -> None:
    scalepool.init(num_cpus=2, num_gpus=1)
    holder = tasks.Holder.options(num_gpus=1, max_restarts=1).remote()
    _, _, pid = get(holder.own.remote())
    with pytest.raises(ActorUnavailableError):
        get(holder.die.remote())
    visible, _, again = get(holder.own.remote())
    assert visible == "2"
    assert again != pid
    assert is_free(GPU=0)


def test_an_actor_has_the_memory_that_it_asked_for() -> None:
    scalepool.init(num_cpus=1)
    holder = tasks.Holder.options(memory="150MB").remote()
    assert get(holder.take.remote(50_000_000)) == 1
    with pytest.raises(MemoryError):
        get(holder.take.remote(400_000_000))
    assert get(holder.take.remote(50_000_000)) == 1


# ---- processes ----


def test_no_process_is_left_for_every_kind_of_task() -> None:
    scalepool.init(num_cpus=2, num_gpus=2)
    for gpus in (1, 0.5, 2, 1, 0.25):
        get([tasks.on_gpu.options(num_gpus=gpus).remote() for _ in range(4)])
    # Idle processes give way to those that need their GPUs, whose memory they keep: at most one for each quarter.
    wait_for(lambda: workers() <= 8)
