"""What a session has, what a task or an actor needs of it, and what is lent: exact arithmetic.

A ledger knows nothing of tasks or workers. It gives a `Lease` when a demand fits, and takes it back. GPUs are numbered,
and each lease says which it has; everything else is a sum. CPUs are the one resource that may be overdrawn: a task that
waits for others gives its CPUs back meanwhile and goes on at once when its wait is over, whoever has them by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.amounts import UNIT, amounts_text
from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CPU", "ENOUGH", "GPU", "LABEL", "MEMORY", "NOTHING", "Demand", "Lease", "Ledger", "beyond", "label_name",
    "most_at_once", "summed",
]  # fmt: skip

CPU: Final = "CPU"
GPU: Final = "GPU"
MEMORY: Final = "memory"
ENOUGH: Final = 1 << 30
"""How often nothing at all fits into anything."""
LABEL: Final = "label "
"""How the names of what stands for a host's labels begin: a host with a label has any amount of that."""
_SMALLEST_SHARE: Final = UNIT // 10
"""Tasks that need less of a CPU than this count as if they needed so much, where it is about their number."""


class Demand(NamedTuple):
    """What one task needs while it runs, or one actor while it lives.

    Attributes
    ----------
    amounts
        Pairs of a resource's name and its amount in units, in the order of the names; none is 0.
    """

    amounts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, amounts: Mapping[str, int]) -> Demand:
        """Return the demand for these units."""
        return cls(tuple(sorted((name, amount) for name, amount in amounts.items() if amount)))

    def of_name(self, name: str) -> int:
        """Units of one resource that it needs."""
        for own, amount in self.amounts:
            if own == name:
                return amount
        return 0

    @property
    def gpus(self) -> int:
        """Units of GPUs."""
        return self.of_name(GPU)

    def __str__(self) -> str:
        return amounts_text(dict(self.amounts))


NOTHING: Final = Demand()


def beyond(demand: Demand, total: Mapping[str, int]) -> list[str]:
    """Return the names of the resources of which ``demand`` needs more than there ever is."""
    return [name for name, amount in demand.amounts if amount > total.get(name, 0)]


def label_name(key: str, value: str) -> str:
    """Return what stands for a label among the names of resources."""
    return f"{LABEL}{key}={value}"


