"""What a seed makes happen: tasks of all sorts, cancels, kills, terminated groups, launches that fail."""

from __future__ import annotations

from scalepool._core.events import Received
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode
from sim.world import Plan, World


def finished(world: World) -> bool:
    """Whether each task of the driver has ended; children of a task that died have nobody left to tell."""
    return all(task in world.ended for task in world.plans if not task >> 40)


class Chaos:
    """One seed's story."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed, kill_rate=0.5)
        self.random = chance = world.random
        world.launch_failures = chance.choice([0.0, 0.05, 0.5])
        world.initializer_failures = chance.choice([0.0, 0.0, 0.0, 0.1])
        world.lost_objects = chance.choice([0.0, 0.0, 0.05])
        world.delay_s = chance.choice([0.00005, 0.0005, 0.005])
        world.hung_initializers = chance.choice([0.0, 0.0, 0.0, 0.2])
        world.slow_begins = chance.choice([0.0, 0.1, 0.5])
        world.growth = chance.choice([0.0, 0.0, 0.2])
        self.groups = [
            world.open_group(chance.randint(1, 4), max_rss=1000),
            world.open_group(chance.randint(1, 4)),
            world.open_group(
                chance.randint(1, 4), private=True, max_tasks=chance.choice([0, 0, 3]), max_rss=1000, initializer_ms=500
            ),
        ]

    def run(self) -> None:
        """Let it all happen, until every task has ended."""
        for _ in range(self.random.randint(1, 8)):
            self.world.after(self.random.uniform(0, 0.2), self._do_something)
        self.world.run(lambda: self.world.now > 0.3 and finished(self.world))

    def close_all(self) -> None:
        """Close every group and wait until the hub says so."""
        for group in self.groups:
            self.world.close(group, self.random.choice(list(CloseMode)))
        self.world.run(lambda: set(self.groups) <= self.world.closed)

    def _do_something(self) -> None:
        world, chance = self.world, self.random
        group = chance.choice(self.groups)
        what = chance.random()
        if what < 0.6:
            if group not in world.stopped:  # a client submits nothing after that
                plans = [self._plan(2) for _ in range(chance.randint(1, 40))]
                world.submit(DRIVER, group, plans, chance.choice([0, 0, 2]), chance.choice([0.0, 0.0, 0.05]))
        elif what < 0.64:
            self._submit_stuck(group)
        elif what < 0.8:
            own = [task for task in world.plans if not task >> 40]
            chosen = chance.sample(own, min(5, len(own)))
            stop = chance.random() < 0.5
            world.forced.update(chosen if stop else ())
            world.feed(Received(DRIVER, m.Stop(chosen) if stop else m.Cancel(chosen)))
        elif what < 0.82 and world.workers:
            world.freeze_one()
        elif what < 0.85:
            world.feed(Received(DRIVER, m.StartWorkers(group)))
        elif what < 0.92:
            world.close(group, chance.choice([CloseMode.TERMINATE, CloseMode.KILL]))
        elif world.workers:
            world.kill(chance.choice(list(world.workers.values())))

    def cut_off_some(self) -> None:
        """Have hosts of workers be lost at times, while the workers go on."""
        world = self.world

        def cut() -> None:
            if world.workers:
                world.cut_off(self.random.choice(list(world.workers.values())))

        for _ in range(self.random.randint(1, 10)):
            world.after(self.random.uniform(0, 0.3), cut)

    def _submit_stuck(self, group: int) -> None:
        """Tasks that never come back: one that has a time limit, and one that is stopped by force after a while."""
        world, chance = self.world, self.random
        if group in world.stopped:
            return
        world.submit(DRIVER, group, [Plan(0.001, stuck=True, items=chance.choice([0, 5]))], limit_s=0.2)
        stuck = world.submit(DRIVER, group, [Plan(0.001, stuck=True)])

        def stop() -> None:
            if stuck[0] not in world.ended:
                world.forced.update(stuck)
                world.feed(Received(DRIVER, m.Stop(stuck)))
                world.after(0.5, stop)

        world.after(0.5, stop)

    def _plan(self, depth: int) -> Plan:
        chance = self.random
        children: tuple[Plan, ...] = ()
        if depth and chance.random() < 0.1:
            children = tuple(self._plan(depth - 1) for _ in range(chance.randint(1, 4)))
        return Plan(
            chance.choice([0.00001, 0.0005, 0.02]),
            children,
            child_cap=chance.randint(1, 3),
            deadly=chance.random() < 0.02,
            items=0 if children or chance.random() < 0.8 else chance.randint(2, 6),
            deadly_item=chance.choice([0, 0, 0, 1, 2]),
            first_only=chance.random() < 0.5,
            argument=chance.random() < 0.3,
            result=chance.random() < 0.2,
        )
