"""Tasks go to their data under seeded kills and delays: fewer objects cross links, and nothing takes longer for it."""

from __future__ import annotations

import pytest

from scalepool._core.events import Received, WorkerPlaced
from scalepool._core.hub import Hub
from scalepool._core.locality import LARGE_BYTES
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, Status
from sim.chaos import finished
from sim.test_world import SEEDS
from sim.world import Plan, World, statuses

HOSTS = 4
SLOTS = 3
OBJECTS = 30


class Country(World):
    """Workers on several hosts, and large objects of the program; ``crossings`` counts those brought to a host."""

    def __init__(self, seed: int, *, tells: bool, kill_rate: float = 0.0) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.copies: dict[int, set[int]] = {}
        self.hub = Hub(idle_worker_s=5.0, copies=self.copies if tells else None)
        self.crossings = 0
        self.group = self.open_group(HOSTS * SLOTS)
        self.data = [self.new_id(DRIVER) for _ in range(OBJECTS)]
        self.objects.update(self.data)
        for number in self.data:
            self.feed(Received(DRIVER, m.Put((number, 1000, 3, LARGE_BYTES))))

    def home(self, worker: int) -> int:
        return 1 + worker % HOSTS

    def _launch(self, worker_id: int) -> None:
        self.feed(WorkerPlaced(worker_id, self.home(worker_id)))
        super()._launch(worker_id)

    def use(self, number: int, plan: Plan) -> None:
        """Submit a task that reads an object."""
        task = self.new_id(DRIVER)
        self.plans[task], self.task_group[task] = plan, self.group
        self.max_retries[task], self.limit_s[task] = 2, 0.0
        self.carries[task] = (number,)
        columns = m.Submit(self.group, 2, [7], [b"f"], [task], [7], [b""], [1], [number], [])
        self.feed(Received(DRIVER, columns))

    def note_start(self, task: int, worker: object) -> None:
        super().note_start(task, worker)  # type: ignore[arg-type]
        for number in self.carries.get(task, ()):
            hosts = self.copies.setdefault(number, set())
            home = self.home(worker.id)  # type: ignore[attr-defined]
            self.crossings += home not in hosts
            hosts.add(home)


def play(seed: int, *, tells: bool, kill_rate: float = 0.0, load: float = 0.3) -> Country:
    """Have tasks come for two seconds, so many that this part of the workers is busy."""
    world = Country(seed, tells=tells, kill_rate=kill_rate)
    chance = world.random
    seconds = chance.choice([0.002, 0.02, 0.1])
    count = int(2.0 * load * HOSTS * SLOTS / seconds)
    for at in sorted(chance.uniform(0, 2.0) for _ in range(min(count, 400))):
        number = chance.choice(world.data)
        world.after(at, lambda number=number: world.use(number, Plan(seconds)))  # type: ignore[misc]
    world.run(lambda: world.now > 2.0 and finished(world))
    return world


@pytest.mark.parametrize("seed", SEEDS[: max(30, len(SEEDS) // 10)])
def test_whatever_happens_every_task_ends_once(seed: int) -> None:
    world = play(seed, tells=True, kill_rate=0.3, load=2.0)
    assert set(statuses(world)) <= {Status.VALUE, Status.WORKER_DIED}


def test_fewer_objects_cross_links_and_nothing_takes_longer() -> None:
    near = [play(seed, tells=True) for seed in range(20)]
    far = [play(seed, tells=False) for seed in range(20)]
    assert sum(world.crossings for world in near) < 0.8 * sum(world.crossings for world in far)
    for one, other in zip(near, far, strict=True):
        assert one.now <= 1.1 * other.now
