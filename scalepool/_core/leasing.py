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
from scalepool._core.accounts import Accounts, levels_of
from scalepool._core.commands import Note
from scalepool._core.groups import STARVED_S
from scalepool._core.resources import (
    CPU,
    ENOUGH,
    GPU,
    LABEL,
    NOTHING,
    Demand,
    Ledger,
    beyond,
    most_at_once,
)
from scalepool._core.workers import WorkerState
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker
    from scalepool._wire.messages import OpenGroup

__all__ = ["FOR_LIFE", "PATIENCE_S", "WARN_AFTER_S", "WHILE_IT_RUNS", "Books", "account_for"]

WHILE_IT_RUNS: Final = 1
"""Value of ``OpenGroup.lease``: who runs a task of the group holds what it needs."""
FOR_LIFE: Final = 2
"""The group's worker holds it as long as it lives."""
PATIENCE_S: Final = 0.5
"""How long a group is short before something is set aside for it."""
WARN_AFTER_S: Final = 10.0
"""How long it is short before the user is told."""


class Books(Accounts):
    """The accounts, and who waits for what is in them.

    Parameters
    ----------
    totals
        As of `Accounts`.
    """

    __slots__ = ("reserved", "reserved_at", "short")

    def __init__(self, totals: Mapping[int, Mapping[str, int]]) -> None:
        super().__init__(totals)
        self.short: list[Group] = []
        """Groups of which not even one worker can run a task."""
        self.reserved: Group | None = None
        """The one that something is set aside for."""
        self.reserved_at: Ledger | None = None

    def update(self, totals: Mapping[int, Mapping[str, int]], closed: frozenset[int]) -> None:
        """As the base class; what was set aside is looked at anew."""
        super().update(totals, closed)
        self.reserved = self.reserved_at = None

    def fit(self, group: Group) -> None:
        """Let a group have as many workers as its demand fits on all hosts together."""
        if group.lease == WHILE_IT_RUNS:
            group.cap = max(1, sum(most_at_once(group.demand, ledger.total) for ledger in self.open))

    # ---- how many ----

    def slots(self, group: Group, now: float) -> int:
        """How many more workers may run tasks of ``group`` at once."""
        own = group.cap - group.active()
        if own <= 0 or group.lease == FOR_LIFE:
            return max(0, own)  # an actor's worker holds everything already
        if group.gpus:
            own -= group.starting  # they hold theirs already
        return max(0, min(own, sum(self.rooms(group, now).values())))

    def rooms(self, group: Group, now: float) -> dict[int, int]:
        """How many more of them each host has room for, by its number."""
        rooms = {ledger.host: self._room(ledger, group) for ledger in self.open}
        if not any(rooms.values()) and (found := self._starving_at(group, now)) is not None:
            rooms[found.host] = 1
        return rooms

    def _room(self, ledger: Ledger, group: Group) -> int:
        reserved = self.reserved
        is_kept = reserved is not None and reserved is not group and ledger is self.reserved_at
        return max(0, ledger.room(group.demand, reserved.demand if is_kept and reserved is not None else NOTHING))

    def _starving_at(self, group: Group, now: float) -> Ledger | None:
        """Where a task may have a CPU too many, since one there may wait for it in a way that we cannot see."""
        if group.parent is None or group.gpus or now - group.root.moved_at < STARVED_S:
            return None
        fitting = [ledger for ledger in self.open if not ledger.lacking(group.demand).keys() - {CPU}]
        return max(fitting, key=lambda one: one.free().get(CPU, 0), default=None)

    def left_beside(self, group: Group, returning: Sequence[Worker]) -> int:
        """How many more workers of ``group`` CPUs allow, when those go on that have got all that they wait for."""
        cpus = group.demand.of_name(CPU)
        if not cpus:
            return ENOUGH
        leases = [levels_of(worker)[-2].lease for worker in returning]
        back = sum(lease.demand.of_name(CPU) for lease in leases if lease is not None and lease.lent)
        return (sum(ledger.free().get(CPU, 0) for ledger in self.open) - back) // cpus

    def going_on(self, group: Group, workers: list[Worker]) -> list[Worker]:
        """Return those of ``workers`` that need not stop after what they hold, for others to have what these need."""
        return [worker for worker in workers if not self._surplus(self.ledger_of(worker), group)]

    def _surplus(self, ledger: Ledger, group: Group) -> bool:
        reserved = self.reserved
        if ledger.host in self.closed:
            return True
        if reserved is not None and reserved is not group and ledger is self.reserved_at:
            short = ledger.lacking(reserved.demand)
        elif overdrawn := ledger.overdrawn():
            short = {CPU: overdrawn}
        else:
            return False
        return any(name in short for name, _ in group.demand.amounts)

    def may_run_in_place(self, worker: Worker, group: Group) -> bool:
        """Whether a waiting worker may run a task of ``group`` meanwhile."""
        if group.gpus:
            return False  # its own are another's, and a process cannot change them
        lease = worker.waits[-1].lease
        same = lease is not None and lease.demand == group.demand
        return same or self.ledger_of(worker).room(group.demand) > 0

    # ---- taking and giving back ----

    def order(self, state: HubState, group: Group, worker: Worker) -> bool:
        """Choose the host of a new process, and lend what it must know of when it starts; False: there is none now."""
        lends = group.lease == FOR_LIFE or bool(group.gpus)
        if not lends and state.hosts is None:
            return True
        rooms = {ledger.host: self._room(ledger, group) for ledger in self.open}
        if not lends:
            rooms = self.rooms(group, state.now)
            for other in state.roster.of_key(worker.key):
                if other.state is WorkerState.STARTING or not (other.held or other.waits):
                    rooms[other.host] = rooms.get(other.host, 0) - 1  # which is who will take it
        found = [self.ledgers[number] for number, room in rooms.items() if room > 0]
        if not found:
            return False
        worker.ledger = ledger = found[0] if len(found) == 1 else _emptiest(state, found)
        worker.host = ledger.host
        if lends:
            worker.lease = ledger.take(group.demand, lasting=group.lease == FOR_LIFE)
            assert worker.lease is not None
            worker.gpus = dict.fromkeys(worker.lease.gpus, min(UNIT, group.gpus))
        return True

    def in_the_way(self, state: HubState, started: Worker) -> list[Worker]:
        """Return idle workers that keep memory of a GPU that a process about to start will use."""
        crowd: list[Worker] = []
        for gpu in started.gpus:
            others = [
                one
                for one in state.roster.workers.values()
                if one is not started and one.host == started.host and gpu in one.gpus
            ]
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
        before, before_at = self.reserved, self.reserved_at
        self.reserved = self.reserved_at = None
        for group in self.short:
            since = group.short_since
            if since is None:
                since = group.short_since = state.now
            self._warn(state, group, since)
            if state.now - since < PATIENCE_S:
                state.alarm(since + PATIENCE_S + 1e-4)  # a difference of floats must not fall short of it
            elif _is_before(group, self.reserved):
                coming = [ledger for ledger in self.open if ledger.can_come(group.demand)]
                if coming:
                    self.reserved = group
                    is_same = group is before and before_at in coming
                    self.reserved_at = before_at if is_same else min(coming, key=lambda one: one.distance(group.demand))
        return before is not None and (before is not self.reserved or before_at is not self.reserved_at)

    def _is_short(self, group: Group) -> bool:
        is_short = (
            group.books is not None
            and bool(group.queued)
            and not group.active()
            and not (group.starting and group.gpus)
            and (group.actor is None or group.actor.wants_worker)
            and not self.has_room(group.demand)
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
        ledgers = self.open
        if not ledgers:
            return f"{demand} needed, and there is no host"
        best = min(ledgers, key=lambda one: one.distance(demand))
        lacking, free = best.lacking(demand), best.free()
        parts = []
        for name in lacking:
            if name.startswith(LABEL):
                parts.append(f"no host has {name}")
                continue
            needed, total = demand.of_name(name), best.total.get(name, 0)
            there = amount_text(name, max(0, free.get(name, 0)))
            unit = " of the same" if name == GPU and demand.gpus < UNIT else ""
            parts.append(f"{amount_text(name, needed)} {name}{unit} needed, {there} of {amount_text(name, total)} free")
        where = " on the host that lacks least" if len(ledgers) > 1 else ""
        return "; ".join(parts) + where


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
    books = state.books
    if books is None:
        hosts = state.hosts
        totals = {0: state.capacity()} if hosts is None else {number: one.amounts for number, one in hosts.items()}
        state.books = books = Books(totals)
        books.closed = frozenset(number for number, one in (hosts or {}).items() if one.leaving)
    # Hosts of a cluster come and go: what fits none of them now may fit one later.
    is_too_much = state.hosts is None and beyond(demand, books.ledgers[0].total)
    if is_too_much or opened.lease not in (WHILE_IT_RUNS, FOR_LIFE) or opened.lease > 1 + opened.private:
        raise ProtocolError(f"a group was opened that needs {demand}, of {amounts_text(books.total())}")
    group.books, group.demand, group.gpus = books, demand, demand.gpus
    if state.hosts is not None:
        books.fit(group)


def _emptiest(state: HubState, ledgers: Sequence[Ledger]) -> Ledger:
    """Return that with the smallest share of its CPUs in use by workers, the one to come among them."""
    loads: dict[int, int] = {}
    for worker in state.roster.workers.values():
        loads[worker.host] = loads.get(worker.host, 0) + 1
    return min(ledgers, key=lambda one: ((loads.get(one.host, 0) + 1) / max(1, one.total.get(CPU, 0)), one.host))


def _is_before(group: Group, other: Group | None) -> bool:
    return other is None or (group.short_since or 0.0) < (other.short_since or 0.0)
