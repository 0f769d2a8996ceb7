"""The hub under seeded kills, cancels, recycling and nesting: every task ends once, and nothing innocent runs twice."""

from __future__ import annotations

import os

import pytest

from scalepool._core.doubts import DOUBT_S
from scalepool._core.events import Received
from scalepool._core.stats import HubStatistics
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from sim.chaos import Chaos, finished
from sim.world import Plan, World, statuses


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


def test_a_task_that_waits_for_one_child_first_is_not_held_up_by_the_others() -> None:
    world = World(10)
    group = world.open_group(2)
    plan = Plan(0.001, (Plan(0.01), Plan(0.01), Plan(0.01)), first_only=True)
    world.submit(DRIVER, group, [plan])
    world.run(lambda: finished(world))
    assert statuses(world)[Status.VALUE] == 4
    assert world.now < 0.1


def test_many_waiting_tasks_do_not_let_in_all_the_others() -> None:
    world = World(11)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(0.001, (Plan(0.02),), child_cap=1)] * 40)
    world.run(lambda: finished(world))
    assert statuses(world) == {Status.VALUE: 80}
    assert world.most_workers <= 8


def test_a_failed_initializer_ends_its_group_and_no_other() -> None:
    world = World(12)
    world.initializer_failures = 1.0
    private, shared = world.open_group(3, private=True), world.open_group(2)
    doomed = world.submit(DRIVER, private, [Plan(0.001)] * 20)
    world.submit(DRIVER, shared, [Plan(0.001)] * 20)
    world.run(lambda: finished(world))
    assert statuses(world) == {Status.VALUE: 20, Status.INITIALIZER_FAILED: 20}
    assert all(world.ended[task] == Status.INITIALIZER_FAILED and not world.started[task] for task in doomed)


def test_a_cancelled_task_never_starts() -> None:
    world = World(13)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(0.0001)] * 20)
    world.run(lambda: finished(world))
    tasks = world.submit(DRIVER, group, [Plan(0.001)] * 100)
    world.after(0.005, lambda: world.feed(Received(DRIVER, m.Cancel(tasks))))
    world.run(lambda: finished(world) and world.now > 1.0)
    cancelled = {task for task in tasks if world.ended[task] == Status.CANCELLED}
    assert cancelled.isdisjoint(world.started)
    assert cancelled | set(world.started) >= set(tasks)
    assert world.refused.isdisjoint(cancelled)
    assert len(cancelled) > 50


def test_what_a_stopped_worker_has_not_begun_runs_elsewhere() -> None:
    world = World(14)
    group = world.open_group(2)
    world.submit(DRIVER, group, [Plan(0.0005)] * 100)
    world.run(lambda: finished(world))
    before = world.now
    tasks = world.submit(DRIVER, group, [Plan(0.0005)] * 100)
    world.run(lambda: sum(world.started[task] for task in tasks) > 10)
    stopped = min(world.workers.values(), key=lambda worker: worker.id)
    stopped.stopped = True
    mine = {frame.task for frame in stopped.frames}
    unsent = {task for task in tasks if world.executed[task] and task not in world.ended}
    world.run(lambda: all(task in world.ended for task in tasks if task not in mine | unsent))
    assert world.now - before < 1.0
    stopped.goes_on_after_sigcont()
    world.run(lambda: finished(world))
    assert set(world.started.values()) == {1}
    assert statuses(world) == {Status.VALUE: 200}


def test_a_worker_that_is_stopped_before_it_has_begun_anything_is_replaced() -> None:
    world = World(15)
    group = world.open_group(1)
    world.submit(DRIVER, group, [Plan(0.0005)])
    world.run(lambda: finished(world))
    (worker,) = world.workers.values()
    worker.stopped = True
    world.submit(DRIVER, group, [Plan(0.0005)] * 3)
    world.run(lambda: finished(world))
    assert world.now < 1.0
    worker.goes_on_after_sigcont()
    world.run(lambda: world.now > 1.0)
    assert set(world.started.values()) == {1}
    assert worker.alive


def test_workers_that_get_no_processor_for_a_while_are_not_replaced() -> None:
    world = World(16)
    group = world.open_group(20)
    world.submit(DRIVER, group, [Plan(0.01)] * 20)
    world.run(lambda: finished(world))
    crowd = list(world.workers.values())
    for worker in crowd:
        worker.stopped = worker.starved = True
        world.after(world.random.uniform(0.3, DOUBT_S), worker.goes_on_after_sigcont)
    world.submit(DRIVER, group, [Plan(0.01)] * 40)
    world.run(lambda: finished(world))
    assert world.most_workers == len(crowd) == 20
    assert set(world.started.values()) == {1}


_QUICK_SEEDS = 60
SEEDS = [
    pytest.param(seed, marks=pytest.mark.slow) if seed >= _QUICK_SEEDS else seed
    for seed in range(int(os.environ.get("SCALEPOOL_SIM_SEEDS", "300")))
]
"""Set the variable for a longer run. A quick one has the first ones only: what is decided is the same everywhere."""


MAX_BEYOND_CAP = 6
"""A task goes on at once when its wait is over: then its group may for a moment be one above its cap, no longer.
Most seeds have none; a hub that keeps giving work to the worker too many has dozens."""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_ends_once_whatever_happens(seed: int) -> None:
    play(Chaos(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_task_begins_more_often_than_it_may_while_hosts_are_cut_off_and_go_on(seed: int) -> None:
    chaos = Chaos(seed)
    chaos.cut_off_some()
    play(chaos)


def test_who_is_cut_off_does_go_on() -> None:
    begun = 0
    for seed in range(30):
        chaos = Chaos(seed)
        chaos.cut_off_some()
        chaos.run()
        begun += chaos.world.begun_cut_off
    assert begun > 30


def play(chaos: Chaos) -> None:
    """Tell a story to its end, and see that all is as it should be."""
    world = chaos.world
    chaos.run()
    assert finished(world)
    assert set(world.ended.values()) <= set(Status) - {Status.ERROR}
    assert all(count <= MAX_BEYOND_CAP for count in world.beyond_cap.values()), "more at once than a cap allows"
    died = [task for task, status in world.ended.items() if status == Status.WORKER_DIED]
    if not world.launch_failures and not world.hung_initializers:  # or processes may have ended before they were ready
        tried = all(world.started[task] > world.max_retries[task] or task in world.hardly_begun for task in died)
        assert tried, "failed without being tried"
    timed_out = [task for task, status in world.ended.items() if status == Status.TIMED_OUT]
    assert all(world.limit_s[task] for task in timed_out), "a task without a limit timed out"
    assert all(
        world.started[task] == 0
        or task in world.forced
        or world.task_group[task] in world.stopped
        or task >> 40
        # It was waiting for its next attempt, as its worker had died, or its result was lost.
        or any(owner == task for owner, _ in world.lost_items)
        or world.executed[task]
        for task, status in world.ended.items()
        if status == Status.CANCELLED
    ), "a task that had started was cancelled although nobody said so"
    chaos.close_all()
    assert set(chaos.groups) <= world.closed
    world.run()  # ... until nobody is idle any more
    assert world.hub.statistics() == HubStatistics(0, 0, 0, 0, 0, 0), "something was left behind"
    assert world.workers == {}
    assert world.hub.alarm_at is None
