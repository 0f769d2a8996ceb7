"""A worker that waits for what runs elsewhere helps it, and nobody starts a process for what is run in place."""

from __future__ import annotations

import pytest
from sim.test_world import SEEDS
from sim.world import Plan, World, statuses

from scalepool._wire.messages import DRIVER, Status


def _fibonacci(number: int, seconds: float) -> Plan:
    if number < 2:
        return Plan(seconds)
    return Plan(seconds, children=(_fibonacci(number - 1, seconds), _fibonacci(number - 2, seconds)))


def _calls(plan: Plan) -> int:
    return 1 + sum(map(_calls, plan.children))


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_nested_tasks_get_done_by_few_workers(seed: int) -> None:
    world = World(seed)
    world.delay_s = 0.0001
    group = world.open_group(2)
    plan = _fibonacci(9, 0.0001)
    world.submit(DRIVER, group, [plan])
    world.run(lambda: len(world.ended) == _calls(plan))
    assert statuses(world) == {Status.VALUE: _calls(plan)}
    assert world.now < 1.0, "it has waited for the watch over trees that make no progress"
    assert world.most_workers <= 8  # of 109 tasks, and where results take as long as tasks


def test_somebody_helps() -> None:
    helped = 0
    for seed in range(5):
        world = World(seed)
        group = world.open_group(2)
        plan = _fibonacci(8, 0.001)
        world.submit(DRIVER, group, [plan])
        world.run(lambda plan=plan, world=world: len(world.ended) == _calls(plan))
        helped += world.helped
    assert helped
