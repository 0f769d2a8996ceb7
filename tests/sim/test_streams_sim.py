"""Streams under seeded kills, cancels and readers of all sorts: each value once, in order, and nothing left."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from scalepool._wire.messages import DRIVER, CloseMode, Status
from sim.streams import Streams
from sim.test_world import SEEDS
from sim.worker import Plan


@pytest.mark.parametrize("seed", SEEDS)
def test_each_value_comes_once_and_in_order(seed: int) -> None:
    world = Streams(seed, kill_rate=0.0 if seed % 3 == 0 else 0.5)
    chance = world.random
    world.lost_objects = chance.choice([0.0, 0.0, 0.05])
    world.launch_failures = chance.choice([0.0, 0.0, 0.05])
    world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
    world.slow_begins = chance.choice([0.0, 0.2])
    group = world.open_group(chance.randint(1, 3))
    for _ in range(chance.randint(1, 4)):
        world.after(chance.uniform(0, 0.2), lambda: world.open_streams(group, chance.randint(1, 4)))
    for _ in range(chance.randint(0, 3)):
        world.after(chance.uniform(0, 0.3), chance.choice([world.abandon_some, world.cancel_some, world.freeze_one]))
    others: list[int] = []
    world.after(0.25, lambda: others.extend(world.submit(DRIVER, group, [Plan(0.001)] * 5, max_retries=100)))
    world.after(0.3, world.read_on)

    world.run(lambda: len(others) == 5 and all(task in world.ended for task in others))
    assert all(world.ended[task] == Status.VALUE for task in others), (
        "streams that wait for their reader let others run"
    )
    world.read_all()
    world.run(lambda: world.now > 0.5 and world.is_done())
    assert world.is_done(), "a stream goes on for ever"
    short = [task for task, made in world.expected.items() if world.read[task].count < made]
    assert all(world.read[task].unwanted for task in short), "values went with their worker"

    world.release_all()
    world.close(group, CloseMode.DRAIN)
    world.run()  # ... until nobody is idle any more
    assert group in world.closed
    assert not world.hub._state.streams
    assert len(world.hub._state.values) == 0
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"


def test_a_stream_goes_as_far_ahead_as_it_may() -> None:
    world = Streams(1, kill_rate=0.0)
    world.random.choice = lambda options: options[-1]  # type: ignore[method-assign,assignment]  # the longest
    world.random.random = lambda: 0.9  # type: ignore[method-assign]
    group = world.open_group(1)
    world.open_streams(group, 1)
    (task,) = world.made
    world.made[task].deadly_at = -1
    world.run(world.is_done)
    assert world.most_ahead == world.made[task].length
