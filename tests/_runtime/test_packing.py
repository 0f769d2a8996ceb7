"""Values to what travels and back, in each of the three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._runtime.outgoing import Outgoing
from scalepool._runtime.packing import Packed, Packer
from scalepool._runtime.stored import SHARED_BYTES, Snapshot, StoredBuffers
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool.errors import ProtocolError, SerializationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._wire import messages as m

LIMIT = 1000


class Ends:
    """Both ends of a link in one process."""

    def __init__(self, max_fds: int | None = None) -> None:
        self.store = SegmentStore(max_fds=max_fds)
        self.views = Views()
        self.ids = iter(range(1, 1000))
        self.packer = Packer(self.store, self.views, lambda: next(self.ids), LIMIT)

    def there_and_back(self, value: object) -> tuple[Any, Packed]:
        packed = self.packer.pack(value)
        places = {segment.object_id: segment for segment in packed.segments}
        return self.packer.unpack(packed.data, places), packed


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.store.close()


def test_a_small_value_is_a_plain_pickle(ends: Ends) -> None:
    value, packed = ends.there_and_back({"a": [1, 2], "b": b"x" * 100})

    assert value == {"a": [1, 2], "b": b"x" * 100}
    assert packed.data[:1] == b"\x80"
    assert (packed.references, packed.segments, packed.size_bytes) == ((), (), len(packed.data))


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 100_000])
def test_a_large_buffer_goes_into_a_segment(ends: Ends, size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    value, packed = ends.there_and_back(array)

    assert packed.data[:1] == b"\x01"
    (segment,) = packed.segments
    assert packed.references == (segment.object_id,)
    assert len(packed.data) < 300
    assert packed.size_bytes >= size
    assert np.array_equal(value, array)


def test_a_long_pickle_without_buffers_goes_into_a_segment_too(ends: Ends) -> None:
    value, packed = ends.there_and_back(list(range(5000)))

    assert value == list(range(5000))
    assert len(packed.segments) == 1


@pytest.mark.parametrize("max_fds", [None, 0])
def test_what_arrives_is_private_and_writable_in_each_form(max_fds: int | None) -> None:
    ends = Ends(max_fds)
    arrays = [np.zeros(5000), np.ones(7000), np.zeros(10)]
    packed = ends.packer.pack(arrays)
    places = {segment.object_id: segment for segment in packed.segments}
    first, second = (ends.packer.unpack(packed.data, places) for _ in range(2))
    for array in first:
        np.add(array, 5, out=array)

    assert len(packed.segments) == (0 if max_fds == 0 else 1)
    assert [array[0] for array in arrays] == [0, 1, 0]
    assert [array[0] for array in second] == [0, 1, 0]
    assert [array[0] for array in first] == [5, 6, 5]
    ends.store.close()


def test_without_descriptors_it_travels_inline(ends: Ends) -> None:
    poor = Ends(max_fds=0)
    value, packed = poor.there_and_back(b"x" * 50_000)

    assert value == b"x" * 50_000
    assert (packed.segments, packed.references) == ((), ())


def test_what_does_not_pickle_makes_no_segment(ends: Ends) -> None:
    with pytest.raises(SerializationError) as caught:
        ends.packer.pack((np.ones(10_000), {"key": (i for i in ())}), label=("first", "second"))

    assert "second" in caught.value.path
    assert ends.store.statistics().objects == 0


def test_an_object_that_is_gone_is_an_error(ends: Ends) -> None:
    packed = ends.packer.pack(np.ones(10_000))

    with pytest.raises(StoreError, match="gone"):
        ends.packer.unpack(packed.data, {})


def test_a_value_that_was_cut_short_is_an_error(ends: Ends) -> None:
    packed = ends.packer.pack(np.ones(10_000))
    for size in range(1, 12):
        with pytest.raises(ProtocolError):
            ends.packer.unpack(packed.data[:size], {})


def test_each_large_buffer_of_a_result_is_an_object(ends: Ends) -> None:
    arrays = [np.full(SHARED_BYTES, number, dtype="u1") for number in range(3)]
    value, packed = ends.there_and_back({"large": arrays, "small": [np.ones(LIMIT), np.zeros(LIMIT)]})

    assert len(packed.segments) == 4
    assert packed.references == tuple(segment.object_id for segment in packed.segments)
    for found, sent in zip(value["large"], arrays, strict=True):
        assert np.array_equal(found, sent)
    assert value["small"][0].sum() == LIMIT
    kept = value["large"][1]
    del value, found
    assert [ends.views.live(one) for one in packed.references] == [False, True, False, False]
    assert kept[7] == 1


def test_a_result_that_finds_no_room_leaves_nothing(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    create = ends.store.create

    def full(object_id: int, buffers: Any) -> Any:
        if object_id == 3:
            raise StoreError("no shared memory")
        return create(object_id, buffers)

    monkeypatch.setattr(ends.store, "create", full)
    with pytest.raises(StoreError):
        ends.packer.pack([np.full(SHARED_BYTES, number, dtype="u1") for number in range(4)])
    assert ends.store.statistics().objects == 0


class Owner(Ends):
    """Both ends, and what a client has for arguments that are shared by tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.outgoing = Outgoing(self.views)
        self.new_object_id = lambda: next(self.ids)
        self.pump: Any = None
        self.closed = False
        self.sent: list[m.Message] = []
        self.stored = StoredBuffers(self, 1 << 30, 0)
        self.packer = Packer(self.store, self.views, self.new_object_id, LIMIT, self.stored)

    def post(self, message: m.Message) -> None:
        self.sent.append(message)

    def read(self, packed: Packed) -> Any:
        places = {ref.object_id: ref for ref in (*packed.segments, *(one.ref for one in packed.stored))}
        return self.packer.unpack(packed.data, places)


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.store.close()


