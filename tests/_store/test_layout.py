from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalepool._store.layout import (
    ALIGNMENT,
    MIN_CAPACITY,
    STAMP_BYTES,
    align,
    capacity_for,
    pack_stamp,
    place,
    stamp_offset,
)

sizes = st.integers(0, 1 << 42)


@given(st.lists(sizes, max_size=20))
def test_buffers_are_aligned_in_order_and_do_not_overlap(sizes_bytes: list[int]) -> None:
    layout = place(sizes_bytes)
    end = 0
    for offset, size in zip(layout.offsets, sizes_bytes, strict=True):
        assert offset % ALIGNMENT == 0
        assert end <= offset < end + ALIGNMENT
        end = offset + size
    assert layout.size_bytes == end
    assert end <= stamp_offset(end) < end + ALIGNMENT


def test_the_first_buffer_is_at_offset_zero() -> None:
    assert place([100, 1]).offsets == (0, 128)
    assert place([]).size_bytes == 0


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        place([5, -1])


@given(sizes)
def test_a_class_holds_its_need_and_wastes_at_most_a_quarter(need: int) -> None:
    capacity = capacity_for(need)
    assert capacity >= max(need, MIN_CAPACITY)
    assert capacity == MIN_CAPACITY or capacity < need * 1.25
    assert capacity % 4096 == 0
    assert capacity_for(capacity) == capacity  # a segment of a class fits its own class


@given(st.integers(16, 40))
def test_there_are_four_classes_per_doubling(log2: int) -> None:
    capacity, steps = 1 << log2, 0
    while capacity < 2 << log2:
        capacity = capacity_for(capacity + 1)
        steps += 1
    assert (steps, capacity) == (4, 2 << log2)


@given(st.integers(0, 1 << 40), st.sampled_from([1, 8, 64, 4096]))
def test_align_rounds_up_to_the_next_multiple(size: int, alignment: int) -> None:
    assert align(size, alignment) % alignment == 0
    assert size <= align(size, alignment) < size + alignment


def test_stamps_tell_objects_apart() -> None:
    stamps = {pack_stamp(1, 10), pack_stamp(2, 10), pack_stamp(1, 11), bytes(STAMP_BYTES)}
    assert len(stamps) == 4
    assert all(len(stamp) == STAMP_BYTES for stamp in stamps)
