"""A mapping is used again only where nobody can notice."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scalepool._store.mapping import IdleLimits, Views
from scalepool._store.segments import SegmentFiles, SegmentStore
from scalepool._store.windows import IdleMappings, SegmentMapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._store.files import SegmentRef

MIB = 1 << 20
LARGE = 3 * MIB


@pytest.fixture(params=["memfd", "file"])
def store(request: pytest.FixtureRequest) -> Iterator[SegmentStore]:
    store = SegmentStore(files=SegmentFiles(request.param == "memfd"))
    yield store
    store.close()


class Reader:
    """Reads objects, and tells where they were mapped."""

    def __init__(self, **limits: Any) -> None:
        self.views = Views(idle=IdleLimits(**limits))

    def read(self, ref: SegmentRef) -> tuple[int, bytes]:
        view = self.views.open(ref, "c")
        return address(view), bytes(view)

    @property
    def idle(self) -> int:
        self.views.drain_released()
        return int(repr(self.views).split()[-2])


def address(view: memoryview) -> int:
    where: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return where


def objects(store: SegmentStore) -> Iterator[tuple[SegmentRef, bytes]]:
    """Objects one after the other in the same segment."""
    for number in range(1, 100):
        data = bytes([number]) * (LARGE - number)
        yield store.create(number, [data]), data
        store.free(number)


def test_what_was_only_read_is_mapped_once_and_shows_what_is_there_now(store: SegmentStore) -> None:
    reader = Reader()
    first = 0
    for (ref, data), _ in zip(objects(store), range(5), strict=False):
        where, found = reader.read(ref)
        assert found == data
        assert reader.idle == 1
        first = first or where
        assert where == first


@pytest.mark.parametrize("at", [0, 12_345, MIB, LARGE - 7])
def test_a_page_that_was_written_is_never_seen_again(store: SegmentStore, at: int) -> None:
    reader = Reader()
    source = objects(store)
    ref, data = next(source)
    for _ in range(2):  # in a new mapping, and in one that was kept
        view = reader.views.open(ref, "c")
        assert view == data
        view[at] = 200
        del view
        assert reader.idle == 0
        assert reader.read(ref)[1] == data
        assert reader.idle == 1
    ref, data = next(source)
    assert reader.read(ref)[1] == data


def test_a_mapping_in_use_is_not_given_to_another(store: SegmentStore) -> None:
    reader = Reader()
    ref, data = next(objects(store))
    reader.read(ref)
    mine, yours = reader.views.open(ref, "c"), reader.views.open(ref, "c")
    assert address(mine) != address(yours)
    mine[:5] = b"mine!"
    assert yours == data


def test_a_readonly_view_uses_it_too(store: SegmentStore) -> None:
    reader = Reader()
    ref, data = next(objects(store))
    where, _ = reader.read(ref)
    view = reader.views.open(ref, "r")
    assert (address(view), view.readonly, bytes(view)) == (where, True, data)
    with pytest.raises(TypeError):
        view[0] = 1


def test_what_was_hardly_read_or_is_small_is_taken_down() -> None:
    store, reader = SegmentStore(), Reader()
    ref, data = next(objects(store))
    assert reader.views.open(ref, "c")[0] == data[0]
    assert reader.idle == 0
    reader.read(store.create(500, [bytes(100_000)]))
    assert reader.idle == 0
    store.close()


def test_a_large_one_is_judged_by_a_sample() -> None:
    store, reader = SegmentStore(), Reader()
    ref = store.create(1, [bytes(40 * MIB)])
    view = reader.views.open(ref, "c")
    assert view[: 4 * MIB] == bytes(4 * MIB)
    del view
    assert reader.idle == 0
    reader.read(ref)
    assert reader.idle == 1
    view = reader.views.open(ref, "c")
    view[-1] = 5
    del view
    assert reader.idle == 0


def test_without_the_pagemap_nothing_is_kept(store: SegmentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_pagemap(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "/proc/self/pagemap":
            raise FileNotFoundError(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_pagemap)
    reader = Reader()
    for (ref, data), _ in zip(objects(store), range(3), strict=False):
        assert reader.read(ref)[1] == data
        assert reader.idle == 0


def test_kept_mappings_are_limited_and_expire(store: SegmentStore) -> None:
    refs = [store.create(number, [bytes([number]) * LARGE]) for number in range(1, 6)]
    reader = Reader(max_count=3)
    for ref in refs:
        reader.read(ref)
    assert reader.idle == 3
    reader.views.expire(now=100.0)
    reader.read(refs[0])
    reader.views.expire(now=109.9)
    assert reader.idle == 3
    reader.views.expire(now=110.0)
    assert reader.idle == 1
    reader.views.close()
    assert reader.idle == 0

    narrow = Reader(max_bytes=10 * MIB)
    for ref in refs:
        narrow.read(ref)
    assert narrow.idle == 2


def test_memory_comes_back_when_creator_and_reader_have_given_it_up() -> None:
    store, reader = SegmentStore(), Reader()
    ref = store.create(1, [bytes(LARGE)])
    inode = os.fstat(ref.fd).st_ino
    reader.read(ref)
    store.free(1)
    for now in (0.0, 10.0):
        store.expire(now)
        reader.views.expire(now)
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert all(line.split()[4] != str(inode) for line in maps)
    assert (store.statistics().open_fds, reader.idle) == (0, 0)


def test_one_mapping_of_a_segment_is_kept(store: SegmentStore) -> None:
    ref, _ = next(objects(store))
    one, other = SegmentMapping(ref.fd), SegmentMapping(ref.fd)
    pool = IdleMappings(IdleLimits())
    assert pool.put(one) == []
    assert pool.put(other) == [other]
    assert pool.take(ref.fd) is one
    assert pool.take(ref.fd) is None
    assert len(pool) == 0


def test_pages_are_counted_to_the_end_of_the_object(store: SegmentStore) -> None:
    ref = store.create(1, [bytes(LARGE + 1)])  # one byte on a page of its own
    assert LARGE % mmap.PAGESIZE == 0
    reader = Reader()
    reader.read(ref)
    view = reader.views.open(ref, "c")
    view[LARGE] = 1
    del view
    assert reader.idle == 0
