"""Counting references to values."""

from __future__ import annotations

from scalepool._core.values import PENDING, ValueTable


def made(table: ValueTable, value: int, *, objects: tuple[int, ...] = (), references: tuple[int, ...] = ()) -> None:
    table.open([value], 0)
    record = table.get(value)
    assert record is not None
    record.status, record.objects, record.references = 0, objects, references
    table.pin(references)


def test_a_value_lives_while_somebody_holds_it() -> None:
    table = ValueTable()
    table.open([5, 6], 0)
    table.hold(3, [5])
    assert table.release(0, [5, 6]) == []
    assert 5 in table
    assert 6 not in table
    table.release(3, [5])
    assert len(table) == 0


def test_a_value_lives_while_it_is_pinned() -> None:
    table = ValueTable()
    table.open([5], 0)
    table.pin([5, 5])
    table.release(0, [5])
    assert table.unpin([5]) == []
    assert 5 in table
    table.unpin([5])
    assert 5 not in table


def test_a_new_value_is_pending() -> None:
    table = ValueTable()
    table.open([5], 0)
    record = table.get(5)
    assert record is not None
    assert record.status == PENDING
    assert "status=-1 holders=(0,) pins=0" in repr(record)


def test_what_only_a_value_needed_goes_with_it() -> None:
    table = ValueTable()
    made(table, 5, objects=(50,))
    made(table, 6, objects=(60, 61), references=(5, 70))
    table.release(0, [5])
    assert 5 in table
    assert sorted(table.release(0, [6])) == [50, 60, 61, 70]
    assert len(table) == 0


def test_a_long_chain_of_values_goes_without_recursion() -> None:
    table = ValueTable()
    made(table, 1)
    for value in range(2, 5000):
        made(table, value, references=(value - 1,))
    table.release(0, range(1, 4999))
    assert len(table) == 4999
    table.release(0, [4999])
    assert len(table) == 0


def test_a_peer_that_is_gone_holds_nothing() -> None:
    table = ValueTable()
    table.open([5, 6], 3)
    table.hold(0, [6])
    table.forget_peer(3)
    assert 5 not in table
    assert [record.holders for record in table.records()] == [(0,)]


def test_who_lets_go_wants_nothing_any_more() -> None:
    table = ValueTable()
    table.open([5], 0)
    table.hold(3, [5])
    record = table.get(5)
    assert record is not None
    record.wanted = [3]
    table.release(3, [5])
    assert record.wanted == []


def test_what_nobody_knows_is_no_trouble() -> None:
    table = ValueTable()
    table.hold(3, [5])
    table.pin([5])
    assert table.unpin([5]) == []
    assert table.release(3, [5]) == []
