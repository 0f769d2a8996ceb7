"""What networks and hosts do to a cluster: cables are pulled, processes stand still, links are slow, clocks wrong."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from live.clusters import until
from live.hosts import HostCluster
from scalepool._net.curve import Heartbeats

if TYPE_CHECKING:
    from live.hosts import Host, Network, Process

pytestmark = [pytest.mark.live, pytest.mark.slow]

RUNNING = "/tmp/home/running"
GO = "/tmp/home/go"
"""On each host: made by a task that runs there, and by the test when it may end."""

TASKS = """
import os, socket, sys, time
from pathlib import Path
import scalepool
import scalepool.multiprocessing as mp

def wait(number=0):
    Path("/tmp/home/running").touch()
    while not Path("/tmp/home/go").exists():
        time.sleep(0.01)
    return socket.gethostname()

def said(call):
    try:
        return str(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace(chr(10), " ")

def tell(*what):
    print(*what, flush=True)
"""

POOL = (
    TASKS
    + """
if __name__ == "__main__":
    with mp.Pool(2) as pool:
        results = [pool.apply_async(wait) for _ in range(2)]
        for result in results:
            result.wait()
            tell(said(result.get))
        tell(said(lambda: sorted(pool.map(abs, range(-500, 0))) == list(range(1, 501))))
        input()
"""
)

RETRIED = (
    TASKS
    + """
@scalepool.remote(max_retries=2)
def again(number):
    return wait()

if __name__ == "__main__":
    for ref in [again.remote(number) for number in range(2)]:
        tell(said(lambda: scalepool.get(ref)))
"""
)

LATER = (
    TASKS
    + """
if __name__ == "__main__":
    with mp.Pool(2) as pool:
        result = pool.apply_async(wait)
        tell(said(result.get))
        tell(said(lambda: pool.apply(abs, (-1,))))
    input()
    scalepool.shutdown()
    with mp.Pool(2) as pool:
        tell(said(lambda: pool.map(abs, [-1, -2])))
"""
)


GIVES_UP_SOON = {"SCALEPOOL_RECONNECT_S": "5"}
"""In the environment of who is to give up on a head soon."""


def two_hosts(network: Network, *options: str, **variables: str) -> tuple[HostCluster, Host, Host, Host]:
    """Return a cluster with one worker on each of two hosts, with these variables, and a third for the program."""
    cluster = HostCluster(network, *options)
    one, two, user = (network.host(name) for name in ("one", "two", "user"))
    for host in (one, two):
        cluster.join(host, 1, **variables)
    return cluster, one, two, user


def let_go(*hosts: Host) -> None:
    for host in hosts:
        host.path(GO).touch()


def until_running(*hosts: Host) -> None:
    until(lambda: all(host.path(RUNNING).exists() for host in hosts))


def agents_of(host: Host) -> list[str]:
    return [line for line in host.processes() if " worker tcp://" in line]


def others_of(host: Host) -> list[str]:
    return [line for line in host.processes() if " worker tcp://" not in line]


def told_of_the_loss(program: Process) -> str:
    """Return what the first call of a program that has lost the head raises; the next one does, too."""
    lost = program.line()
    assert lost.startswith("SessionError: the link to the head at"), program.said()
    assert program.line().startswith("SessionError")
    return lost


def goes_on(program: Process) -> None:
    """Have a program begin anew, and end."""
    program.say()
    assert program.line() == "[1, 2]", program.said()
    assert program.wait() == 0, program.said()


# ---- cables ----


def test_a_host_that_is_cut_off_is_noticed_and_its_task_fails(network: Network) -> None:
    cluster, one, two, user = two_hosts(network)
    program = cluster.program(user, POOL)
    until_running(one, two)
    cut_at = time.monotonic()
    network.cut(one)
    until(lambda: [node["host"] for node in cluster.report()["nodes"]] == ["two"])
    noticed_s = time.monotonic() - cut_at
    assert noticed_s < 30.0  # under a second, where the machine has nothing else to do
    let_go(two)
    answers = sorted([program.line(), program.line()])
    assert answers[0].startswith("WorkerDiedError") and "its host left the cluster" in answers[0]
    assert answers[1] == "two"
    assert program.line() == "True"
    # The host that hears nobody does not go on either.
    until(lambda: not others_of(one))
    program.say()
    assert program.wait() == 0, program.said()
    until(lambda: not others_of(two) and not two.left())


def test_a_task_of_a_host_that_is_cut_off_is_tried_again_where_it_may_be(network: Network) -> None:
    cluster, one, two, user = two_hosts(network)
    program = cluster.program(user, RETRIED)
    until_running(one, two)
    network.cut(one)
    let_go(one, two)
    assert [program.line(), program.line()] == ["two", "two"]
    assert program.wait() == 0, program.said()


def test_a_program_that_is_cut_off_is_told_what_to_do(network: Network) -> None:
    cluster, one, two, user = two_hosts(network, **GIVES_UP_SOON)
    program = cluster.program(user, LATER, **GIVES_UP_SOON)
    until(lambda: one.path(RUNNING).exists() or two.path(RUNNING).exists())
    network.cut(user)
    assert "call scalepool.shutdown()" in told_of_the_loss(program)
    until(lambda: not cluster.report()["drivers"] and not others_of(one) and not others_of(two))
    network.heal(user)
    goes_on(program)


# ---- processes that stand still ----

COUNTED = (
    TASKS
    + """
def count(number):
    with open("/tmp/home/runs", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(float(sys.argv[3]))
    return number

@scalepool.remote(max_retries=0)
def once(number):
    return count(number)

@scalepool.remote(max_retries=3)
def often(number):
    return count(number)

if __name__ == "__main__":
    task, many = {"once": once, "often": often}[sys.argv[1]], int(sys.argv[2])
    refs = [task.remote(number) for number in range(many)]
    ends = []
    for number, ref in enumerate(refs):
        try:
            ends.append(scalepool.get(ref) == number)
        except Exception as error:
            ends.append(type(error).__name__)
        if number == many // 10:
            tell("under way")
    tell(*[sum(end is True for end in ends), ends.count("WorkerDiedError"), ends.count(False), len(ends)])
    input()
"""
)


MOST_HELD = 50
"""Tasks of 2 ms that a worker has in store: 8, more where their time was measured badly."""


def runs(*hosts: Host) -> list[int]:
    """Return what tasks have noted on these hosts: the number of each, once for each time that it ran."""
    found = []
    for host in hosts:
        if host.path("/tmp/home/runs").exists():
            found += [int(line) for line in host.path("/tmp/home/runs").read_text().split()]
    return found


def test_a_host_that_is_cut_off_runs_nothing_that_runs_elsewhere_too(network: Network) -> None:
    cluster, one, two, user = two_hosts(network)
    # So short that each worker has several in store.
    program = cluster.program(user, COUNTED, "once", "3000", "0.002")
    assert program.line() == "under way"
    network.cut(one)
    right, failed, wrong, ended = map(int, program.line().split())
    assert (right + failed, wrong, ended) == (3000, 0, 3000)
    assert 0 < failed <= MOST_HELD
    network.heal(one)
    until(lambda: "joined anew" in cluster.agents["one"].said())
    noted = runs(one, two)
    assert len(noted) == len(set(noted)) >= right
    program.say()
    assert program.wait() == 0, program.said()


def test_a_worker_that_stands_still_for_long_goes_on(network: Network) -> None:
    cluster, one, two, user = two_hosts(network)
    program = cluster.program(user, POOL)
    until_running(one, two)
    stopped = [pid for pid in one.pids() if pid != cluster.agents["one"].pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    let_go(one, two)
    time.sleep(4 * Heartbeats().timeout_s)
    assert [node["host"] for node in cluster.report()["nodes"]] == ["one", "two"]
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert sorted([program.line(), program.line()]) == ["one", "two"]
    assert program.line() == "True"
    program.say()
    assert program.wait() == 0, program.said()


@pytest.mark.parametrize("retries", ["once", "often"])
def test_a_host_that_stands_still_and_goes_on_gives_no_result_twice(network: Network, retries: str) -> None:
    cluster, one, two, user = two_hosts(network)
    program = cluster.program(user, COUNTED, retries, "300", "0.02")
    assert program.line() == "under way"
    stopped = one.pids()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4 * Heartbeats().timeout_s)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    right, failed, wrong, ended = map(int, program.line().split())
    assert (right + failed, wrong, ended) == (300, 0, 300)
    # Of a lost host's worker nobody knows what it has begun of that which it had.
    noted = runs(one, two)
    if retries == "once":
        assert failed <= MOST_HELD
        assert len(noted) == len(set(noted)) >= right
    else:
        assert failed == 0
        # It has gone to the other host; until the first one knew that it was lost it went on with it.
        assert set(noted) == set(range(300))
        assert len(noted) < 330
    program.say()
    assert program.wait() == 0, program.said()


def test_a_head_that_stands_still_is_left_and_serves_again(network: Network) -> None:
    cluster, one, two, user = two_hosts(network, **GIVES_UP_SOON)
    program = cluster.program(user, LATER, **GIVES_UP_SOON)
    until(lambda: one.path(RUNNING).exists() or two.path(RUNNING).exists())
    cluster.process.stop()
    told_of_the_loss(program)
    until(lambda: not others_of(one) and not others_of(two))
    cluster.process.resume()

    def are_back() -> bool:
        for host in (one, two):
            if not agents_of(host):
                cluster.join(host, 1)
        return len(cluster.report()["nodes"]) == 2

    until(are_back)
    goes_on(program)


# ---- slow links, wrong clocks ----

MEASURED = (
    TASKS
    + """
import numpy as np

if __name__ == "__main__":
    with mp.Pool(2) as pool:
        tell(sorted(pool.map(abs, range(-2000, 0))) == list(range(1, 2001)))
        array = np.random.default_rng(1).random(int(sys.argv[1]))
        tell(all(np.array_equal(one, array) for one in pool.map(np.array, [array] * 3, chunksize=1)))
        tell({type(pool.apply(os.getpid)).__name__ for _ in range(5)})
"""
)


def test_a_slow_link_that_loses_packets_only_takes_longer(network: Network) -> None:
    # 200 ms there and 200 ms back, 2 % of all packets lost, 1 Mbit/s.
    cluster = HostCluster(network, "--heartbeat-interval-s", "1", "--heartbeat-timeout-s", "30")
    far = network.host("far", wire=("200", "2", "1000"))
    agent = cluster.join(far, 2)
    program = cluster.program(network.host("user"), MEASURED, "10000")
    assert [program.line() for _ in range(3)] == ["True", "True", "{'int'}"]
    assert program.wait() == 0, program.said()
    assert [node["host"] for node in cluster.report()["nodes"]] == ["far"]
    assert agent.popen.poll() is None


SKEWED = """
import os, time
_time, _time_ns = time.time, time.time_ns
def shift_s():
    return {shift} if os.path.exists("/tmp/home/skewed") else 0
time.time = lambda: _time() + shift_s()
time.time_ns = lambda: _time_ns() + shift_s() * 10**9
"""


@pytest.mark.parametrize("shift_s", [3600, -3600])
def test_clocks_that_are_wrong_and_jump_change_nothing(network: Network, shift_s: int) -> None:
    cluster, one, two, user = two_hosts(network)
    for host in (one, user):
        # Every Python process there reads it when it starts.
        host.path("/tmp/home/skew").mkdir()
        host.path("/tmp/home/skew/sitecustomize.py").write_text(SKEWED.format(shift=shift_s))
        host.python_path = "/tmp/home/skew"
    cluster.agents["one"].kill(signal.SIGTERM)
    cluster.agents["one"].wait()
    one.path("/tmp/home/skewed").touch()
    cluster.join(one, 1)  # its clock is wrong from the start
    program = cluster.program(user, POOL)
    until_running(one, two)
    user.path("/tmp/home/skewed").touch()  # and these two jump
    one.path("/tmp/home/skewed").unlink()
    time.sleep(4 * Heartbeats().timeout_s)
    let_go(one, two)
    assert sorted([program.line(), program.line()]) == ["one", "two"]
    assert program.line() == "True"
    program.say()
    assert program.wait() == 0, program.said()


def test_hosts_that_have_run_for_different_times_understand_each_other(network: Network) -> None:
    # Monotonic clocks count from a host's start: no two hosts have the same.
    cluster = HostCluster(network)
    one, user = network.host("one", uptime_s=10_000_000), network.host("user", uptime_s=1_000_000)
    assert float(one.command("sh", "-c", "cut -d' ' -f1 /proc/uptime").stdout) > 10_000_000
    cluster.join(one, 2)
    program = cluster.program(user, MEASURED, "300000")
    assert [program.line() for _ in range(3)] == ["True", "True", "{'int'}"]
    assert program.wait() == 0, program.said()
    time.sleep(2 * Heartbeats().timeout_s)
    assert len(cluster.report()["nodes"]) == 1
