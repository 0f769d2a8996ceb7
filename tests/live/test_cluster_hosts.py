"""Hosts of a cluster: what they offer, how pools follow them, how they leave, and how programs share them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import scalepool
import scalepool.multiprocessing as mp
from live.clusters import LONG_S, until
from scalepool.errors import ResourceError, WorkerDiedError

if TYPE_CHECKING:
    from live.clusters import Cluster

pytestmark = pytest.mark.live


def number_of(cluster: Cluster, zone: str) -> str:
    """All hosts of these tests have one name: they are told apart by a label."""
    return str(next(node["node"] for node in cluster.report()["nodes"] if node["labels"].get("zone") == zone))


def where(seconds: float = 0.05) -> str:
    time.sleep(seconds)
    return os.environ["SCALEPOOL_TEST_HOST"]


def gpus(_: object = None) -> tuple[str, str | None]:
    time.sleep(0.2)
    return os.environ["SCALEPOOL_TEST_HOST"], os.environ.get("CUDA_VISIBLE_DEVICES")


def linger(path: str, seconds: float = LONG_S) -> str:
    with Path(path).open("a") as file:
        file.write(".")
    time.sleep(seconds)
    return os.environ["SCALEPOOL_TEST_HOST"]


def waits_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def linger_once(path: str) -> str:
    """Take long, but not when it is tried again."""
    if not Path(path).exists():
        Path(path).touch()
        time.sleep(LONG_S)
    return os.environ["SCALEPOOL_TEST_HOST"]


def linger_until(mark: str, go: str) -> str:
    Path(mark).touch()
    waits_for(go)
    return os.environ["SCALEPOOL_TEST_HOST"]


class Counts:
    """An actor that knows where it is."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> tuple[str, int]:
        self.count += 1
        return os.environ["SCALEPOOL_TEST_HOST"], self.count


# ---- what hosts offer ----


