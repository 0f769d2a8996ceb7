"""Whole sessions under seeded chaos: each value ends once, for a reason, and lives as long as it is referred to."""

from __future__ import annotations

import pytest

from scalepool._core.stats import HubStatistics
from sim.society import CAPACITY, Society
from sim.test_world import MAX_BEYOND_CAP, SEEDS


@pytest.mark.parametrize("seed", SEEDS)
def test_a_session_keeps_what_is_needed_and_nothing_else(seed: int) -> None:
    world = Society(seed)
    world.run(lambda: world.is_done)
    assert world.is_done, "somebody waits for ever"
    assert all(count <= MAX_BEYOND_CAP for count in world.beyond_cap.values()), "more at once than a cap allows"

    quiet = world.now + 3.0
    world.after(3.0, lambda: None)
    world.run(lambda: world.now >= quiet)
    world.check_truth()

    world.close_all()
    world.run()  # ... until nobody is idle any more
    state = world.hub._state
    assert set(world.groups) <= world.closed
    assert not state.names
    assert not state.streams
    assert not state.followers
    assert dict(state.values.items()) == {}
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
    assert world.hub.free_resources() in (None, CAPACITY), "a resource was not given back"
    assert world.workers == {}
