"""Who may hold what: the resources of a session among the groups that asked for some.

Only groups of remote functions and actors ask; a pool has as many workers as it was made with, whatever else runs. A
worker holds what its group's tasks need from the first of them that it is given until it has none of them left: one
entry in the ledger for any number of short tasks. An actor holds its own for life, and what has GPUs from the order of
its process on, since it must know them when it starts.

Who cannot have even one worker is *short*. The group that has been short longest, for longer than `PATIENCE_S`, gets
what it needs set aside: others may have only what is left beside that, and workers that hold something of it get
no more tasks. So a large demand is met when those before it have ended, however many small ones come in between; and
small ones go on beside it where there is room. Nothing is set aside for a demand that actors leave no room for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.amounts import UNIT, amount_text, amounts_text
from scalepool._core.commands import Note
from scalepool._core.groups import STARVED_S
from scalepool._core.resources import CPU, ENOUGH, GPU, NOTHING, Demand, Ledger, beyond
from scalepool._core.workers import WorkerState
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Level, Wait, Worker
    from scalepool._wire.messages import OpenGroup

__all__ = ["FOR_LIFE", "PATIENCE_S", "WARN_AFTER_S", "WHILE_IT_RUNS", "Books", "account_for", "lease_violations"]

WHILE_IT_RUNS: Final = 1
"""Value of ``OpenGroup.lease``: who runs a task of the group holds what it needs."""
FOR_LIFE: Final = 2
"""The group's worker holds it as long as it lives."""
PATIENCE_S: Final = 0.5
"""How long a group is short before something is set aside for it."""
WARN_AFTER_S: Final = 10.0
"""How long it is short before the user is told."""


