"""A world of many hosts that join, leave, are emptied and are lost, with the head's own choice among them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalepool._base.amounts import UNIT
from scalepool._core.commands import Send, StartWorker
from scalepool._core.events import (
    HostFacts,
    HostsChanged,
    LaunchFailed,
    Move,
    ShareChanged,
    WorkerExited,
    WorkerPlaced,
)
from scalepool._core.placement import STAYS, Host, Placement, transfer
from scalepool._core.resources import CPU, GPU
from scalepool._wire import messages as m
from scalepool._wire.cluster import Offer
from sim.market import Market

if TYPE_CHECKING:
    from sim.worker import SimWorker

__all__ = ["Nodes"]


class Nodes(Market):
    """One session on a cluster."""

    def __init__(self, seed: int, *, kill_rate: float = 0.0) -> None:
        super().__init__(seed, kill_rate=kill_rate)
        self.placement = Placement()
        self.homes: dict[int, Host] = {}
        self.facts: dict[int, HostFacts] = {}
        self.moves = 0
        self.lost_workers = 0
        self.share = 0

    # ---- hosts ----

    def join(self, slots: int, gpus: int = 0) -> None:
        number = len(self.facts) + 1
        amounts = {CPU: slots * UNIT, **({GPU: gpus * UNIT} if gpus else {})}
        self.placement.join(number, b"there", Offer(slots, 0, b""))
        self.facts[number] = HostFacts(number, f"host{number}", slots, amounts)
        self.tell_hosts()

    def tell_hosts(self) -> None:
        there = self.placement.hosts.items()
        self.feed(HostsChanged(tuple(self.facts[number]._replace(leaving=host.state) for number, host in there)))

    def one_staying(self) -> Host | None:
        """Some host, but never the last one."""
        staying = self.placement.staying
        return self.random.choice(staying) if len(staying) > 1 else None

    def drain(self) -> None:
        host = self.one_staying()
        if host is None:
            return
        self.placement.drain(host, self.random.choice([0.05, 0.5, 5.0]))
        self.tell_hosts()
        self.after(0.0, lambda: self.look_after(host))

    def look_after(self, host: Host) -> None:
        """What the head does with a host that is to leave."""
        if host.number not in self.placement.hosts:
            return
        if self.placement.pass_time(self.now):
            self.tell_hosts()
        if host in self.homes.values():
            self.after(0.05, lambda: self.look_after(host))
            return
        assert host.load == 0
        self.placement.lose(host)
        self.tell_hosts()

    def lose_one(self) -> None:
        host = self.one_staying()
        if host is None:
            return
        self.placement.lose(host)
        gone = [number for number, home in self.homes.items() if home is host]
        for number in gone:
            del self.homes[number]
            worker = self.workers.get(number)
            if worker is not None and worker.alive:
                self.lost_workers += 1
                worker.alive, worker.broken = False, True
                begun = self.hub.may_have_begun(number)
                for task in self.hub._state.roster.workers[number].held:  # nobody can know which of these had begun
                    self.max_retries[task] += 1
                self.feed(WorkerExited(number, None, begun, reason="its host left the cluster", is_moot=True))
                del self.workers[number]
            elif worker is None:
                self.feed(WorkerExited(number, None, reason="its host left the cluster", is_moot=True))
        self.tell_hosts()

    def move_some(self) -> None:
        """What the head does about a crowded host."""
        counts = Counter(home.number for home in self.homes.values())
        found = transfer(self.placement.staying, {1: counts})
        if found is not None:
            self.moves += 1
            self.feed(Move(found.source.number, found.target.number, found.workers))

    def limit(self, share: int) -> None:
        self.share = share
        self.feed(ShareChanged(share))

    # ---- workers ----

    def _obey(self, command: object) -> None:
        if isinstance(command, StartWorker):
            host = self.placement.take(command.host)
            if host is None:
                self.after(0.001, lambda: self.feed(LaunchFailed(command.worker, "no host", True)))
                return
            self.homes[command.worker] = host
            self.after(0.0, lambda: self.feed(WorkerPlaced(command.worker, host.number)))
        elif isinstance(command, Send) and isinstance(command.message, m.Run):
            home = self.homes.get(command.peer)
            assert home is None or home.state == STAYS, "a host that is to leave gets something new"
        super()._obey(command)

    def _launch(self, worker_id: int) -> None:
        if worker_id in self.homes:  # else its host was lost meanwhile
            super()._launch(worker_id)

    def feed(self, event: object) -> None:
        super().feed(event)  # type: ignore[arg-type]  # one of them
        if isinstance(event, WorkerExited | LaunchFailed):
            home = self.homes.pop(event.worker, None)
            if home is not None:
                self.placement.give_back(home)
        loads = Counter(home.number for home in self.homes.values())
        assert all(host.load == loads[number] for number, host in self.placement.hosts.items())

    def note_start(self, task: int, worker: SimWorker) -> None:
        """As of a world without a market: what each host has is looked at here."""
        super(Market, self).note_start(task, worker)
        home = self.homes[worker.id]
        total = self.facts[home.number].amounts
        held: Counter[str] = Counter()
        per_gpu: Counter[int] = Counter()
        for other in self.workers.values():
            if self.homes.get(other.id) is not home or not other.alive:
                continue
            for frame in other.frames:
                wanted = self.demands.get(self.task_group[frame.task])
                if wanted is not None and other.will_run(frame):
                    held.update(dict(wanted.amounts))
                    per_gpu.update(dict.fromkeys(self.gpus[other.id] if wanted.gpus else (), min(UNIT, wanted.gpus)))
        assert all(amount <= UNIT for amount in per_gpu.values()), f"GPUs are in use twice: {per_gpu}"
        assert held[CPU] <= total[CPU], f"host {home.number} has {total[CPU]}, and runs {held[CPU]}"
