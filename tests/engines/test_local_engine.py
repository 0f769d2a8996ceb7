"""The local engine: real workers from zygotes, one zygote for each set of thread limits."""

from __future__ import annotations

import os
import queue
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._proc.context import ProcessContext
from scalepool._proc.death import Exited, Started, ZygoteDied
from scalepool._proc.spawn import Zygote, ZygoteOptions
from scalepool._runtime.spec import WorkerSpec
from scalepool._store.plan import StorePlan
from scalepool.config import Settings
from scalepool.engines.local import LocalEngine, worth_sharing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

PATIENCE_S = 60.0


class Bench:
    def __init__(self, folder: str, first: Zygote | None = None) -> None:
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        (Path(folder) / "hub").touch()
        # No hub listens there: the workers connect, wait, and stay.
        address = f"ipc://{folder}/hub"
        self.engine = LocalEngine(StorePlan(folder), address, "00" * 16, Settings(), self.events.put, first)

    def spec(self, threads: int) -> bytes:
        return WorkerSpec({"OMP_NUM_THREADS": str(threads)}, ProcessContext.capture().encode()).encode()

    def start(self, worker: int, threads: int = 1) -> Started:
        assert self.engine.start(worker, self.spec(threads)) is None
        event = self.events.get(timeout=PATIENCE_S)
        assert isinstance(event, Started)
        assert event.worker_id == worker
        return event


@pytest.fixture
def first() -> Zygote | None:
    return None


@pytest.fixture
def bench(first: Zygote | None) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="eng-") as folder:
        bench = Bench(folder, first)
        yield bench
        pids = [fate.pid for fate in bench.engine.fates.values()]
        bench.engine.close()
        assert bench.engine.fates == {}
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_workers_with_the_same_limits_share_a_zygote(bench: Bench) -> None:
    one, two, other = bench.start(1), bench.start(2), bench.start(3, threads=2)

    assert parent_of(one.pid) == parent_of(two.pid) != parent_of(other.pid)
    assert os.getpid() not in (parent_of(one.pid), parent_of(other.pid))
    assert set(bench.engine.fates) == {1, 2, 3}
    assert bench.engine.fates[1].flight.running() == ()


@pytest.mark.parametrize(("force", "number"), [(True, -9), (False, -15)])
def test_a_killed_worker_is_reported_and_buried(bench: Bench, force: bool, number: int) -> None:
    started = bench.start(1)
    bench.engine.kill(1, force=force)

    assert bench.events.get(timeout=PATIENCE_S) == Exited(1, started.pid, number)
    bench.engine.bury(1)
    bench.engine.bury(1)
    assert 1 not in bench.engine.fates
    bench.engine.kill(1, force=True)  # nobody there: nothing happens


def test_a_dead_zygote_is_replaced(bench: Bench) -> None:
    started = bench.start(1)
    os.kill(parent_of(started.pid), 9)
    kinds = {type(bench.events.get(timeout=PATIENCE_S)) for _ in range(2)}
    bench.engine.bury(1)

    assert kinds == {ZygoteDied, Exited}
    assert bench.start(2).pid != started.pid


def test_prepare_starts_the_zygote_only(bench: Bench) -> None:
    bench.engine.prepare({"OMP_NUM_THREADS": "1"})

    assert bench.engine.fates == {}
    bench.start(1)


class TestWithAZygoteThatWasStartedBefore:
    @pytest.fixture
    def first(self) -> Zygote:
        return Zygote(ZygoteOptions())

    def test_it_is_used_for_what_is_asked_first(self, bench: Bench, first: Zygote) -> None:
        one, other = bench.start(1, threads=3), bench.start(2)

        assert parent_of(one.pid) == first.pid != parent_of(other.pid)

    def test_it_ends_with_the_engine_even_if_nothing_is_asked(self, bench: Bench, first: Zygote) -> None:
        bench.engine.close()

        assert not Path(f"/proc/{first.pid}").exists()

    def test_one_that_has_died_is_replaced(self, bench: Bench, first: Zygote) -> None:
        os.kill(first.pid, 9)
        assert isinstance(bench.events.get(timeout=PATIENCE_S), ZygoteDied)

        assert parent_of(bench.start(1).pid) != first.pid


def test_a_zygote_loads_what_the_driver_has_and_workers_may_want() -> None:
    loaded = [
        "sys", "pathlib", "mymodule", "numpy", "numpy.linalg", "scipy", "scipy.sparse", "scipy._lib",
        "scipy.sparse.csgraph", "sklearn.ensemble", "sklearn",
    ]  # fmt: skip
    assert worth_sharing(loaded, numeric=False) == ["pathlib"]
    assert worth_sharing(loaded, numeric=True) == [
        "pathlib", "numpy", "scipy", "sklearn", "scipy.sparse", "sklearn.ensemble",
    ]  # fmt: skip