def test_what_a_task_needs_is_there_on_one_host(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.join("one", 2, "--labels", "zone=a", "--resources", "license=1", "--memory", "1GB")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # of the second host; the program's own says nothing
    cluster.join("two", 1, "--labels", "zone=b,disk=ssd", "--memory", "2GB")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with scalepool.init(cluster.address):
        until(lambda: len(scalepool.nodes()) == 2)
        remote = scalepool.remote(where)
        assert scalepool.cluster_resources() == {"CPU": 3, "GPU": 2, "memory": 3e9, "license": 1}
        assert [node.labels for node in scalepool.nodes()] == [{"zone": "a"}, {"zone": "b", "disk": "ssd"}]
        assert scalepool.nodes()[1].resources == {"CPU": 1, "GPU": 2, "memory": 2e9}
        for options, host in (
            ({"num_cpus": 2}, "one"), ({"resources": {"license": 1}}, "one"), ({"memory": "1.5 GB"}, "two"),
            ({"label_selector": {"zone": "b"}}, "two"), ({"label_selector": {"zone": "a"}}, "one"),
        ):  # fmt: skip
            assert set(scalepool.get([remote.options(**options).remote() for _ in range(3)])) == {host}
        seen = scalepool.get([scalepool.remote(num_gpus=1, num_cpus=0.5)(gpus).remote() for _ in range(6)])
        assert set(seen) == {("two", "4"), ("two", "7")}
        actor = scalepool.remote(Counts).options(label_selector={"disk": "ssd"}).remote()
        assert scalepool.get(actor.add.remote()) == ("two", 1)
        for options, told in (
            ({"num_cpus": 3}, "3 CPU on one of them"), ({"label_selector": {"zone": "c"}}, "label zone=c"),
            ({"num_gpus": 1, "resources": {"license": 1}}, "1 GPU"),
        ):  # fmt: skip
            with pytest.raises(ResourceError, match=told):
                remote.options(**options).remote()


# ---- who follows ----


def test_a_pool_without_a_size_uses_a_host_that_joins(cluster: Cluster) -> None:
    cluster.join("one", 1)
    with scalepool.init(cluster.address), mp.Pool() as pool:
        assert pool.map(where, [0.01]) == ["one"]
        found = pool.imap_unordered(where, [0.05] * 4000)
        started_at = time.monotonic()
        cluster.join("two", 2)
        joined_at = time.monotonic()
        until(lambda: next(found) == "two")
        assert time.monotonic() - joined_at < 5 * max(1.0, joined_at - started_at), "joining itself takes a while here"
        assert len(pool._pool) == 3
        pool.terminate()


def test_a_crowded_pool_of_fixed_size_moves_some_workers(cluster: Cluster) -> None:
    cluster.join("one", 1)
    with scalepool.init(cluster.address), mp.Pool(3) as pool:
        assert len(pool._pool) == 3
        cluster.join("two", 2)
        until(lambda: Counter(pool.map(where, [0.1] * 6, 1))["two"] >= 3)
        until(lambda: [node["workers"] for node in cluster.report()["nodes"]] == [1, 2])
        assert len(pool._pool) == 3
        pool.terminate()


# ---- who leaves ----


def test_a_host_is_drained(cluster: Cluster) -> None:
    one = cluster.join("one", 2, "--labels", "zone=a")
    two = cluster.join("two", 2, "--labels", "zone=b")
    with scalepool.init(cluster.address), mp.Pool(4) as pool:
        assert len(pool._pool) == 4
        found = pool.map_async(where, [0.5] * 12, 1)
        told = cluster.command("drain", number_of(cluster, "b"), cluster.address)
        assert (told.returncode, "has left" in told.stdout) == (0, True), told.stderr
        assert two.wait(LONG_S) == 0
        assert len(found.get(LONG_S)) == 12
        assert set(pool.map(where, [0.01] * 8, 1)) == {"one"}
        pool.terminate()
    assert one.poll() is None
    unknown = cluster.command("drain", "nobody", cluster.address)
    assert (unknown.returncode, "no host with the name 'nobody'" in unknown.stderr) == (1, True)


def test_who_takes_too_long_is_ended_and_tried_again_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    cluster.join("one", 1, "--labels", "zone=a")
    two = cluster.join("two", 2, "--labels", "zone=b")
    with scalepool.init(cluster.address):
        until(lambda: len(scalepool.nodes()) == 2)
        blocked = scalepool.remote(linger).options(label_selector={"zone": "b"})
        marks = [tmp_path / "kept", tmp_path / "lost"]
        lost = blocked.remote(str(marks[1]))
        moved = scalepool.remote(linger_once).options(max_retries=1, num_cpus=1)
        go = tmp_path / "go"
        busy = scalepool.remote(waits_for).options(label_selector={"zone": "a"}).remote(str(go))
        until(marks[1].exists)
        kept = moved.remote(str(marks[0]))  # the other host is full
        until(marks[0].exists)
        go.touch()
        scalepool.get(busy, timeout=LONG_S)
        told = cluster.command("drain", number_of(cluster, "b"), cluster.address, "--timeout-s", "0.5", "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["left"] is True
        assert two.wait(LONG_S) == 0
        with pytest.raises(WorkerDiedError, match="was drained"):
            scalepool.get(lost, timeout=LONG_S)
        assert scalepool.get(kept, timeout=LONG_S) == "one"


def test_what_is_queued_on_the_only_host_waits_for_the_next_one(cluster: Cluster, tmp_path: Path) -> None:
    one = cluster.join("one", 1)
    with scalepool.init(cluster.address), mp.Pool(1) as pool:
        mark, go = tmp_path / "mark", tmp_path / "go"
        running = pool.apply_async(linger_until, (str(mark), str(go)))
        queued = [pool.apply_async(where) for _ in range(5)]
        until(mark.exists)
        (node,) = cluster.report()["nodes"]
        assert cluster.command("drain", str(node["node"]), cluster.address, "--no-wait").returncode == 0
        until(lambda: cluster.report()["nodes"][0]["leaving"])
        queued += [pool.apply_async(where) for _ in range(5)]
        go.touch()
        assert running.get(LONG_S) == "one", "what runs is finished"
        assert one.wait(LONG_S) == 0
        until(lambda: not scalepool.nodes())
        queued += [pool.apply_async(where) for _ in range(5)]
        assert not any(result.ready() for result in queued)
        cluster.join("two", 1)
        assert [result.get(LONG_S) for result in queued] == ["two"] * 15


def test_an_actor_that_may_be_restarted_moves_and_a_detached_one_too(cluster: Cluster) -> None:
    cluster.join("one", 1, "--labels", "zone=a")
    two = cluster.join("two", 8, "--labels", "zone=b")
    with scalepool.init(cluster.address):
        until(lambda: len(scalepool.nodes()) == 2)
        actors = [scalepool.remote(Counts).options(max_restarts=1).remote() for _ in range(4)]
        before = scalepool.get([actor.add.remote() for actor in actors])
        assert ("two", 1) in before
        assert cluster.command("drain", number_of(cluster, "b"), cluster.address).returncode == 0
        assert two.wait(LONG_S) == 0
        after = scalepool.get([actor.add.remote() for actor in actors], timeout=LONG_S)
        assert {host for host, _ in after} == {"one"}
        assert [count for _, count in after] == [1 + (host == "one") for host, _ in before]


def test_a_signal_drains_and_a_second_one_ends_at_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.join("one", 1, "--labels", "zone=a")
    two = cluster.join("two", 1, "--labels", "zone=b")
    with scalepool.init(cluster.address):
        until(lambda: len(scalepool.nodes()) == 2)
        there = scalepool.remote(linger).options(label_selector={"zone": "b"})
        mark = tmp_path / "mark"
        result = there.remote(str(mark), 1.0)
        until(mark.exists)
        two.send_signal(signal.SIGTERM)
        assert scalepool.get(result, timeout=LONG_S) == "two", "what runs is finished"
        assert two.wait(LONG_S) == 0
        two = cluster.join("three", 1, "--labels", "zone=b")
        until(lambda: len(scalepool.nodes()) == 2)
        lost = there.remote(str(tmp_path / "other"))
        until((tmp_path / "other").exists)
        two.send_signal(signal.SIGTERM)
        until(lambda: "leaving" in cluster.said("three"))
        two.send_signal(signal.SIGTERM)
        two.wait(LONG_S)
        with pytest.raises(WorkerDiedError):
            scalepool.get(lost, timeout=LONG_S)


def test_a_host_leaves_by_itself_when_nobody_needs_it_or_its_time_is_over(cluster: Cluster) -> None:
    cluster.join("one", 1)
    idle = cluster.join("two", 1, "--idle-timeout", "0.5")
    old = cluster.join("three", 1, "--lifetime", "0.5")
    assert (idle.wait(LONG_S), old.wait(LONG_S)) == (0, 0)
    until(lambda: len(cluster.report()["nodes"]) == 1)


# ---- who shares ----

_OTHER = """
import sys, time
import scalepool, scalepool.multiprocessing as mp
with scalepool.init(sys.argv[1]), mp.Pool() as pool:
    pool.map_async(time.sleep, [0.05] * 20_000, 1)
    print("running", flush=True)
    sys.stdin.readline()
    pool.terminate()
"""


def test_two_programs_have_half_of_the_slots_each_and_one_has_all(cluster: Cluster) -> None:
    cluster.join("one", 2)
    cluster.join("two", 2)

    def workers() -> list[int]:
        return sorted(one["workers"] for one in cluster.report()["drivers"])

    with scalepool.init(cluster.address), mp.Pool() as pool:
        pool.map_async(where, [0.05] * 20_000, 1)
        until(lambda: workers() == [4])
        other = subprocess.Popen(
            [sys.executable, "-c", _OTHER, cluster.address], env=cluster.environ("other"), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "running\n"
            until(lambda: workers() == [2, 2])
            other.kill()  # what was its own is free
            other.wait(LONG_S)
            until(lambda: workers() == [4])
        finally:
            other.kill()
            other.communicate()
        pool.terminate()
