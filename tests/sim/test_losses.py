"""Values that get lost, under seeded kills: each awaited one ends, as what it was or as lost, and nothing is left."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import CloseMode
from sim.losses import LossyGraph
from sim.test_world import SEEDS


def tell_a_story(seed: int) -> LossyGraph:
    """Let a graph grow while objects are lost, until nobody waits; then drop everything."""
    world = LossyGraph(seed, kill_rate=0.0 if seed % 3 == 0 else 0.5)
    chance = world.random
    world.lost_objects = chance.choice([0.0, 0.0, 0.05])
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    if chance.random() < 0.3:
        world.hub._endings.keeping.lineage.limit_bytes = chance.choice([0, 5_000, 50_000])
    group = world.open_group(chance.randint(1, 4))
    for _ in range(chance.randint(1, 8)):
        world.after(chance.uniform(0, 0.2), lambda: world.grow(group, chance.randint(1, 12)))
    for _ in range(chance.randint(1, 6)):
        world.after(chance.uniform(0, 0.4), chance.choice([world.lose_some, world.lose_some, world.release_some]))

    world.run(lambda: world.now > 0.6 and not world.awaited)
    assert not world.awaited, "somebody waits for ever"

    world.release_all()
    world.close(group, CloseMode.DRAIN)
    world.run()
    assert group in world.closed
    lineage = world.hub._endings.keeping.lineage
    assert (lineage.recipes, lineage.size_bytes, world.hub._state.values.recipes) == ({}, 0, {})
    assert len(world.hub._state.values) == 0
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_every_value_ends_and_none_is_left(seed: int) -> None:
    tell_a_story(seed)


def test_the_stories_tell_of_everything() -> None:
    worlds = [tell_a_story(seed) for seed in range(40)]
    assert sum(world.not_begun for world in worlds) > 0
    assert sum(world.renewed for world in worlds) > 0
    assert sum(world.given_up for world in worlds) > 0
