"""Who holds what: the ledgers of a session's hosts, and what each worker has of that of its own.

Each host of a cluster has a ledger, and a worker that of its host: what one task needs has to be there on one host.
Without a cluster there is one ledger, under number 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.amounts import UNIT
from scalepool._core.resources import CPU, GPU, Ledger, summed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scalepool._core.groups import Group
    from scalepool._core.resources import Demand, Lease
    from scalepool._core.state import HubState
    from scalepool._core.workers import Level, Wait, Worker

__all__ = ["Accounts", "lease_violations", "levels_of"]

_REMEMBERED: Final = 256
"""Ledgers of hosts that are gone and may come back."""


class Accounts:
    """The ledgers, and what workers hold.

    Parameters
    ----------
    totals
        What each host of the session has, by its number, in units by name.
    """

    __slots__ = ("_gone", "closed", "ledgers")

    def __init__(self, totals: Mapping[int, Mapping[str, int]]) -> None:
        self.ledgers = {number: Ledger(total, number) for number, total in totals.items()}
        self._gone: dict[int, Ledger] = {}
        self.closed: frozenset[int] = frozenset()
        """Hosts that get nothing new, for they will leave."""

    @property
    def open(self) -> list[Ledger]:
        """The ledgers of hosts that stay."""
        ledgers = list(self.ledgers.values())
        return [one for one in ledgers if one.host not in self.closed] if self.closed else ledgers

    def update(self, totals: Mapping[int, Mapping[str, int]], closed: frozenset[int]) -> None:
        """Hosts have come or gone, or will go. One that is gone may come back with all that it had."""
        for number in self.ledgers.keys() - totals.keys():
            self._gone[number] = self.ledgers.pop(number)
            while len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
        for number in totals.keys() - self.ledgers.keys():
            before = self._gone.pop(number, None)
            is_same = before is not None and before.total == totals[number]
            self.ledgers[number] = before if before is not None and is_same else Ledger(totals[number], number)
        self.closed = closed

    def ledger_of(self, worker: Worker) -> Ledger:
        """Return where it is accounted for what a worker holds."""
        if worker.ledger is None:
            found = self.ledgers.get(worker.host)
            if found is None:  # it is not known yet where it is, or its host is gone
                return Ledger({}, worker.host)
            worker.ledger = found
        return worker.ledger

    def has_room(self, demand: Demand) -> bool:
        """Whether some host has room for it now."""
        return any(ledger.room(demand) for ledger in self.open)

    def total(self) -> dict[str, int]:
        """What all hosts have together, in units by name."""
        return summed(ledger.total for ledger in self.open)

    def free(self) -> dict[str, int]:
        """What is free of that."""
        return summed(ledger.free() for ledger in self.open)

    # ---- taking and giving back ----

    def attach(self, worker: Worker, group: Group) -> None:
        """``worker`` is given tasks of ``group``: it holds what they need from now on."""
        level = _level(worker)
        if level.lease is None or level.lease.demand != group.demand:
            ledger = self.ledger_of(worker)
            if level.lease is not None:
                ledger.give_back(level.lease)  # of what it has run there before
            level.lease = ledger.take(group.demand, tuple(worker.gpus) if group.gpus else None) or ledger.overdraw(
                group.demand
            )
            assert level.lease is not None, f"{group} gets a worker, and what it needs is not there"

    def is_usable(self, worker: Worker, group: Group) -> bool:
        """Whether the GPUs of an idle worker are free."""
        return self.ledger_of(worker).fits_on(group.demand, worker.gpus)

    def detach(self, worker: Worker) -> None:
        """Take back what ``worker`` holds unless it runs something, or has it for life."""
        level = _level(worker)
        if level.lease is not None and not level.lease.lasting and worker.rests:
            self.ledger_of(worker).give_back(level.lease)
            level.lease = None

    def begin_wait(self, worker: Worker) -> None:
        """Its task is about to wait: others may have its CPUs."""
        lease = _level(worker).lease
        if lease is not None:
            self.ledger_of(worker).lend(lease)

    def end_wait(self, worker: Worker, over: Wait) -> None:
        """Its task goes on."""
        if over.lease is not None:
            self.ledger_of(worker).give_back(over.lease)
            over.lease = None
        lease = _level(worker).lease
        if lease is not None:
            self.ledger_of(worker).regain(lease)

    def lose(self, worker: Worker) -> None:
        """The process is gone, and holds nothing any more."""
        for level in levels_of(worker):
            if level.lease is not None:
                self.ledger_of(worker).give_back(level.lease)
                level.lease = None


def _level(worker: Worker) -> Level:
    return worker.waits[-1] if worker.waits else worker


def levels_of(worker: Worker) -> list[Level]:
    """Return the worker's ground and its waits, outermost first."""
    return [worker, *worker.waits]


def lease_violations(state: HubState, books: Accounts) -> Iterator[str]:
    """Yield one sentence for each invariant of the ledgers that does not hold."""
    workers = state.roster.workers.values()
    for ledger in books.ledgers.values():
        there = [worker for worker in workers if books.ledger_of(worker) is ledger]
        leases = [level.lease for worker in there for level in levels_of(worker) if level.lease is not None]
        yield from _wrong_sums(ledger, leases)
    for worker in workers:
        group = worker.serving
        runs = group is not None and group.books is not None and not worker.rests
        if runs and _level(worker).lease is None:
            yield f"{worker} runs tasks of {group}, and holds nothing for them"


def _wrong_sums(ledger: Ledger, leases: Sequence[Lease]) -> Iterator[str]:
    expected = dict(ledger.total)
    for lease in leases:
        for name, amount in lease.demand.amounts:
            expected[name] -= 0 if lease.lent and name == CPU else amount
    if ledger.free() != expected:
        yield f"the ledger says that {ledger.free()} is free, not {expected}"
    if below := [name for name, amount in ledger.free().items() if amount < 0 and name != CPU]:
        yield f"{below} are overdrawn"
    for gpu in range(ledger.total.get(GPU, 0) // UNIT):
        lent = sum(min(UNIT, lease.demand.gpus) for lease in leases if gpu in lease.gpus)
        if lent > UNIT or UNIT - lent != ledger.free_on(gpu):
            yield f"of GPU {gpu} {lent} units are lent, and {ledger.free_on(gpu)} free"
