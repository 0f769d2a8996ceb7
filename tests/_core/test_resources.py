"""The ledger: exact, never overdrawn but for the CPUs of those who waited, and nothing is lost."""

from __future__ import annotations

import random

import pytest

from scalepool._base.amounts import UNIT
from scalepool._core.resources import CPU, ENOUGH, GPU, NOTHING, Demand, Lease, Ledger, beyond


def demand(cpus: float = 0, gpus: float = 0, **others: float) -> Demand:
    amounts = {CPU: cpus, GPU: gpus, **others}
    return Demand.of({name: round(amount * UNIT) for name, amount in amounts.items()})


def ledger(cpus: float = 0, gpus: int = 0, **others: float) -> Ledger:
    amounts = {CPU: cpus, GPU: gpus, **others}
    return Ledger({name: round(amount * UNIT) for name, amount in amounts.items()})


def test_a_demand_knows_what_it_needs() -> None:
    wanted = demand(cpus=2, gpus=0.5)

    assert (wanted.of_name(CPU), wanted.gpus, wanted.of_name("license")) == (2 * UNIT, UNIT // 2, 0)
    assert str(wanted) == "CPU: 2, GPU: 0.5"
    assert str(NOTHING) == "nothing"


def test_ten_tenths_fit_into_one_cpu_and_not_eleven() -> None:
    books = ledger(cpus=1)

    leases = [books.take(demand(cpus=0.1)) for _ in range(11)]
    assert sum(lease is not None for lease in leases) == 10
    assert books.free() == {CPU: 0}
    assert books.lacking(demand(cpus=0.1)) == {CPU: 1000}


def test_nothing_always_fits() -> None:
    assert ledger().room(NOTHING) == ENOUGH
    assert ledger().take(NOTHING) is not None


def test_more_than_there_ever_is() -> None:
    assert beyond(demand(cpus=3, gpus=1, license=1), ledger(cpus=2, license=1).total) == [CPU, GPU]
    assert ledger(cpus=2).room(demand(license=1)) == 0


def test_whole_gpus_are_distinct() -> None:
    books = ledger(gpus=4)
    first, second = books.take(demand(gpus=2)), books.take(demand(gpus=1))
    assert first is not None
    assert second is not None
    assert (first.gpus, second.gpus) == ((0, 1), (2,))
    assert books.take(demand(gpus=2)) is None

    books.give_back(first)
    third = books.take(demand(gpus=3))
    assert third is not None
    assert third.gpus == (0, 1, 3)


def test_parts_of_gpus_are_packed() -> None:
    books = ledger(gpus=2)
    leases = [books.take(demand(gpus=0.5)) for _ in range(3)]
    assert [lease and lease.gpus for lease in leases] == [(0,), (0,), (1,)]
    assert books.lacking(demand(gpus=1)) == {GPU: UNIT}, "none is whole, although half of one is free"
    assert books.room(demand(gpus=0.25)) == 2
    assert books.room(demand(gpus=0.3)) == 1


def test_gpus_that_the_taker_names() -> None:
    books = ledger(gpus=2)
    assert books.fits_on(demand(gpus=1), (1,))
    lease = books.take(demand(gpus=1), (1,))
    assert lease is not None
    assert lease.gpus == (1,)
    assert not books.fits_on(demand(gpus=0.5), (1,))
    assert books.take(demand(gpus=0.5), (1,)) is None
    assert (books.free_on(0), books.free_on(1)) == (UNIT, 0)


def test_who_waits_lends_its_cpus_and_nothing_else() -> None:
    books = ledger(cpus=1, gpus=1)
    lease = books.take(demand(cpus=1, gpus=1))
    assert lease is not None
    books.lend(lease)
    books.lend(lease)
    assert books.free() == {CPU: UNIT, GPU: 0}
    other = books.take(demand(cpus=1))
    assert other is not None

    books.regain(lease)
    assert books.free() == {CPU: -UNIT, GPU: 0}, "it goes on, whoever has its CPU by now"
    assert books.room(demand(cpus=1)) == 0
    books.give_back(other)
    books.give_back(lease)
    assert books.free() == {CPU: UNIT, GPU: UNIT}


def test_what_is_given_back_in_a_wait() -> None:
    books = ledger(cpus=1)
    lease = books.take(demand(cpus=1))
    assert lease is not None
    books.lend(lease)
    books.give_back(lease)
    assert books.free() == {CPU: UNIT}


def test_only_cpus_can_be_overdrawn() -> None:
    books = ledger(cpus=1, license=1)
    assert books.take(demand(cpus=1)) is not None
    assert books.overdraw(demand(cpus=1, license=1)) is not None
    assert books.overdraw(demand(cpus=1, license=1)) is None


def test_what_is_kept_for_somebody_is_not_for_others() -> None:
    books = ledger(cpus=4, gpus=2, license=3)
    kept = demand(cpus=3, gpus=1)

    assert books.room(demand(cpus=1), kept) == 1
    assert books.room(demand(license=1), kept) == 3, "it wants no licence: others may have them all"
    assert books.room(demand(gpus=1), kept) == 1
    assert books.room(demand(gpus=0.5), kept) == 2


def test_actors_are_there_for_ever() -> None:
    books = ledger(cpus=4)
    assert books.can_come(demand(cpus=4))
    lease = books.take(demand(cpus=2), lasting=True)
    assert lease is not None
    assert not books.can_come(demand(cpus=4))
    books.give_back(lease)
    assert books.can_come(demand(cpus=4))


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_lent_and_given_back_adds_up(seed: int) -> None:
    chance = random.Random(seed)
    books = ledger(cpus=4, gpus=3, license=2)
    total = books.free()
    leases: list[Lease] = []
    for _ in range(200):
        gpus = chance.choice([0, 0, 0.25, 0.5, 1, 2])
        wanted = demand(cpus=chance.choice([0, 0.1, 0.5, 1, 3]), gpus=gpus, license=chance.choice([0, 0, 1]))
        room, lacking = books.room(wanted), books.lacking(wanted)
        assert bool(room) == (not lacking)
        lease = books.take(wanted) if chance.random() < 0.6 else None
        if lease is not None:
            assert room
            leases.append(lease)
        elif leases:
            books.give_back(leases.pop(chance.randrange(len(leases))))
        for gpu in range(3):
            held = sum(min(UNIT, one.demand.gpus) for one in leases if gpu in one.gpus)
            assert books.free_on(gpu) == UNIT - held >= 0
        assert all(amount >= 0 for amount in books.free().values())
    for lease in leases:
        books.give_back(lease)
    assert books.free() == total
