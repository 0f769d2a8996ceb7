"""A head that is killed and started again loses no session and no result, and gives none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scalepool
import scalepool.multiprocessing as mp
from live.clusters import LONG_S, cluster_of, until, used
from scalepool.errors import SessionError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live.clusters import Cluster

pytestmark = pytest.mark.live


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    """Two hosts, whose head a test kills."""
    cluster.join("one", 2)
    cluster.join("two", 2)
    return cluster


def noted(path: str, number: int) -> int:
    """A task that notes that it has run."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    time.sleep(0.001)
    return number * 2


def ledger(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_every_result_of_a_map_comes_once(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with scalepool.init(cluster.address), mp.Pool() as pool:
        numbers = range(2000)
        coming = pool.starmap_async(noted, [(str(path), number) for number in numbers], chunksize=1)
        for share in (300, 1000):
            until(lambda share=share: len(ledger(path)) > share)
            cluster.restart_head()
        assert coming.get(LONG_S) == [2 * number for number in numbers]
        assert sorted(ledger(path)) == list(numbers)
        # The new head knows all that the old one did.
        report = cluster.report()
        on_hosts = [node["workers"] for node in report["nodes"]]
        assert min(on_hosts) >= 2
        assert [driver["workers"] for driver in report["drivers"]] == [sum(on_hosts)]
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    report = cluster.report()
    assert [node["workers"] for node in report["nodes"]] == [0, 0]
    assert report["drivers"] == []


def test_every_call_of_an_actor_is_made_once(cluster: Cluster) -> None:
    @scalepool.remote
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    with scalepool.init(cluster.address):
        counter = Counter.remote()
        assert scalepool.get(counter.add.remote()) == 1
        restarting = threading.Thread(target=cluster.restart_head)
        restarting.start()
        calls = []
        while restarting.is_alive():
            calls.append(counter.add.remote())
            time.sleep(0.002)
        calls += [counter.add.remote() for _ in range(20)]
        assert scalepool.get(calls, timeout=LONG_S) == list(range(2, len(calls) + 2))
        restarting.join()


def test_large_objects_that_are_under_way_arrive_whole(cluster: Cluster) -> None:
    @scalepool.remote
    def made(number: int) -> Any:
        return np.full(2_000_000, number)

    with scalepool.init(cluster.address):
        refs = [made.remote(number) for number in range(8)]
        restarting = threading.Timer(0.3, cluster.restart_head)
        restarting.start()
        for number, ref in enumerate(refs):
            array = scalepool.get(ref, timeout=LONG_S)
            assert array.shape == (2_000_000,)
            assert (array == number).all()
        restarting.join()
        kept = scalepool.put(np.arange(3_000_000))

        @scalepool.remote
        def total(array: Any) -> int:
            return int(array.sum())

        restarting = threading.Timer(0.05, cluster.restart_head)
        restarting.start()
        assert scalepool.get([total.remote(kept) for _ in range(4)], timeout=LONG_S) == [4_499_998_500_000] * 4
        restarting.join()


def test_what_is_started_without_a_head_waits_for_it(cluster: Cluster) -> None:
    with scalepool.init(cluster.address):
        cluster.head.kill()
        cluster.head.wait()
        with mp.Pool(4) as pool:
            coming = pool.map_async(abs, range(-8, 0), chunksize=1)
            with pytest.raises(mp.TimeoutError):
                coming.get(0.3)
            cluster.restart_head()
            assert coming.get(LONG_S) == list(range(8, 0, -1))


def test_a_host_that_does_not_come_back_with_the_head_counts_as_lost(cluster: Cluster, tmp_path: Path) -> None:
    flag = tmp_path / "runs"

    gone = cluster.agents["two"]
    with scalepool.init(cluster.address), mp.Pool(4) as pool:
        hosts = pool.map(_host, range(40), chunksize=1)
        assert set(hosts) == {"one", "two"}
        doomed = [pool.apply_async(_lingering, (str(flag) + str(number),)) for number in range(4)]
        until(lambda: all(Path(str(flag) + str(number)).exists() for number in range(4)))
        cluster.head.kill()
        cluster.head.wait()
        os.killpg(gone.pid, signal.SIGKILL)
        cluster.restart_head()
        until(lambda: sum(one.ready() for one in doomed) == 2)
        for one in doomed:
            if one.ready():
                with pytest.raises(WorkerDiedError, match="its host left the cluster: it did not come back"):
                    one.get()
        assert set(pool.map(_host, range(10), chunksize=1)) == {"one"}
        pool.terminate()


def _host(_: object) -> str:
    time.sleep(0.05)
    return os.environ["SCALEPOOL_TEST_HOST"]


def test_a_head_that_is_stopped_for_a_while_loses_nobody(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with scalepool.init(cluster.address), mp.Pool() as pool:
        coming = pool.starmap_async(noted, [(str(path), number) for number in range(600)], chunksize=1)
        until(lambda: len(ledger(path)) > 100)
        cluster.head.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        cluster.head.send_signal(signal.SIGCONT)
        assert coming.get(LONG_S) == [2 * number for number in range(600)]
        assert sorted(ledger(path)) == list(range(600))
    assert "joined anew" not in cluster.said("one") + cluster.said("two")


def test_a_program_gives_up_after_the_time_that_was_set(cluster: Cluster) -> None:
    with scalepool.init(cluster.address, reconnect_s=0.2), mp.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        cluster.head.kill()
        cluster.head.wait()
        with pytest.raises(SessionError, match=r"the link to the head at .* was lost: .*within 0.2 seconds"):
            pool.apply_async(time.sleep, (LONG_S,)).get(LONG_S)


# ---- a host alone ----


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose head waits for a host that is lost."""
    with cluster_of(tmp_path, "--host-grace-s", "60") as cluster, used(cluster, monkeypatch):
        yield cluster


def test_a_host_that_falls_silent_is_taken_up_where_it_was_if_that_is_wanted(patient: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    agent = patient.join("one", 2)
    with scalepool.init(patient.address), mp.Pool() as pool:
        coming = pool.starmap_async(noted, [(str(path), number) for number in range(500)], chunksize=1)
        until(lambda: len(ledger(path)) > 100)
        agent.send_signal(signal.SIGSTOP)
        until(lambda: patient.report()["nodes"][0]["away"])
        agent.send_signal(signal.SIGCONT)
        assert coming.get(LONG_S) == [2 * number for number in range(500)]
        assert sorted(ledger(path)) == list(range(500))
    assert "the link to the head is back" in patient.said("one")


def test_a_host_that_falls_silent_joins_anew(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster.agents["two"]
    with scalepool.init(cluster.address), mp.Pool(4) as pool:
        doomed = [pool.apply_async(_lingering, (str(tmp_path / f"runs{number}"),)) for number in range(4)]
        until(lambda: all((tmp_path / f"runs{number}").exists() for number in range(4)))
        agent.send_signal(signal.SIGSTOP)
        until(lambda: sum(one.ready() for one in doomed) == 2)
        agent.send_signal(signal.SIGCONT)
        until(lambda: "it joined anew" in cluster.said("two"))
        until(lambda: len(cluster.report()["nodes"]) == 2)
        for one in doomed:
            if one.ready():
                with pytest.raises(WorkerDiedError, match="its host left the cluster"):
                    one.get()
        # Workers that it had, and nobody knows of any more, are gone.
        until(lambda: not any((cluster.folder / "two").glob("scalepool-*")))
        pool.terminate()
    with scalepool.init(cluster.address), mp.Pool() as pool:
        until(lambda: set(pool.map(_host, range(12), chunksize=1)) == {"one", "two"})


def _lingering(path: str) -> None:
    Path(path).touch()
    time.sleep(LONG_S)


def test_a_program_that_is_stopped_for_a_while_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    script = (
        "import sys\nimport scalepool.multiprocessing as mp\nfrom live.test_restarted_heads import noted\n"
        "with mp.Pool() as pool:\n"
        "    got = pool.starmap(noted, [(sys.argv[1], number) for number in range(2000)], chunksize=1)\n"
        "print(got == [2 * number for number in range(2000)])"
    )
    environ = cluster.driver_environ()
    environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[1])
    driver = subprocess.Popen([sys.executable, "-c", script, str(path)], env=environ, stdout=subprocess.PIPE, text=True)
    until(lambda: len(ledger(path)) > 200)
    driver.send_signal(signal.SIGSTOP)
    until(lambda: cluster.report()["drivers"][0]["away"])
    time.sleep(1.5)  # longer than one whose process has ended is waited for
    driver.send_signal(signal.SIGCONT)
    assert driver.communicate(timeout=LONG_S)[0] == "True\n"
    assert sorted(ledger(path)) == list(range(2000))
