"""Clusters on several hosts: separate networks, processes and folders; what goes over the wire is all they share."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.clusters import until
from live.hosts import ROOT, HostCluster

if TYPE_CHECKING:
    from live.hosts import Host, Network

pytestmark = [pytest.mark.live, pytest.mark.slow]

WHO = """
import json, os, socket, sys, time
import numpy as np
import scalepool
import scalepool.multiprocessing as mp

def where(_=None):
    time.sleep(0.05)
    return socket.gethostname()

def doubled(array):
    return array * 2

if __name__ == "__main__":
    with mp.Pool() as pool:
        hosts = sorted(set(pool.map(where, range(24), chunksize=1)))
        total = sum(pool.map(abs, range(-1000, 0)))
        array = np.arange(400_000.0)
        same = all((one == array * 2).all() for one in pool.map(doubled, [array] * 4, chunksize=1))
    print(json.dumps([mp.cpu_count(), hosts, total, bool(same)]))
"""


def answer(cluster: HostCluster, user: Host, address: str = "") -> list[object]:
    program = cluster.program(user, WHO, address=address)
    found: list[object] = json.loads(program.line())
    assert program.wait() == 0, program.said()
    return found


# ---- who can reach whom ----


def test_a_first_cluster_as_documented_and_what_is_left_of_it(network: Network) -> None:
    cluster = HostCluster(network)
    one, two, user = (network.host(name) for name in ("one", "two", "user"))
    assert f" is at {cluster.address};" in cluster.greeting
    for host in (one, two):
        cluster.join(host, 2)
    assert answer(cluster, user) == [4, ["one", "two"], 500_500, True]
    # From a host that has nothing but the keys.
    other = network.host("other")
    cluster.give_keys(other)
    shown = other.verb("status", cluster.address)
    assert shown.returncode == 0, shown.stderr
    assert "2 hosts with room for 4 workers, 0 running; 0 programs" in shown.stdout
    assert cluster.host.listening() == [7877]
    for host in (one, two):
        # Workers of a program that has ended end within moments.
        until(lambda host=host: len(host.processes()) == 1 and not host.left())
    assert user.listening() == user.left() == user.processes() == []
    assert other.verb("down", cluster.address).returncode == 0
    assert cluster.process.wait() == 0
    for host in (one, two):
        assert cluster.agents[host.name].wait() == 0
        until(lambda host=host: not host.processes())
    for host in (cluster.host, one, two, user, other):
        assert (host.left(), host.listening()) == ([], [])
        assert [entry.name for entry in host.path("/tmp/home/.scalepool").iterdir()] == ["keys.json"]


def test_an_address_that_others_can_reach_needs_keys(network: Network) -> None:
    head = network.host("head")
    for bind in (head.address, "0.0.0.0", "::", head.address6):
        refused = head.verb("head", "--bind", bind)
        assert refused.returncode == 1
        assert f"refusing to listen at {bind}" in refused.stderr
        assert "scalepool keys new" in refused.stderr
    assert not head.path("/tmp/home/.scalepool").exists()


def test_hosts_that_reach_nobody_but_the_head(network: Network) -> None:
    cluster = HostCluster(network)
    hosts = [network.host(name, only=(cluster.host,)) for name in ("one", "two", "three")]
    user = network.host("user", only=(cluster.host,))
    unreachable = "import socket,sys\nsocket.create_connection((sys.argv[1], 9), 0.5)"
    assert "Network is unreachable" in hosts[0].command(sys.executable, "-c", unreachable, hosts[1].address).stderr
    for host in hosts:
        cluster.join(host, 1)
    assert answer(cluster, user) == [3, ["one", "three", "two"], 500_500, True]
    made = cluster.program(user, MADE_THERE)
    assert made.line() == "True", made.said()
    assert made.wait() == 0


def test_hosts_and_programs_behind_nat(network: Network) -> None:
    cluster = HostCluster(network)
    inside = network.behind(network.host("gateway"), "inside1")
    user = network.behind(network.host("gateway2"), "inside2")
    cluster.join(inside, 2)
    assert answer(cluster, user) == [2, ["inside1"], 500_500, True]
    assert inside.address == user.address  # nobody could dial it


@pytest.mark.parametrize("bind", ["::", "own"])
def test_over_ipv6(network: Network, bind: str) -> None:
    head = network.host("head")
    cluster = HostCluster(network, host=head, bind=head.address6 if bind == "own" else bind)
    address = f"tcp://[{head.address6}]:7877"
    assert (address if bind == "own" else "tcp://head:7877") in cluster.greeting
    one, user = network.host("one"), network.host("user")
    cluster.join(one, 2, address=address)
    if bind == "::":  # which is both
        cluster.join(network.host("two"), 1, address=f"tcp://{head.address}:7877")
    hosts = ["one", "two"] if bind == "::" else ["one"]
    assert answer(cluster, user, address) == [1 + len(hosts), hosts, 500_500, True]


MADE_THERE = """
import numpy as np, scalepool