def summed(amounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums by name."""
    found: dict[str, int] = {}
    for one in amounts:
        for name, amount in one.items():
            found[name] = found.get(name, 0) + amount
    return found


def most_at_once(demand: Demand, total: Mapping[str, int]) -> int:
    """Return how many workers tasks with this demand may have at once: what fits, ten per CPU where that is more."""
    cpus = max(demand.of_name(CPU), _SMALLEST_SHARE)
    most = total.get(CPU, 0) // cpus
    for name, amount in demand.amounts:
        if name != CPU:
            each = amount if name != GPU or amount <= UNIT else -(-amount // UNIT) * UNIT
            most = min(most, total.get(name, 0) // each)
    return most


class Lease:
    """What somebody holds.

    Attributes
    ----------
    gpus
        Numbers of the GPUs that are its own, or that it has a part of.
    lasting
        Whether it is held for the life of an actor.
    lent
        Whether its CPUs are given back for the time of a wait.
    """

    __slots__ = ("demand", "gpus", "lasting", "lent")

    def __init__(self, demand: Demand, gpus: tuple[int, ...], *, lasting: bool) -> None:
        self.demand = demand
        self.gpus = gpus
        self.lasting = lasting
        self.lent = False


class Ledger:
    """What there is, and what is free of it.

    Parameters
    ----------
    total
        Units by name. GPUs are whole.
    host
        The host that it is of, in a cluster.
    """

    __slots__ = ("_free", "_gpus", "_lasting", "host", "total")

    def __init__(self, total: Mapping[str, int], host: int = 0) -> None:
        self.total = dict(total)
        self.host = host
        self._free = {name: amount for name, amount in total.items() if name != GPU}
        self._gpus = [UNIT] * (total.get(GPU, 0) // UNIT)
        self._lasting: dict[str, int] = {}

    def free(self) -> dict[str, int]:
        """Return what is free now, in units; of CPUs that is below 0 while tasks go on that had lent theirs."""
        free = dict(self._free)
        if self._gpus:
            free[GPU] = sum(self._gpus)
        return free

    def overdrawn(self) -> int:
        """Units of CPUs that are lent beyond what there is."""
        return max(0, -self._free.get(CPU, 0))

    def lacking(self, demand: Demand) -> dict[str, int]:
        """Return what is missing for ``demand``, in units by name; empty where it fits."""
        missing: dict[str, int] = {}
        for name, amount in demand.amounts:
            if name != GPU:
                short = amount - self._free.get(name, 0)
            elif amount >= UNIT:
                short = amount - UNIT * self._whole_gpus()
            else:
                short = 0 if any(free >= amount for free in self._gpus) else amount
            if short > 0:
                missing[name] = short
        return missing

    def distance(self, demand: Demand) -> float:
        """How far it is from fitting: the parts that are missing of what is needed, together."""
        lacking = self.lacking(demand)
        never = len(beyond(demand, self.total))
        return never * len(demand.amounts) + sum(amount / demand.of_name(name) for name, amount in lacking.items())

    def room(self, demand: Demand, kept: Demand = NOTHING) -> int:
        """Return how many such demands fit at once beside what is ``kept`` for somebody."""
        room = ENOUGH
        for name, amount in demand.amounts:
            if name == GPU:
                found = self._gpu_room(amount, -(-kept.gpus // UNIT))
            else:
                found = (self._free.get(name, 0) - kept.of_name(name)) // amount
            if found <= 0:
                return 0
            room = min(room, found)
        return room

    def can_come(self, demand: Demand) -> bool:
        """Whether it would fit if only actors lived on and no task."""
        return all(amount <= self.total.get(name, 0) - self._lasting.get(name, 0) for name, amount in demand.amounts)

    def take(self, demand: Demand, gpus: Sequence[int] | None = None, *, lasting: bool = False) -> Lease | None:
        """Lend what is demanded, of these GPUs or else of any; ``None`` where it does not fit."""
        if self.lacking(demand):
            return None
        chosen = self._choose(demand.gpus) if gpus is None else tuple(gpus)
        share = min(UNIT, demand.gpus)
        if any(self._gpus[gpu] < share for gpu in chosen):
            return None
        return self._lend(demand, chosen, lasting=lasting)

    def overdraw(self, demand: Demand) -> Lease | None:
        """Lend what is demanded although its CPUs do not fit; ``None`` where something else does not."""
        if self.lacking(demand).keys() - {CPU}:
            return None
        return self._lend(demand, self._choose(demand.gpus), lasting=False)

    def _lend(self, demand: Demand, gpus: tuple[int, ...], *, lasting: bool) -> Lease:
        lease = Lease(demand, gpus, lasting=lasting)
        self._book(lease, -1)
        if lasting:
            self._note_lasting(lease, 1)
        return lease

    def give_back(self, lease: Lease) -> None:
        """Take a lease back; it must not be used again."""
        if lease.lent:
            self.regain(lease)
        self._book(lease, 1)
        if lease.lasting:
            self._note_lasting(lease, -1)

    def lend(self, lease: Lease) -> None:
        """The holder waits: its CPUs are for others."""
        if not lease.lent and (cpus := lease.demand.of_name(CPU)):
            lease.lent = True
            self._free[CPU] += cpus

    def regain(self, lease: Lease) -> None:
        """The holder goes on."""
        if lease.lent:
            lease.lent = False
            self._free[CPU] -= lease.demand.of_name(CPU)

    def fits_on(self, demand: Demand, gpus: Iterable[int]) -> bool:
        """Whether these GPUs are free for it, whatever else it needs."""
        share = min(UNIT, demand.gpus)
        return all(self._gpus[gpu] >= share for gpu in gpus)

    def free_on(self, gpu: int) -> int:
        """Units that are free of one GPU."""
        return self._gpus[gpu]

    # ---- inside ----

    def _book(self, lease: Lease, sign: int) -> None:
        for name, amount in lease.demand.amounts:
            if name != GPU:
                self._free[name] += sign * amount
        share = min(UNIT, lease.demand.gpus)
        for gpu in lease.gpus:
            self._gpus[gpu] += sign * share

    def _note_lasting(self, lease: Lease, sign: int) -> None:
        for name, amount in lease.demand.amounts:
            self._lasting[name] = self._lasting.get(name, 0) + sign * amount

    def _whole_gpus(self) -> int:
        return self._gpus.count(UNIT)

    def _gpu_room(self, amount: int, kept_gpus: int) -> int:
        whole = max(0, self._whole_gpus() - kept_gpus)
        if amount >= UNIT:
            return whole * UNIT // amount
        return whole * (UNIT // amount) + sum(free // amount for free in self._gpus if free < UNIT)

    def _choose(self, amount: int) -> tuple[int, ...]:
        """Return the GPUs to give: whole ones, or the fullest that still has room."""
        if amount >= UNIT:
            return tuple(gpu for gpu, free in enumerate(self._gpus) if free == UNIT)[: amount // UNIT]
        if amount:
            return (min((free, gpu) for gpu, free in enumerate(self._gpus) if free >= amount)[1],)
        return ()
