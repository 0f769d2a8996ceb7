"""A world in which groups ask for resources: what is lent to whom, and that nobody has what another one holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalepool._base.amounts import UNIT
from scalepool._core.commands import StartWorker
from scalepool._core.events import Received
from scalepool._core.leasing import WHILE_IT_RUNS
from scalepool._core.resources import CPU, GPU, Demand
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER
from sim.world import World

if TYPE_CHECKING:
    from sim.worker import SimWorker

__all__ = ["Market", "demand"]


def demand(**amounts: float) -> Demand:
    """What a task needs, in whole ones."""
    return Demand.of({name: round(amount * UNIT) for name, amount in amounts.items()})


class Market(World):
    """A world with so much of each resource; ``overdrawn`` counts starts of tasks for which there were no CPUs."""

    def __init__(self, seed: int, *, kill_rate: float = 0.0, launch_failures: float = 0.0, **total: float) -> None:
        super().__init__(seed, kill_rate=kill_rate, launch_failures=launch_failures)
        self.total = {name: round(amount * UNIT) for name, amount in total.items()}
        self.hub._state.capacity = lambda: self.total
        self.demands: dict[int, Demand] = {}
        self.gpus: dict[int, tuple[int, ...]] = {}
        self.overdrawn = 0
        self.started_at: dict[int, float] = {}

    def ask(self, wanted: Demand, cap: int = 100) -> int:
        """Open a group whose tasks need this."""
        group = self.new_id(DRIVER)
        self.cap[group] = cap
        self.demands[group] = wanted
        names = [name.encode() for name, _ in wanted.amounts]
        kind = 1 + wanted.gpus
        opened = m.OpenGroup(group, 0, kind, cap, 0, 0, b"", lease=WHILE_IT_RUNS, resources=names)
        self.feed(Received(DRIVER, opened._replace(amounts=[amount for _, amount in wanted.amounts])))
        return group

    def deliver_to_hub(self, worker: SimWorker, message: m.Message) -> None:
        if isinstance(message, m.OpenGroup):  # of children: each needs a CPU
            self.demands[message.group] = demand(CPU=1)
            message = message._replace(lease=WHILE_IT_RUNS, resources=[CPU.encode()], amounts=[UNIT])
        super().deliver_to_hub(worker, message)

    def _obey(self, command: object) -> None:
        if isinstance(command, StartWorker):
            self.gpus[command.worker] = command.gpus
        super()._obey(command)

    def note_start(self, task: int, worker: SimWorker) -> None:
        super().note_start(task, worker)
        self.started_at.setdefault(task, self.now)
        held: Counter[str] = Counter()
        per_gpu: Counter[int] = Counter()
        for other in self.workers.values():
            for frame in other.frames if other.alive else ():
                if not other.will_run(frame):
                    continue
                wanted = self.demands[self.task_group[frame.task]]
                held.update({name: amount for name, amount in wanted.amounts if name != CPU})
                per_gpu.update(dict.fromkeys(self.gpus[other.id] if wanted.gpus else (), min(UNIT, wanted.gpus)))
            if other.alive and other.computing and other.will_run(other.frames[-1]):
                held[CPU] += self.demands[self.task_group[other.frames[-1].task]].of_name(CPU)
        wanted = self.demands[self.task_group[task]]
        assert len(self.gpus[worker.id]) == -(-wanted.gpus // UNIT)
        assert all(amount <= UNIT for amount in per_gpu.values()), f"GPUs are in use twice: {per_gpu}"
        assert all(amount <= self.total[name] for name, amount in held.items() if name not in (CPU, GPU))
        self.overdrawn += held[CPU] > self.total[CPU]
