"""Actors under seeded kills and cancels: every call ends once, callers' orders are kept, nothing is left."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import CloseMode, Status
from sim.test_world import SEEDS
from sim.troupe import Troupe


def test_calls_of_an_actor_that_nobody_disturbs() -> None:
    world = Troupe(1, kill_rate=0.0)
    world.random.random = lambda: 0.9  # type: ignore[method-assign]  # nothing fails
    world.engage()
    for _ in range(20):
        world.call()
    world.run(lambda: not world.awaited)
    assert {status for status, _ in world.outcomes.values()} == {Status.VALUE}
    assert len(world.lives) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_every_call_ends_once_and_in_order(seed: int) -> None:
    world = Troupe(seed, kill_rate=0.0 if seed % 3 == 0 else 0.4)
    chance = world.random
    world.lost_objects = chance.choice([0.0, 0.0, 0.05])
    world.launch_failures = chance.choice([0.0, 0.0, 0.05])
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    world.slow_begins = chance.choice([0.0, 0.2])
    group = world.open_group(chance.randint(1, 3))
    for _ in range(chance.randint(1, 4)):
        world.after(chance.uniform(0, 0.1), world.engage)
    for _ in range(chance.randint(1, 15)):
        world.after(chance.uniform(0, 0.3), world.call)
        world.after(chance.uniform(0, 0.2), lambda: world.grow(group, chance.randint(1, 4)))
    disturbances = [world.end, world.drop, world.cancel_some, world.release_some, world.freeze_one]
    for _ in range(chance.randint(0, 4)):
        world.after(chance.uniform(0, 0.4), chance.choice(disturbances))

    world.run(lambda: world.now > 0.4 and not world.awaited)
    assert not world.awaited, "somebody waits for ever"

    world.release_all()
    world.drop_all()
    world.close(group, CloseMode.DRAIN)
    world.run()  # ... until nobody is idle any more
    assert group in world.closed
    assert len(world.hub._state.values) == 0
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
