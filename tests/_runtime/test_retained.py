"""What stays in the store between calls, and until when."""

from __future__ import annotations

from collections import deque

import numpy as np

from scalepool._runtime.retained import UNWATCHED_S, WATCHED_S, Retained
from scalepool._runtime.stored import StoredObject
from scalepool._store.files import SegmentRef


class Maker:
    def __init__(self) -> None:
        self.released: deque[int] = deque()

    def __call__(self, object_id: int, size_bytes: int = 10) -> StoredObject:
        return StoredObject(SegmentRef(object_id, 1, 1, size_bytes), self.released)


def test_an_object_stays_until_its_array_dies() -> None:
    make, retained, array = Maker(), Retained(100), np.zeros(3)
    retained.keep(make(1), array)
    assert 1 in retained
    assert not make.released
    del array
    assert list(make.released) == [1]
    assert len(retained) == 0


def test_of_two_arrays_the_later_one_counts() -> None:
    make, retained, first, second = Maker(), Retained(100), np.zeros(3), np.zeros(3)
    stored = make(1)
    retained.keep(stored, first)
    retained.keep(stored, second)
    del stored, first
    assert not make.released
    del second
    assert list(make.released) == [1]


def test_least_recently_used_goes_first() -> None:
    make, retained, array = Maker(), Retained(30), np.zeros(3)
    objects = [make(number) for number in range(3)]
    for one in objects:
        retained.keep(one, array)
    retained.keep(objects[0], array)
    del one, objects
    retained.keep(make(7), array)
    assert list(make.released) == [1]
    assert retained.size_bytes == 30
    retained.keep(make(8, 31), array)  # alone too large
    assert list(make.released) == [1, 8]
    retained.drop(7)
    retained.drop(7)
    assert list(make.released) == [1, 8, 7]
    retained.give_up()
    assert sorted(make.released) == [0, 1, 2, 7, 8]


def test_what_is_pinned_stays_whatever_the_limit() -> None:
    make, retained, array = Maker(), Retained(5), np.zeros(3)
    retained.keep(make(1, 1000), array, pin=True)
    retained.give_up()
    retained.expire(0.0)
    retained.expire(1e9)
    assert not make.released
    del array
    assert list(make.released) == [1]


def test_time_runs_while_nobody_uses_it() -> None:
    make, retained, array = Maker(), Retained(100), np.zeros(3)
    retained.keep(make(1), array)
    retained.keep(make(2), None)
    carried = make(3)
    retained.keep(carried, None)
    retained.expire(100.0)
    assert not make.released
    retained.expire(100.0 + UNWATCHED_S)
    assert list(make.released) == [2]
    retained.expire(100.0 + WATCHED_S)
    assert list(make.released) == [2, 1]
    del carried
    retained.expire(1000.0)
    assert 3 in retained
    retained.clear()
    assert list(make.released) == [2, 1, 3]
