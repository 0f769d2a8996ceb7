"""Many hosts, programs and broken links: every task ends once, tables agree, and nothing is kept of who left."""

from __future__ import annotations

import os

import pytest

from sim.fleet import LATE_S, Fleet

SEEDS = int(os.environ.get("SCALEPOOL_FLEET_SEEDS", "40"))


def play(seed: int, hosts: int, programs: int, tasks: int, *, cuts: int, kills: int, restarts: int = 0) -> Fleet:
    """Run programs to their ends while things break, and let everybody leave."""
    fleet = Fleet(seed)
    chance = fleet.random
    for _ in range(hosts):
        fleet.after(fleet.soon(0.2), lambda: fleet.add_host(chance.randint(1, 4)))
    for _ in range(programs):
        fleet.after(0.3 + fleet.soon(0.3), lambda: fleet.add_program(tasks, chance.randint(1, 2 * hosts)))

    def kill_somebody() -> None:
        programs_there = [one for one in fleet.programs if one.alive]
        if chance.random() < 0.2 and len(programs_there) > 1:
            fleet.kill(chance.choice(programs_there))
            return
        fleet.kill(chance.choice([one for one in fleet.hosts if one.alive]))
        fleet.after(fleet.soon(1.0), lambda: fleet.add_host(chance.randint(1, 4)))

    def cut_somebody() -> None:
        if fleet.members:
            fleet.cut(chance.choice(list(fleet.members.values())))

    for _ in range(kills):
        fleet.after(0.5 + fleet.soon(2.0), kill_somebody)
    for _ in range(cuts):
        fleet.after(0.5 + fleet.soon(2.0), cut_somebody)
    for _ in range(restarts):
        fleet.after(0.7 + fleet.soon(2.0), fleet.restart_head)

    def are_over() -> bool:
        return fleet.now > 4.0 and len(fleet.programs) == programs and not any(one.alive for one in fleet.programs)

    while not are_over():
        until = fleet.now + 0.5
        fleet.run(lambda: fleet.now >= until or are_over(), LATE_S)  # noqa: B023 - called at once
        fleet.check()
        assert fleet.now < 20 * LATE_S, "programs do not get on"
    settled = fleet.now + LATE_S
    fleet.run(lambda: fleet.now >= settled, 2 * LATE_S)
    return fleet


def everybody_left(fleet: Fleet) -> None:
    fleet.check()
    report = fleet.board.report()
    assert report["drivers"] == []
    assert {node["workers"] for node in report["nodes"]} <= {0}
    there = [host for host in fleet.hosts if host.alive]
    assert len(report["nodes"]) == len(there)
    assert {node["node"] for node in report["nodes"]} == {host.node for host in there}
    assert [part for host in there for part in host.sessions.values()] == [], "hosts keep what nobody wants"
    for host in there:
        fleet.kill(host)
    settled = fleet.now + LATE_S
    fleet.run(lambda: fleet.now >= settled, 2 * LATE_S)
    assert set(fleet.sizes().values()) == {0}, fleet.sizes()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_links_break_and_hosts_and_programs_are_killed(seed: int) -> None:
    fleet = play(seed, hosts=8, programs=3, tasks=40, cuts=12, kills=4)
    assert fleet.cuts >= 10
    everybody_left(fleet)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_heads_are_started_again(seed: int) -> None:
    fleet = play(seed, hosts=6, programs=3, tasks=40, cuts=4, kills=1, restarts=2)
    assert fleet.heads == 2
    everybody_left(fleet)


@pytest.mark.parametrize("seed", range(max(1, SEEDS // 40)))
def test_hundreds_of_hosts(seed: int) -> None:
    fleet = play(seed, hosts=300, programs=4, tasks=400, cuts=60, kills=30, restarts=1)
    everybody_left(fleet)
