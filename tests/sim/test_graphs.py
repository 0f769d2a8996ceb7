"""The hub's values under seeded kills and cancels: the right values, each told once, and nothing kept for nobody."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import CloseMode, Status
from sim.graphs import Graph
from sim.test_world import SEEDS


def test_a_chain_is_done_in_order() -> None:
    world = Graph(1, kill_rate=0.0)
    group = world.open_group(2)
    world.random.random = lambda: 0.9  # type: ignore[method-assign]  # nothing fails, nothing has children
    for _ in range(50):
        world.grow(group, 1)
    world.run(lambda: not world.awaited)
    assert world.followed
    assert len(world.outcomes) == len(world.held)
    assert {status for status, _ in world.outcomes.values()} == {Status.VALUE}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_value_is_right_and_none_is_left(seed: int) -> None:
    world = Graph(seed, kill_rate=0.0 if seed % 3 == 0 else 0.5)
    chance = world.random
    world.lost_objects = chance.choice([0.0, 0.0, 0.05])
    world.launch_failures = chance.choice([0.0, 0.0, 0.05])
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    world.slow_begins = chance.choice([0.0, 0.2])
    group = world.open_group(chance.randint(1, 4))
    for _ in range(chance.randint(1, 8)):
        world.after(chance.uniform(0, 0.2), lambda: world.grow(group, chance.randint(1, 12)))
    disturbances = [world.release_some, world.release_some, world.cancel_some, world.freeze_one]
    for _ in range(chance.randint(0, 4)):
        world.after(chance.uniform(0, 0.3), chance.choice(disturbances))

    world.run(lambda: world.now > 0.3 and not world.awaited)
    assert not world.awaited, "somebody waits for ever"

    world.release_all()
    world.close(group, CloseMode.DRAIN)
    world.run()  # ... until nobody is idle any more
    assert group in world.closed
    assert len(world.hub._state.values) == 0
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