def test_tasks_with_the_same_large_array_carry_the_same_object(owner: Owner) -> None:
    large, small = np.arange(SHARED_BYTES, dtype="f8"), np.arange(LIMIT, dtype="f8")
    snapshot = Snapshot()
    packed = [owner.packer.pack(((large, small, number), {}), snapshot=snapshot) for number in range(5)]

    assert len({one.stored[0].ref.object_id for one in packed}) == 1
    assert [one.stored_bytes for one in packed] == [large.nbytes, 0, 0, 0, 0]
    assert all(one.size_bytes < small.nbytes + 1000 for one in packed)
    assert owner.store.statistics().created == 1 + 5
    for number, one in enumerate(packed):
        ((found, other, index), _) = owner.read(one)
        assert np.array_equal(found, large)
        assert np.array_equal(other, small)
        assert index == number
        found[:] = 0  # private
    assert large[1] == 1


def test_two_arrays_on_the_same_memory_arrive_as_two(owner: Owner) -> None:
    large = np.zeros(SHARED_BYTES)
    packed = owner.packer.pack([large, large[:], large])
    assert len(packed.stored) == 2
    first, second, third = owner.read(packed)
    assert first is third  # the same object stays one
    first[0] = 5
    assert second[0] == 0


def test_a_function_keeps_all_that_it_needs(owner: Owner) -> None:
    large, small = np.ones(SHARED_BYTES), np.ones(LIMIT)
    packed = owner.packer.pack_function([large, small, small + 1]).packed
    assert (packed.segments, len(packed.stored)) == ((), 2)
    assert packed.references == tuple(one.ref.object_id for one in packed.stored)
    assert owner.read(packed)[2].sum() == 2 * LIMIT
    del packed
    assert len(owner.outgoing.released) == 2

    tiny = owner.packer.pack_function(len).packed
    assert (tiny.data[:1], tiny.stored) == (b"\x80", ())


def test_without_descriptors_large_arguments_travel_inline() -> None:
    poor = Owner()
    poor.store = SegmentStore(max_fds=0)
    poor.packer = Packer(poor.store, poor.views, poor.new_object_id, LIMIT, poor.stored)
    large = np.arange(SHARED_BYTES, dtype="u1")
    for packed in (poor.packer.pack(large), poor.packer.pack_function(large).packed):
        assert (packed.segments, packed.stored, packed.references) == ((), (), ())
        assert np.array_equal(poor.packer.unpack(packed.data, {}), large)
