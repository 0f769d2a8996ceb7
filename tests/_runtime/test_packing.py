"""Values to what travels and back, in each of the three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._runtime.packing import Packed, Packer
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool.errors import ProtocolError, SerializationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._store.files import SegmentRef

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
        places: dict[int, SegmentRef] = {}
        if packed.segment is not None:
            places[packed.segment.object_id] = packed.segment
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
    assert (packed.references, packed.segment, packed.size_bytes) == ((), None, len(packed.data))


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, 100_000])
def test_a_large_buffer_goes_into_a_segment(ends: Ends, size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    value, packed = ends.there_and_back(array)

    assert packed.data[:1] == b"\x01"
    assert packed.segment is not None
    assert packed.references == (packed.segment.object_id,)
    assert len(packed.data) < 200
    assert packed.size_bytes >= size
    assert np.array_equal(value, array)


def test_a_long_pickle_without_buffers_goes_into_a_segment_too(ends: Ends) -> None:
    value, packed = ends.there_and_back(list(range(5000)))

    assert value == list(range(5000))
    assert packed.segment is not None


@pytest.mark.parametrize("max_fds", [None, 0])
def test_what_arrives_is_private_and_writable_in_each_form(max_fds: int | None) -> None:
    ends = Ends(max_fds)
    arrays = [np.zeros(5000), np.ones(7000), np.zeros(10)]
    packed = ends.packer.pack(arrays)
    places = {} if packed.segment is None else {packed.segment.object_id: packed.segment}
    first, second = (ends.packer.unpack(packed.data, places) for _ in range(2))
    for array in first:
        np.add(array, 5, out=array)

    assert (packed.data[:1] == b"\x02") == (max_fds == 0)
    assert [array[0] for array in arrays] == [0, 1, 0]
    assert [array[0] for array in second] == [0, 1, 0]
    assert [array[0] for array in first] == [5, 6, 5]
    ends.store.close()


def test_without_descriptors_it_travels_inline(ends: Ends) -> None:
    poor = Ends(max_fds=0)
    value, packed = poor.there_and_back(b"x" * 50_000)

    assert value == b"x" * 50_000
    assert (packed.segment, packed.references) == (None, ())


def test_pack_inline_never_makes_a_segment(ends: Ends) -> None:
    data = ends.packer.pack_inline(np.ones(100_000))

    assert ends.packer.unpack(data, {}).sum() == 100_000
    assert ends.store.statistics().created == 0


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
