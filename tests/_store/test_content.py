"""Runs of bytes are told apart to the last byte."""

from __future__ import annotations

import numpy as np
import pytest

from scalepool._store.content import address_of, are_equal, look_alike, sample_of


def test_an_address_is_where_the_bytes_are() -> None:
    array = np.arange(100, dtype="u1")
    start = array.__array_interface__["data"][0]
    assert address_of(memoryview(array)) == start
    assert address_of(memoryview(array)[7:]) == start + 7
    array.flags.writeable = False
    assert address_of(memoryview(array)) == start


@pytest.mark.parametrize("size", [1, 100, (65 << 20) + 3])
def test_every_byte_counts(size: int) -> None:
    one, other = np.zeros(size, "u1"), np.zeros(size, "u1")
    assert are_equal(memoryview(one), memoryview(other))
    for at in {0, size // 2, size - 1}:
        other[at] = 1
        assert not are_equal(memoryview(one), memoryview(other))
        other[at] = 0
    assert not are_equal(memoryview(one), memoryview(other)[1:])
    assert are_equal(memoryview(one), memoryview(other))


def test_a_look_sees_what_was_filled_anew() -> None:
    one, other = np.zeros(20 << 20, "u1"), np.zeros(20 << 20, "u1")
    assert look_alike(memoryview(one), memoryview(other))
    for at in (slice(None), slice(0, 1), slice(-1, None)):
        other[at] = 1
        assert not look_alike(memoryview(one), memoryview(other))
        other[:] = 0


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 5000, 1 << 20])
def test_samples_of_equal_bytes_are_equal(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    view = memoryview(data)[:size]
    assert sample_of(view) == sample_of(memoryview(bytearray(view)))
    assert sample_of(view) != sample_of(memoryview(bytes(view) + b"x"))
    if size:
        assert sample_of(view) != sample_of(memoryview(b"y" + bytes(view)[1:]))
