"""The hub under seeded kills, cancels, recycling and nesting: every task ends, once, and nothing innocent runs twice."""

from __future__ import annotations

import pytest
from sim.world import Plan, World, statuses

from scalepool._core.events import Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status

NEVER = float("inf")


def finished(world: World) -> bool:
    # Children whose parent died with its worker have nobody left to tell.
    return all(task in world.ended for task in world.plans if not task >> 40)


def test_tasks_run_on_as_many_workers_as_the_cap_allows() -> None:
    world = World(1)
    group = world.open_group(3)
    world.submit(DRIVER, group, [Plan(0.1)] * 30)
    world.run(lambda: finished(world))
    assert statuses(world) == {Status.VALUE: 30}
    assert world.peak[group] == 3
    assert world.now == pytest.approx(1.0, rel=0.1)


def test_short_tasks_behind_a_long_one_are_recalled() -> None:
    world = World(2)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(0.00001)] * 50)
    world.run(lambda: finished(world))
    before = world.now
    tasks = world.submit(DRIVER, group, [Plan(0.4), *[Plan(0.00001)] * 2000])
    world.run(lambda: all(task in world.ended for task in tasks[1:]))
    assert world.now - before < 0.2


def test_skewed_durations_end_with_the_longest() -> None:
    world = World(3)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(15.0), *[Plan(1.0)] * 5])
    world.run(lambda: finished(world))
    assert world.now == pytest.approx(15.0, abs=0.5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_nested_tasks_never_deadlock(depth: int) -> None:
    def nest(level: int) -> Plan:
        return Plan(0.001, tuple(nest(level - 1) for _ in range(3)) if level else ())

    world = World(depth)
    group = world.open_group(2)
    world.submit(DRIVER, group, [nest(depth)] * 4)
    world.run(lambda: finished(world) and world.now > 0.01)
    assert set(statuses(world)) == {Status.VALUE}
    # Waiting parents lend their slots, and take up what they wait for: few processes are needed.
    assert len(world.workers) <= 2 + 2 * depth + 4


def test_a_dead_worker_fails_its_task_and_no_other() -> None:
    world = World(4)
    group = world.open_group(2)
    tasks = world.submit(DRIVER, group, [Plan(0.001)] * 50 + [Plan(0.001, deadly=True)] + [Plan(0.001)] * 50)
    world.run(lambda: finished(world))
    assert world.ended[tasks[50]] == Status.WORKER_DIED
    assert statuses(world) == {Status.VALUE: 100, Status.WORKER_DIED: 1}
    assert max(world.started.values()) == 1


def test_a_deadly_task_with_retries_is_tried_again_and_then_fails() -> None:
    world = World(5)
    group = world.open_group(2)
    tasks = world.submit(DRIVER, group, [Plan(0.001, deadly=True)], max_retries=2)
    world.run(lambda: finished(world))
    assert world.ended[tasks[0]] == Status.WORKER_DIED
    assert world.started[tasks[0]] == 3


def test_recycled_workers_run_no_more_than_their_share() -> None:
    world = World(6)
    group = world.open_group(2, private=True, max_tasks=5)
    world.submit(DRIVER, group, [Plan(0.001)] * 42)
    world.run(lambda: finished(world))
    assert statuses(world) == {Status.VALUE: 42}
    world.feed(Received(DRIVER, m.CloseGroup(group, m.CloseMode.DRAIN)))
    world.run(lambda: group in world.closed)
    assert group in world.closed
    assert not world.workers


def test_workers_that_cannot_start_fail_the_tasks_instead_of_waiting() -> None:
    world = World(7, launch_failures=1.0)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(0.001)] * 3)
    world.run(lambda: finished(world))
    assert statuses(world) == {Status.WORKER_DIED: 3}
    assert len(world.notes) <= 6


def test_terminate_ends_everything_at_once() -> None:
    world = World(8)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(100.0)] * 10)
    world.run(lambda: world.now > 1.0 or len(world.started) == 2)
    world.feed(Received(DRIVER, m.CloseGroup(group, m.CloseMode.TERMINATE)))
    assert statuses(world) == {Status.CANCELLED: 10}
    world.run(lambda: not world.workers)
    assert not world.workers
    assert group in world.closed


def test_a_waiting_parent_that_cannot_run_its_private_children_gets_workers_for_them() -> None:
    world = World(9)
    group = world.open_group(1)
    world.submit(DRIVER, group, [Plan(0.001, (Plan(0.01), Plan(0.01)), child_cap=1)])
    world.run(lambda: len(world.ended) == 3)
    assert statuses(world) == {Status.VALUE: 3}


@pytest.mark.parametrize("seed", range(300))
def test_every_task_ends_once_whatever_happens(seed: int) -> None:
    world = World(seed, kill_rate=0.5, launch_failures=0.05)
    chance = world.random
    groups = [
        world.open_group(chance.randint(1, 4), private=private, max_tasks=chance.choice([0, 0, 3]) if private else 0)
        for private in (False, False, True)
    ]
    for _ in range(chance.randint(1, 8)):
        world.after(chance.uniform(0, 0.2), lambda: _do_something(world, groups))
    world.run(lambda: world.now > 0.3 and finished(world))
    assert finished(world)
    assert not {status for status in world.ended.values()} - {Status.VALUE, Status.CANCELLED, Status.WORKER_DIED}
    for group in groups:
        world.feed(Received(DRIVER, m.CloseGroup(group, m.CloseMode.DRAIN)))
    world.run(lambda: set(groups) <= world.closed)
    assert set(groups) <= world.closed
    statistics = world.hub.statistics()
    assert (statistics.queued, statistics.assigned) == (0, 0)


def _do_something(world: World, groups: list[int]) -> None:
    chance = world.random
    group = chance.choice(groups)
    what = chance.random()
    if group in world.closed:
        return
    if what < 0.7:
        plans = [_random_plan(world, 2) for _ in range(chance.randint(1, 40))]
        world.submit(DRIVER, group, plans, max_retries=chance.choice([0, 0, 2]))
    elif what < 0.9 and world.plans:
        own = [task for task in world.plans if not task >> 40]
        world.feed(Received(DRIVER, m.Cancel(chance.sample(own, min(5, len(own))))))
    elif world.workers:
        world.kill(chance.choice(list(world.workers.values())))


def _random_plan(world: World, depth: int) -> Plan:
    chance = world.random
    children: tuple[Plan, ...] = ()
    if depth and chance.random() < 0.1:
        children = tuple(_random_plan(world, depth - 1) for _ in range(chance.randint(1, 4)))
    return Plan(chance.choice([0.00001, 0.0005, 0.02]), children, chance.randint(1, 3), chance.random() < 0.02)
