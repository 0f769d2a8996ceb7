"""Large buffers of arguments are written once while somebody carries them, and never served stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._runtime.functions import Function
from scalepool._runtime.outgoing import Outgoing
from scalepool._runtime.packing import Packed
from scalepool._runtime.stored import SHARED_BYTES, Carried, Snapshot, StoredBuffers, StoredObject
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool._wire import messages as m
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = SHARED_BYTES


class FakePump:
    """Does on a wait what a hub would: frees what is released."""

    is_mine = False

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.on_wait: Callable[[], None] = owner.drain
        self.waits = 0

    def wait_for(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        self.waits += 1
        self.on_wait()
        return done()


class Owner:
    """As much of a client as is needed here."""

    def __init__(self) -> None:
        self.store = SegmentStore()
        self.views = Views()
        self.outgoing = Outgoing(self.views)
        ids = iter(range(1, 1000))
        self.new_object_id = lambda: next(ids)
        self.closed = False
        self.pump: Any = FakePump(self)
        self.messages: list[m.Message] = []

    def post(self, message: m.Message) -> None:
        self.messages.append(message)

    def drain(self) -> None:
        for message in self.outgoing.drain():
            assert isinstance(message, m.Release)
            for object_id in message.objects:
                self.store.free(object_id)

    @property
    def created(self) -> int:
        return self.store.statistics().created


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.store.close()


@pytest.fixture
def stored(owner: Owner) -> StoredBuffers:
    return StoredBuffers(owner, limit_bytes=3 * SIZE, retained_bytes=0)


def bytes_of(array: Any) -> memoryview:
    """As pickle hands it out."""
    view: memoryview = array.__reduce_ex__(5)[1][0].raw()
    return view


def carry(stored: StoredBuffers, array: Any, snapshot: Snapshot | None = None) -> StoredObject:
    view = bytes_of(array)
    return stored.find(view, snapshot) or stored.add(view, snapshot)


def test_the_same_array_is_written_once_while_somebody_carries_it(owner: Owner, stored: StoredBuffers) -> None:
    array = np.arange(SIZE, dtype="f8")
    first = carry(stored, array)
    assert carry(stored, array) is first
    assert carry(stored, array[:]) is first
    assert carry(stored, array.reshape(-1, 2)) is first
    assert owner.messages == [m.Put(tuple(first.ref))]
    assert owner.store.content(first.ref.object_id) == bytes_of(array)

    del first
    owner.drain()
    assert owner.store.statistics().objects == 0
    carry(stored, array)
    assert owner.store.statistics()[-3:-1] == (2, 1)  # created, recycled


def test_parts_and_other_arrays_are_objects_of_their_own(owner: Owner, stored: StoredBuffers) -> None:
    array = np.arange(4 * SIZE)
    kept = [carry(stored, one) for one in (array, array[:SIZE], array[SIZE : 2 * SIZE], np.zeros(4 * SIZE))]
    assert len({one.ref.object_id for one in kept}) == 4


@pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
def test_an_array_that_was_changed_is_written_again(owner: Owner, stored: StoredBuffers, at: int) -> None:
    array = np.zeros(SIZE, dtype="u1")
    before = carry(stored, array)
    array[at] = 1
    after = carry(stored, array)
    assert after is not before
    assert owner.store.content(before.ref.object_id) == bytes(SIZE)
    assert owner.store.content(after.ref.object_id) == array.tobytes()
    array[at] = 0
    assert carry(stored, array) is not after


def test_large_arrays_are_compared_to_their_last_byte(stored: StoredBuffers) -> None:
    array = np.zeros((65 << 20) + 3, dtype="u1")  # several threads compare, and the shares are uneven
    first = carry(stored, array)
    assert carry(stored, array) is first
    for at in (-1, 0, 32 << 20, (32 << 20) - 1):
        array[at] = 1
        assert stored.find(bytes_of(array), None) is None
        array[at] = 0
    assert carry(stored, array) is first


def test_within_a_snapshot_nothing_is_compared(owner: Owner, stored: StoredBuffers) -> None:
    array = np.zeros(SIZE)
    snapshot = Snapshot()
    first = carry(stored, array, snapshot)
    array[0] = 1  # against the caller's word: it shows that nobody looked
    assert carry(stored, array, snapshot) is first
    assert carry(stored, array, Snapshot()) is not first


def test_what_another_snapshot_knows_is_compared_once(stored: StoredBuffers) -> None:
    array = np.zeros(SIZE)
    first = carry(stored, array, Snapshot())
    array[3] = 1
    second = carry(stored, array, snapshot := Snapshot())
    assert second is not first
    assert carry(stored, array, snapshot) is second


def test_a_snapshot_does_not_trust_an_address(stored: StoredBuffers) -> None:
    """A temporary array may lie where the last one was: here its owner is another, at the same address."""
    memory = np.zeros(SIZE, dtype="u1")

    class Owned(np.ndarray):  # a new owner each time, of the same memory
        pass

    def temporary() -> memoryview:
        made = np.ndarray.__new__(Owned, SIZE, "u1", memory.data)
        view = memoryview(made)
        return view.cast("B")

    snapshot = Snapshot()
    first = stored.add(temporary(), snapshot)
    assert stored.find(temporary(), snapshot) is first  # the same bytes
    memory[5] = 7
    found = stored.find(np.frombuffer(bytes(memory), "u1").data.cast("B"), snapshot)
    assert found is None


class Weakless:
    """Memory whose owner takes no weak references."""

    def __init__(self) -> None:
        self.memory = bytearray(SIZE)

    def view(self) -> memoryview:
        return memoryview(self.memory)


def test_an_owner_without_weak_references_is_held_and_compared(stored: StoredBuffers) -> None:
    source, snapshot = Weakless(), Snapshot()
    first = stored.add(source.view(), snapshot)
    source.memory[9] = 1  # against the caller's word: it shows that nobody looked
    assert stored.find(source.view(), snapshot) is first
    assert stored.find(source.view(), None) is None


def test_bytes_are_never_compared_and_temporary_ones_not_held(owner: Owner, stored: StoredBuffers) -> None:
    data = bytes(SIZE)
    first = stored.add(memoryview(data), None)
    owner.store.content = lambda object_id: None  # type: ignore[assignment,method-assign]  # nothing to compare with
    assert stored.find(memoryview(data), None) is first
    assert stored.find(memoryview(bytes(SIZE)), None) is None
    assert stored.find(memoryview(data)[1:], None) is None
    other = stored.add(memoryview(bytes([1]) * SIZE), None)
    assert stored.find(memoryview(bytes([1]) * SIZE), None) is None
    assert other is not first


def test_what_is_released_is_written_into_again_at_once(owner: Owner, stored: StoredBuffers) -> None:
    array = np.zeros(SIZE)
    first = carry(stored, array)
    del first
    assert owner.outgoing.released
    second = carry(stored, array + 1)
    assert owner.store.statistics().recycled == 1
    assert owner.pump.waits == 1
    del second


def test_an_object_is_released_when_neither_handle_nor_view_is_left(owner: Owner, stored: StoredBuffers) -> None:
    handle = carry(stored, np.ones(SIZE))
    number = handle.ref.object_id
    owner.views.open(handle.ref, "r")
    assert owner.outgoing.drain() == []
    view = owner.views.open(handle.ref, "r")
    del handle
    assert owner.outgoing.drain() == []
    assert np.frombuffer(view)[0] == 1.0
    del view
    assert owner.outgoing.drain() == [m.Release([number])]
    assert owner.outgoing.drain() == []


def test_an_array_is_kept_while_it_lives_and_has_a_number_for_its_bytes(owner: Owner, stored: StoredBuffers) -> None:
    array = np.zeros(SIZE)
    number = stored.keep(bytes_of(array))
    assert stored.keep(bytes_of(array)) == stored.keep(bytes_of(array[:])) == number
    assert not owner.outgoing.released
    array[-1] = 1
    changed = stored.keep(bytes_of(array))
    assert changed != number
    assert owner.store.statistics().objects == 1
    assert stored.keep(bytes_of(array)) == changed
    del array
    assert list(owner.outgoing.released) == [changed]


def test_what_cannot_be_kept_has_no_number(
    owner: Owner, stored: StoredBuffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stored.keep(Weakless().view()) is None

    def full(*_: object) -> None:
        raise StoreError("no memory")

    monkeypatch.setattr(owner.store, "create", full)
    assert stored.keep(bytes_of(np.zeros(SIZE))) is None
    monkeypatch.setattr(owner.store, "has_capacity", lambda: False)
    assert stored.keep(bytes_of(np.zeros(SIZE))) is None


def test_one_pickling_looks_once(stored: StoredBuffers) -> None:
    array = np.zeros(SIZE)
    with stored.one_look() as snapshot:
        number = stored.keep(bytes_of(array))
        array[0] = 1  # which no pickling does: it shows that nobody looked again
        assert stored.keep(bytes_of(array)) == number
        found = stored.find(bytes_of(array), snapshot)
        assert found is not None
        assert found.ref.object_id == number
    assert stored.keep(bytes_of(array)) != number


def test_room_is_made_by_waiting_for_tasks(owner: Owner, stored: StoredBuffers) -> None:
    function = Function(Packed(b"\x80", (), (), 1), "f")
    for task in range(4):
        stored.carried.begin(task, Packed(b"\x01", (task,), (), 10, (), SIZE), function)
    owner.pump.on_wait = lambda: stored.carried.end(0)
    stored.make_room()
    assert (owner.pump.waits, stored.carried.bytes) == (1, 3 * SIZE)
    stored.make_room()
    assert owner.pump.waits == 1
    stored.carried.begin(9, Packed(b"\x01", (9,), (), 10, (), SIZE), function)
    owner.pump.is_mine = True  # in a callback nobody waits
    stored.make_room()
    assert owner.pump.waits == 1


def test_what_tasks_carry_is_kept_until_they_end() -> None:
    carried, function = Carried(), Function(Packed(b"\x80", (), (), 1), "f")
    carried.begin(1, None, function)
    carried.begin(2, Packed(b"\x01", (5,), (), 10, (), 100), function)
    carried.end(1)
    carried.end(1)
    carried.end(77)
    assert (list(carried.tasks), carried.bytes) == ([2], 100)
    carried.clear()
    assert (carried.tasks, carried.bytes) == ({}, 0)


def test_a_look_finds_what_was_filled_anew(stored: StoredBuffers) -> None:
    small, large = np.zeros(SIZE, dtype="u1"), np.zeros(20 << 20, dtype="u1")
    for array in (small, large):
        handle = carry(stored, array)
        assert stored.still_holds(handle, bytes_of(array))
        array[:] = 1
        assert not stored.still_holds(handle, bytes_of(array))
        assert not stored.still_holds(handle, bytes_of(array)[:-1])
    small[:] = 0
    handle = carry(stored, small)
    small[-1] = 1
    assert not stored.still_holds(handle, bytes_of(small))
