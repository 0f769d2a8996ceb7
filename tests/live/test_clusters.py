"""Sessions whose workers are on other hosts: what works locally works there, and whoever dies is noticed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest

import scalepool
import scalepool.multiprocessing as mp
from live.clusters import LONG_S, cluster_of, until, used
from scalepool._net.keys import ClusterKeys, write_keys
from scalepool.concurrent.futures import ProcessPoolExecutor
from scalepool.errors import AuthenticationError, KeyFileError, ResourceError, SessionError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live.clusters import Cluster

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that tests leave as it is."""
    with cluster_of(tmp_path_factory.mktemp("cluster"), one=2, two=2) as cluster:
        yield cluster


@pytest.fixture
def session(two_hosts: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A session on that cluster."""
    with used(two_hosts, monkeypatch), scalepool.init(two_hosts.address):
        yield two_hosts


def where(_: object = None) -> str:
    time.sleep(0.05)
    return os.environ["SCALEPOOL_TEST_HOST"]


def die(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def doubled(array: Any) -> Any:
    array *= 2  # an argument is private, wherever it comes from
    return array


def linger(path: str) -> int:
    Path(path).touch()
    time.sleep(LONG_S)
    return 1


# ---- the same code, one address ----


def test_a_pool_is_as_large_as_the_cluster_and_uses_all_of_its_hosts(session: Cluster) -> None:
    assert mp.cpu_count() == 4
    assert {node.host_name for node in scalepool.nodes()} == {socket.gethostname()}
    assert scalepool.cluster_resources()["CPU"] == 4
    with mp.Pool() as pool:
        hosts = pool.map(where, range(12), chunksize=1)
        assert set(hosts) == {"one", "two"}
        assert pool.map(abs, range(-5000, 0)) == list(range(5000, 0, -1))
        assert [*pool.imap_unordered(abs, [-1])] == [1]


def test_executors_joblib_remote_functions_and_actors(session: Cluster) -> None:
    with ProcessPoolExecutor() as executor:
        assert executor._max_workers == 4
        assert [*executor.map(pow, range(5), range(5))] == [1, 1, 4, 27, 256]
    with joblib.parallel_config("scalepool"):
        assert joblib.Parallel(n_jobs=-1)(joblib.delayed(abs)(one) for one in (-1, -2)) == [1, 2]

    @scalepool.remote
    def plus(one: int, other: int) -> int:
        return one + other

    @scalepool.remote
    def tree(depth: int) -> int:
        return 1 if not depth else sum(scalepool.get([tree.remote(depth - 1) for _ in range(2)]))

    @scalepool.remote
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, number: int) -> int:
            self.count += number
            return self.count

    assert scalepool.get(plus.remote(plus.remote(1, 2), 3)) == 6
    assert scalepool.get(tree.remote(3)) == 8
    counter = Counter.remote()
    assert scalepool.get([counter.add.remote(1) for _ in range(20)]) == list(range(1, 21))


def test_large_arrays_come_and_go_whole(session: Cluster) -> None:
    rng = np.random.default_rng(1)
    array = rng.random(3_000_001)  # no whole number of chunks
    with mp.Pool(4) as pool:
        for result in pool.map(doubled, [array] * 6, chunksize=1):
            np.testing.assert_array_equal(result, array * 2)

    @scalepool.remote
    def total(*arrays: Any) -> float:
        return float(sum(array.sum() for array in arrays))

    @scalepool.remote
    def made(number: int) -> Any:
        return np.full(500_000, number)

    kept = scalepool.put(array)
    assert scalepool.get([total.remote(kept) for _ in range(8)]) == pytest.approx([array.sum()] * 8)
    # Made on one host, used on any.
    parts = [made.remote(number) for number in range(6)]
    assert scalepool.get([total.remote(*parts) for _ in range(4)]) == [500_000 * 15.0] * 4


def test_what_is_no_longer_needed_is_let_go_on_every_host(session: Cluster) -> None:
    def segments() -> int:
        found = 0
        for pid in session.agent_pids():
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    found += "scalepool" in str(fd.readlink()) and "memfd" in str(fd.readlink())
                except OSError:
                    continue
        return found

    with mp.Pool(4) as pool:
        pool.map(where, range(8), chunksize=1)
        before = segments()
        for _ in range(5):
            pool.map(doubled, [np.ones(300_000) for _ in range(4)], chunksize=1)
        until(lambda: pool.map(abs, [1]) and segments() <= before + 4)


def test_errors_output_and_initializers(session: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    def divide(number: int) -> float:
        print(f"dividing by {number}")
        return 1 / number

    with mp.Pool(2, initializer=abs, initargs=(-1,)) as pool:
        with pytest.raises(ZeroDivisionError) as caught:
            pool.map(divide, [1, 0])
        assert "divide" in str(caught.value.__cause__)
        output = ""

        def heard() -> bool:
            nonlocal output
            pool.map(abs, [1])
            output += capfd.readouterr().out
            return "dividing by 0" in output

        until(heard)


def test_what_cannot_be_had_is_said(session: Cluster) -> None:
    @scalepool.remote(num_cpus=64)
    def wide() -> None:
        return None

    with pytest.raises(ResourceError):
        wide.remote()
    with pytest.raises(SessionError, match=r"call scalepool\.shutdown"):
        scalepool.init("tcp://127.0.0.1:1")
    scalepool.shutdown()
    with pytest.raises(SessionError, match="num_cpus= is for a session of this host"):
        scalepool.init(session.address, num_cpus=3)
    scalepool.init(session.address)


def test_the_environment_alone_is_enough(two_hosts: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    scalepool.shutdown()
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(two_hosts.keys))
    monkeypatch.setenv("SCALEPOOL_ADDRESS", two_hosts.address)
    with mp.Pool() as pool:
        until(lambda: set(pool.map(where, range(12), chunksize=1)) == {"one", "two"})
    scalepool.shutdown()


def test_two_programs_at_once_do_not_meet(session: Cluster) -> None:
    script = (
        "import scalepool.multiprocessing as mp\nwith mp.Pool(2) as pool: print(sum(pool.map(abs, range(-100, 0))))"
    )
    with mp.Pool(2) as pool:
        ours = pool.map_async(where, range(20), chunksize=1)
        theirs = session.run(script)
        assert (theirs.returncode, theirs.stdout) == (0, "5050\n"), theirs.stderr
        assert len(ours.get(LONG_S)) == 20


# ---- who may ----


def test_without_the_right_keys_nobody_comes_in(
    two_hosts: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalepool.shutdown()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SCALEPOOL_KEY_FILE", raising=False)
    with pytest.raises(KeyFileError, match="scalepool keys new"):
        scalepool.init(two_hosts.address)
    others = tmp_path / "others.json"
    write_keys(str(others), ClusterKeys.generate())
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(others))
    with pytest.raises(AuthenticationError):
        scalepool.init(two_hosts.address)
    with pytest.raises(ValueError, match="tcp://host:port"):
        scalepool.init("somewhere")
    assert not scalepool.is_initialized()


def test_a_cluster_without_hosts_says_so(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEPOOL_START_TIMEOUT_S", "0.5")
    with pytest.raises(SessionError, match=f"has no hosts.*scalepool worker {cluster.address}"):
        scalepool.init(cluster.address)


# ---- whoever dies ----


def test_a_worker_that_dies_is_blamed_and_replaced(session: Cluster) -> None:
    with ProcessPoolExecutor(2) as executor:
        dead = executor.submit(die)
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            dead.result(LONG_S)
    with mp.Pool(2) as pool:
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))


def test_a_host_that_is_lost_fails_what_it_ran_and_others_go_on(cluster: Cluster, tmp_path: Path) -> None:
    cluster.join("one", 1)
    scalepool.init(cluster.address)
    flag = tmp_path / "runs"
    with mp.Pool(1) as pool:
        doomed = pool.apply_async(linger, (str(flag),))
        until(flag.exists)
        cluster.join("two", 1)
        os.killpg(cluster.agent_pids()[0], signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="its host left the cluster"):
            doomed.get(LONG_S)
        assert pool.apply(where) == "two"


def test_when_the_head_dies_for_good_everybody_gives_up_in_the_end(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALEPOOL_RECONNECT_S", "0.5")
    agent = cluster.join("one", 1)
    scalepool.init(cluster.address)
    flag = tmp_path / "runs"
    with mp.Pool(1) as pool:
        doomed = pool.apply_async(linger, (str(flag),))
        worker = pool.apply_async(os.getpid)
        until(flag.exists)
        cluster.head.kill()
        with pytest.raises(SessionError, match=r"the link to the head at .* was lost: .* within 0.5 seconds"):
            doomed.get(LONG_S)
        with pytest.raises(SessionError):
            worker.get(LONG_S)
    assert agent.wait(LONG_S) == 1
    assert "was lost" in cluster.said("one")
    with ProcessPoolExecutor(1) as executor, pytest.raises(SessionError, match="was lost"):
        executor.submit(abs, 1).result(LONG_S)


def test_when_a_driver_dies_its_workers_do(cluster: Cluster, tmp_path: Path) -> None:
    cluster.join("one", 2)
    script = (
        "import sys, time, os, scalepool.multiprocessing as mp\n"
        "def run(_):\n print(os.getpid(), file=open(sys.argv[1] + str(_), 'w'), flush=True)\n time.sleep(600)\n"
        "mp.Pool(2).map(run, range(2), chunksize=1)"
    )
    flag = str(tmp_path / "pid")
    driver = subprocess.Popen([sys.executable, "-c", script, flag], env=cluster.driver_environ())
    pids = [int(until(lambda at=at: Path(flag + at).exists() and Path(flag + at).read_text().strip())) for at in "01"]
    driver.kill()
    driver.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    report = cluster.report()
    assert report["drivers"] == []
    assert [node["workers"] for node in report["nodes"]] == [0]
    assert not [*(cluster.folder / "one").glob("scalepool-*")]


def test_ctrl_c_leaves_a_pool_and_a_cluster_that_work(cluster: Cluster) -> None:
    cluster.join("one", 2)
    script = (
        "import os, signal, time, threading, scalepool.multiprocessing as mp\n"
        "with mp.Pool(2) as pool:\n"
        " pool.map(abs, range(4))\n"
        " threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        " try:\n  pool.map(time.sleep, [600, 600], chunksize=1)\n"
        " except KeyboardInterrupt:\n  print('interrupted')\n"
    )
    driver = cluster.run(script)
    assert (driver.returncode, driver.stdout) == (0, "interrupted\n"), driver.stderr
    scalepool.init(cluster.address)
    with mp.Pool(2) as pool:
        assert pool.map(abs, [-1]) == [1]


# ---- the verbs ----


def test_status_and_down(cluster: Cluster) -> None:
    agent = cluster.join("one", 3)
    shown = cluster.command("status", str(cluster.file))
    assert shown.returncode == 0
    assert "1 host with room for 3 workers, 0 running; 0 programs" in shown.stdout
    assert cluster.file.stat().st_mode & 0o777 == 0o600
    ended = cluster.command("down", str(cluster.file))
    assert (ended.returncode, ended.stdout) == (0, "The cluster is down.\n"), ended.stderr
    assert cluster.head.wait(LONG_S) == 0
    assert agent.wait(LONG_S) == 0
    assert not cluster.file.exists()
    gone = cluster.command("status", cluster.address)
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr


def test_a_head_that_others_could_reach_does_not_start_without_keys(cluster: Cluster) -> None:
    environ = cluster.environ("nobody")
    del environ["SCALEPOOL_KEY_FILE"]
    command = [sys.executable, "-m", "scalepool", "head", "--bind", "0.0.0.0", "--port", "0"]
    refused = subprocess.run(command, env=environ, text=True, capture_output=True, timeout=LONG_S, check=False)
    assert refused.returncode == 1
    assert "refusing to listen at 0.0.0.0" in refused.stderr
    assert "scalepool keys new" in refused.stderr