class Books:
    """The ledger, and who waits for what is in it.

    Parameters
    ----------
    total
        What the session has, in units by name.
    """

    __slots__ = ("ledger", "reserved", "short")

    def __init__(self, total: Mapping[str, int]) -> None:
        self.ledger = Ledger(total)
        self.short: list[Group] = []
        """Groups of which not even one worker can run a task."""
        self.reserved: Group | None = None
        """The one that something is set aside for."""

    # ---- how many ----

    def slots(self, group: Group, now: float) -> int:
        """How many more workers may run tasks of ``group`` at once."""
        own = group.cap - group.active()
        if own <= 0 or group.lease == FOR_LIFE:
            return max(0, own)  # an actor's worker holds everything already
        if group.gpus:
            own -= group.starting  # they hold theirs already
        room = self._room(group)
        if room <= 0 and self._starves(group, now):
            room = 1
        return max(0, min(own, room))

    def _room(self, group: Group) -> int:
        reserved = self.reserved
        kept = NOTHING if reserved is None or reserved is group else reserved.demand
        return self.ledger.room(group.demand, kept)

    def _starves(self, group: Group, now: float) -> bool:
        """Whether a task may wait for one of these in a way that we cannot see; it may then have a CPU too many."""
        if group.parent is None or group.gpus or now - group.root.moved_at < STARVED_S:
            return False
        return not self.ledger.lacking(group.demand).keys() - {CPU}

    def left_beside(self, group: Group, returning: Sequence[Worker]) -> int:
        """How many more workers of ``group`` CPUs allow, when those go on that have got all that they wait for."""
        cpus = group.demand.of_name(CPU)
        if not cpus:
            return ENOUGH
        leases = [_levels(worker)[-2].lease for worker in returning]
        back = sum(lease.demand.of_name(CPU) for lease in leases if lease is not None and lease.lent)
        return (self.ledger.free()[CPU] - back) // cpus

    def surplus(self, group: Group) -> int:
        """How many workers of ``group`` should stop after what they hold, for others to have what these need."""
        reserved = self.reserved
        if reserved is not None and reserved is not group:
            short = self.ledger.lacking(reserved.demand)
        elif overdrawn := self.ledger.overdrawn():
            short = {CPU: overdrawn}
        else:
            return 0
        found = 0
        for name, amount in group.demand.amounts:
            if name in short:
                found = max(found, -(-short[name] // amount))
        return found

    def may_run_in_place(self, worker: Worker, group: Group) -> bool:
        """Whether a waiting worker may run a task of ``group`` meanwhile."""
        if group.gpus:
            return False  # its own are another's, and a process cannot change them
        lease = worker.waits[-1].lease
        return (lease is not None and lease.demand == group.demand) or self.ledger.room(group.demand) > 0

    # ---- taking and giving back ----

    def order(self, group: Group, worker: Worker) -> bool:
        """Lend what a new process must know of when it starts; False where that is not to be had now."""
        if group.lease != FOR_LIFE and not group.gpus:
            return True
        if self._room(group) <= 0:
            return False
        worker.lease = self.ledger.take(group.demand, lasting=group.lease == FOR_LIFE)
        assert worker.lease is not None
        worker.gpus = dict.fromkeys(worker.lease.gpus, min(UNIT, group.gpus))
        return True

    def attach(self, worker: Worker, group: Group) -> None:
        """``worker`` is given tasks of ``group``: it holds what they need from now on."""
        level = _level(worker)
        if level.lease is None or level.lease.demand != group.demand:
            ledger = self.ledger
            if level.lease is not None:
                ledger.give_back(level.lease)  # of what it has run there before
            level.lease = ledger.take(group.demand, tuple(worker.gpus) if group.gpus else None) or ledger.overdraw(
                group.demand
            )
            assert level.lease is not None, f"{group} gets a worker, and what it needs is not there"

    def is_usable(self, worker: Worker, group: Group) -> bool:
        """Whether the GPUs of an idle worker are free."""
        return self.ledger.fits_on(group.demand, worker.gpus)

    def detach(self, worker: Worker) -> None:
        """Take back what ``worker`` holds unless it runs something, or has it for life."""
        level = _level(worker)
        if level.lease is not None and not level.lease.lasting and worker.rests:
            self.ledger.give_back(level.lease)
            level.lease = None

    def begin_wait(self, worker: Worker) -> None:
        """Its task is about to wait: others may have its CPUs."""
        lease = _level(worker).lease
        if lease is not None:
            self.ledger.lend(lease)

    def end_wait(self, worker: Worker, over: Wait) -> None:
        """Its task goes on."""
        if over.lease is not None:
            self.ledger.give_back(over.lease)
            over.lease = None
        lease = _level(worker).lease
        if lease is not None:
            self.ledger.regain(lease)

    def lose(self, worker: Worker) -> None:
        """The process is gone, and holds nothing any more."""
        for level in _levels(worker):
            if level.lease is not None:
                self.ledger.give_back(level.lease)
                level.lease = None

    def in_the_way(self, state: HubState, started: Worker) -> list[Worker]:
        """Return idle workers that keep memory of a GPU that a process about to start will use."""
        crowd: list[Worker] = []
        for gpu in started.gpus:
            others = [one for one in state.roster.workers.values() if one is not started and gpu in one.gpus]
            there = [one for one in others if one.state in (WorkerState.STARTING, WorkerState.READY)]
            idle = [one for one in state.roster.all_idle() if one in there and one not in crowd]
            over = sum(one.gpus[gpu] for one in there if one not in crowd) + started.gpus[gpu] - UNIT
            while over > 0 and idle:
                crowd.append(idle.pop(0))
                over -= crowd[-1].gpus[gpu]
        return crowd

    # ---- who is short ----

    def review(self, state: HubState) -> bool:
        """Look who is short, set something aside for one of them; True when others may have more than before."""
        if not state.ready and self.reserved is None:
            return False
        self.short = [group for group in state.ready.values() if self._is_short(group)]
        before, self.reserved = self.reserved, None
        for group in self.short:
            since = group.short_since
            if since is None:
                since = group.short_since = state.now
            self._warn(state, group, since)
            if state.now - since < PATIENCE_S:
                state.alarm(since + PATIENCE_S + 1e-4)  # a difference of floats must not fall short of it
            elif self.ledger.can_come(group.demand) and _is_before(group, self.reserved):
                self.reserved = group
        return before is not None and before is not self.reserved

    def _is_short(self, group: Group) -> bool:
        is_short = (
            group.books is not None
            and bool(group.queued)
            and not group.active()
            and not (group.starting and group.gpus)
            and (group.actor is None or group.actor.wants_worker)
            and not self.ledger.room(group.demand)
        )
        if not is_short:
            group.short_since = None
        return is_short

    def _warn(self, state: HubState, group: Group, since: float) -> None:
        if group.warned:
            return
        if state.now - since < WARN_AFTER_S:
            state.alarm(since + WARN_AFTER_S + 1e-4)
            return
        group.warned = True
        who = "an actor" if group.lease == FOR_LIFE else f"{group.queued} task{'s' if group.queued > 1 else ''}"
        state.out.command(Note(f"{who} waited {WARN_AFTER_S:.0f} s for resources: {self.shortage(group.demand)}"))

    def shortage(self, demand: Demand) -> str:
        """Say what is lacking for a demand, against what is there."""
        lacking, free = self.ledger.lacking(demand), self.ledger.free()
        parts = []
        for name in lacking:
            needed, total = demand.of_name(name), self.ledger.total.get(name, 0)
            there = amount_text(name, max(0, free.get(name, 0)))
            unit = " of the same" if name == GPU and demand.gpus < UNIT else ""
            parts.append(f"{amount_text(name, needed)} {name}{unit} needed, {there} of {amount_text(name, total)} free")
        return "; ".join(parts)


def account_for(state: HubState, group: Group, opened: OpenGroup) -> None:
    """Enter a new group that asks for resources into the books, which are opened with the first one.

    Raises
    ------
    ProtocolError
        When its demand makes no sense, or is more than there ever is.
    """
    if len(opened.resources) != len(opened.amounts) or any(amount <= 0 for amount in opened.amounts):
        raise ProtocolError("a group was opened with a demand that makes no sense")
    names = [name.decode("utf-8", "replace") for name in opened.resources]
    demand = Demand.of(dict(zip(names, opened.amounts, strict=True)))
    if state.books is None:
        state.books = Books(state.capacity())
    total = state.books.ledger.total
    if beyond(demand, total) or opened.lease not in (WHILE_IT_RUNS, FOR_LIFE) or opened.lease > 1 + opened.private:
        raise ProtocolError(f"a group was opened that needs {demand}, of {amounts_text(total)}")
    group.books, group.demand, group.gpus = state.books, demand, demand.gpus


def _is_before(group: Group, other: Group | None) -> bool:
    return other is None or (group.short_since or 0.0) < (other.short_since or 0.0)


def _level(worker: Worker) -> Level:
    return worker.waits[-1] if worker.waits else worker


def _levels(worker: Worker) -> list[Level]:
    return [worker, *worker.waits]


def lease_violations(state: HubState, books: Books) -> Iterator[str]:
    """Yield one sentence for each invariant of the ledger that does not hold."""
    ledger = books.ledger
    workers = state.roster.workers.values()
    leases = [level.lease for worker in workers for level in _levels(worker) if level.lease is not None]
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
    for worker in workers:
        group = worker.serving
        runs = group is not None and group.books is not None and not worker.rests
        if runs and _level(worker).lease is None:
            yield f"{worker} runs tasks of {group}, and holds nothing for them"
