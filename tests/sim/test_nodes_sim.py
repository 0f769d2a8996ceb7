"""Hosts that come and go under seeded kills: nothing is given to who leaves, nothing lent twice, all ends, in time."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import DRIVER, Status
from sim.chaos import finished
from sim.market import demand
from sim.nodes import Nodes
from sim.test_world import SEEDS
from sim.world import Plan, statuses


def test_a_full_pool_moves_to_a_host_that_joins_and_no_further() -> None:
    nodes = Nodes(1)
    nodes.join(2)
    group = nodes.open_group(6)
    nodes.submit(DRIVER, group, [Plan(0.05)] * 400)
    nodes.run(lambda: len(nodes.homes) == 6)
    nodes.join(4)
    for at in range(1, 60):
        nodes.after(at * 0.05, nodes.move_some)
    nodes.run(lambda: nodes.now > 1.5)
    assert [host.load for host in nodes.placement.hosts.values()] == [2, 4]
    done = nodes.moves
    nodes.run(lambda: finished(nodes))
    assert nodes.moves == done, "what was moved stays"


def test_remote_functions_use_what_joins() -> None:
    nodes = Nodes(2)
    nodes.join(1)
    group = nodes.ask(demand(CPU=1))
    nodes.submit(DRIVER, group, [Plan(0.1)] * 80)
    nodes.after(1.0, lambda: nodes.join(3))
    nodes.run(lambda: finished(nodes))
    assert nodes.now < 4.0, "one second alone, and 70 tasks four at a time"


@pytest.mark.parametrize("seed", SEEDS[::10])
def test_whatever_hosts_do_everything_ends(seed: int) -> None:
    nodes = Nodes(seed, kill_rate=0.0 if seed % 2 else 0.2)
    chance = nodes.random
    nodes.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    nodes.join(4, gpus=2)  # what is asked for fits on the largest
    for _ in range(chance.randint(0, 3)):
        nodes.join(chance.randint(1, 4), gpus=2)
    groups = [nodes.open_group(chance.randint(1, 8)) for _ in range(chance.randint(0, 2))]
    for _ in range(chance.randint(1, 3)):
        groups.append(nodes.ask(demand(CPU=chance.choice([0.5, 1, 1]), GPU=chance.choice([0, 0, 0, 0.5, 1]))))

    def submit() -> None:
        plans = [Plan(chance.choice([0.00001, 0.001, 0.05])) for _ in range(chance.randint(1, 15))]
        nodes.submit(DRIVER, chance.choice(groups), plans, chance.choice([0, 2]))

    def something() -> None:
        chance.choice([
            submit, submit, submit, lambda: nodes.join(chance.randint(1, 4), gpus=2), nodes.drain, nodes.lose_one,
            nodes.move_some, nodes.move_some, lambda: nodes.limit(chance.choice([0, 1, 2, 5])),
        ])()  # fmt: skip

    for _ in range(chance.randint(2, 25)):
        nodes.after(chance.uniform(0, 2.0), something)
    nodes.after(2.1, lambda: nodes.limit(0))
    nodes.run(lambda: nodes.now > 2.2 and finished(nodes))

    assert set(statuses(nodes)) <= {Status.VALUE, Status.WORKER_DIED}
    for group in groups:
        nodes.close(group)
    nodes.run()
    assert nodes.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0)
    assert all(host.load == 0 for host in nodes.placement.hosts.values())
