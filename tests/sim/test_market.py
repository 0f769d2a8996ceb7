"""Resources under seeded kills and nesting: never lent twice, and every task that can run does."""

from __future__ import annotations

import pytest

from scalepool._core.leasing import PATIENCE_S
from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import DRIVER, Status
from sim.chaos import finished
from sim.market import Market, demand
from sim.test_world import SEEDS
from sim.world import Plan, statuses


def test_as_many_run_at_once_as_fit() -> None:
    world = Market(1, CPU=4)
    small, large = world.ask(demand(CPU=0.5)), world.ask(demand(CPU=2))
    world.submit(DRIVER, small, [Plan(1.0)] * 16)
    world.run(lambda: finished(world))
    assert world.peak[small] == 8
    assert world.now == pytest.approx(2.0, abs=0.2)

    before = world.now
    world.submit(DRIVER, large, [Plan(1.0)] * 4)
    world.run(lambda: finished(world))
    assert world.peak[large] == 2
    assert world.now - before == pytest.approx(2.0, abs=0.2)
    assert world.overdrawn == 0


def test_what_needs_nothing_is_bounded_by_its_cap_alone() -> None:
    world = Market(2, CPU=1)
    busy, idle = world.ask(demand(CPU=1)), world.ask(demand(), cap=10)
    world.submit(DRIVER, busy, [Plan(1.0)])
    world.submit(DRIVER, idle, [Plan(0.1)] * 20)
    world.run(lambda: finished(world))
    assert world.peak[idle] == 10
    assert world.now == pytest.approx(1.0, abs=0.1)


def test_a_large_one_does_not_starve_behind_small_ones() -> None:
    world = Market(3, CPU=4)
    small, large = world.ask(demand(CPU=1)), world.ask(demand(CPU=4))
    world.submit(DRIVER, small, [Plan(0.2)] * 400)
    (task,) = world.submit(DRIVER, large, [Plan(0.2)])
    world.run(lambda: task in world.ended)
    assert world.started_at[task] < PATIENCE_S + 0.5
    world.run(lambda: finished(world))
    assert world.now == pytest.approx(20.2, abs=1.5), "small ones did not stand still for longer than it took"


def test_small_ones_go_on_beside_a_large_one_that_waits_for_something_else() -> None:
    world = Market(4, CPU=4, license=1)
    holder, waiter = world.ask(demand(license=1)), world.ask(demand(CPU=1, license=1))
    small = world.ask(demand(CPU=1))
    world.submit(DRIVER, holder, [Plan(5.0)])
    (task,) = world.submit(DRIVER, waiter, [Plan(0.1)])
    world.submit(DRIVER, small, [Plan(0.1)] * 60)
    world.run(lambda: sum(world.task_group[one] == small for one in world.ended) == 60)
    assert world.now < 3.0, "only the CPU that the other one needs was set aside"
    world.run(lambda: finished(world))
    assert world.started_at[task] == pytest.approx(5.0, abs=0.1)


def test_two_large_ones_and_small_ones_take_turns() -> None:
    world = Market(5, CPU=3)
    groups = [world.ask(demand(CPU=cpus)) for cpus in (3, 1, 2)]
    for group in groups:
        world.submit(DRIVER, group, [Plan(0.1)] * 60)
    firsts: dict[int, float] = {}
    world.run(lambda: finished(world))
    for task, at in world.started_at.items():
        firsts[world.task_group[task]] = min(at, firsts.get(world.task_group[task], at))
    assert max(firsts.values()) < 4 * PATIENCE_S
    assert world.overdrawn == 0


def test_gpus_have_numbers_and_processes_keep_them() -> None:
    world = Market(6, CPU=8, GPU=2)
    whole, half = world.ask(demand(GPU=1)), world.ask(demand(GPU=0.5))
    world.submit(DRIVER, whole, [Plan(0.1)] * 6)
    world.run(lambda: finished(world))
    assert {world.gpus[worker] for worker in world.workers} == {(0,), (1,)}
    world.submit(DRIVER, half, [Plan(0.1)] * 8)
    world.run(lambda: finished(world))
    assert world.peak[whole] == 2
    assert world.peak[half] == 4


def test_who_waits_for_children_lends_its_cpus() -> None:
    world = Market(7, CPU=2)
    group = world.ask(demand(CPU=2))
    world.submit(DRIVER, group, [Plan(0.01, (Plan(0.1), Plan(0.1)))])
    world.run(lambda: finished(world))
    assert world.now < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lent_twice_and_all_that_can_run_does(seed: int) -> None:
    world = Market(seed, kill_rate=0.0 if seed % 2 else 0.3, CPU=4, GPU=3, license=2)
    chance = world.random
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    world.slow_begins = chance.choice([0.0, 0.2])
    nested = chance.random() < 0.5
    groups = []
    for _ in range(chance.randint(1, 5)):
        wanted = {"CPU": chance.choice([0, 0.1, 0.5, 1, 1, 2, 4]), "license": chance.choice([0, 0, 0, 1, 0.5])}
        groups.append(world.ask(demand(GPU=chance.choice([0, 0, 0.25, 0.5, 1, 2, 3]), **wanted), chance.randint(1, 8)))

    def submit() -> None:
        plans = []
        for _ in range(chance.randint(1, 15)):
            children = tuple(Plan(chance.uniform(0, 0.02)) for _ in range(chance.randint(0, 3))) if nested else ()
            plans.append(Plan(chance.choice([0.00001, 0.001, 0.05, 0.5]), children))
        world.submit(DRIVER, chance.choice(groups), plans, chance.choice([0, 2]))

    for _ in range(chance.randint(1, 8)):
        world.after(chance.uniform(0, 2.0), submit)
    for _ in range(chance.choice([0, 0, 1, 3])):
        world.after(chance.uniform(0, 2.0), world.freeze_one)
    world.run(lambda: world.now > 2.0 and finished(world))

    assert set(statuses(world)) <= {Status.VALUE, Status.WORKER_DIED}
    assert nested or not world.overdrawn
    for group in groups:
        world.close(group)
    world.run()
    assert world.hub.free_resources() == world.total
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0)