@scalepool.remote
def made(number):
    return np.full(300_000, float(number))

@scalepool.remote
def total(*arrays):
    return sum(float(one.sum()) for one in arrays)

if __name__ == "__main__":
    parts = [made.remote(number) for number in range(6)]
    print(scalepool.get([total.remote(*parts) for _ in range(6)]) == [15 * 300_000.0] * 6)
"""


# ---- the hosts themselves ----


def test_nothing_is_left_of_hosts_whose_maker_was_killed(network: Network, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom live.hosts import HostCluster, Network\n"
        "network = Network(Path(sys.argv[1]))\ncluster = HostCluster(network)\ncluster.join(network.host('one'))\n"
        "print(*[host.pid for host in network._hosts.values()], *[cluster.process.pid], flush=True)\ninput()"
    )
    path = os.pathsep.join(str(ROOT / folder) for folder in ("tests", "."))
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "others")], env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as maker:  # fmt: skip
        pids = [int(pid) for pid in maker.stdout.readline().split()]  # type: ignore[union-attr]
        assert len(pids) == 4
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        maker.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_hosts_share_nothing_but_the_wire(network: Network) -> None:
    one, two = network.host("one"), network.host("two")
    assert one.command("hostname").stdout == "one\n"
    for folder in ("/tmp", "/dev/shm"):
        one.path(f"{folder}/file").touch()
        assert not two.path(f"{folder}/file").exists()
        assert not Path(folder, "file").exists()
    assert one.left() == ["/dev/shm/file", "/tmp/file"]
    assert one.processes() == []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = "import socket,sys\nsocket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        port = str(listener.getsockname()[1])
        assert "ConnectionRefusedError" in one.command(sys.executable, "-c", connect, port).stderr


COUNTED = """
import os, sys, time
import scalepool.multiprocessing as mp

def noted(number):
    with open("/tmp/ledger", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.002)
    return 2 * number

if __name__ == "__main__":
    with mp.Pool() as pool:
        pool.map(noted, range(-8, 0), chunksize=1)
        print("begun", flush=True)
        got = pool.map(noted, range(2000), chunksize=1)
    print(got == [2 * number for number in range(2000)])
"""


def ran_on(host: Host) -> list[int]:
    ledger = host.path("/tmp/ledger")
    return [int(line) for line in ledger.read_text().split()] if ledger.exists() else []


@pytest.mark.parametrize("cut", ["head", "user"])
def test_a_network_that_is_cut_for_a_while_loses_nothing_and_runs_nothing_twice(network: Network, cut: str) -> None:
    cluster = HostCluster(network)
    hosts = one, two = network.host("one"), network.host("two")
    user = network.host("user")
    for host in hosts:
        cluster.join(host, 2)
    program = cluster.program(user, COUNTED)
    assert program.line() == "begun", program.said()
    dark = cluster.host if cut == "head" else user
    until(lambda: sum(len(ran_on(host)) for host in hosts) > 300)
    network.cut(dark)
    time.sleep(5.0)
    network.heal(dark)
    assert program.line() == "True", program.said()
    assert program.wait() == 0
    assert sorted(ran_on(one) + ran_on(two)) == list(range(-8, 2000))
