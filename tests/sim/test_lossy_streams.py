"""Items of streams that get lost, under seeded kills: each ends as what it was, or with an error; nothing is left."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import CloseMode
from sim.lossy_streams import LossyStreams
from sim.test_world import SEEDS


def tell_a_story(seed: int) -> LossyStreams:
    """Let streams be read while items are lost, until nobody waits; then drop everything."""
    world = LossyStreams(seed, kill_rate=0.0 if seed % 3 == 0 else 0.3)
    chance = world.random
    world.lost_objects = chance.choice([0.0, 0.0, 0.02])
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    if chance.random() < 0.2:
        world.hub._endings.keeping.lineage.limit_bytes = chance.choice([0, 5_000])
    group = world.open_group(chance.randint(1, 4))
    for _ in range(chance.randint(1, 4)):
        world.after(chance.uniform(0, 0.2), lambda: world.open_streams(group, chance.randint(1, 5)))
    for _ in range(chance.randint(2, 8)):
        actions = [world.lose_some, world.lose_some, world.lose_some, world.abandon_some, world.cancel_some]
        world.after(chance.uniform(0, 0.5), chance.choice(actions))
    world.after(0.1, world.read_on)

    world.run(lambda: world.now > 0.3)
    world.read_all()
    world.run(lambda: world.now > 0.6 and world.is_done() and not world.missing)
    assert not world.missing, "somebody waits for ever"

    world.release_all()
    world.close(group, CloseMode.DRAIN)
    world.run()
    assert group in world.closed
    values = world.hub._state.values
    assert (values.recipes_by_task, values.recipes, world.hub._endings.keeping.lineage.size_bytes) == ({}, {}, 0)
    assert not world.hub._state.streams
    assert len(values) == 0
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_every_item_ends_and_none_is_left(seed: int) -> None:
    tell_a_story(seed)


def test_the_stories_tell_of_everything() -> None:
    worlds = [tell_a_story(seed) for seed in range(60)]
    assert sum(world.renewed for world in worlds) > 0
    assert sum(world.given_up for world in worlds) > 0
