"""Copies on the disk are made beside everything else; what was freed or found no room meanwhile leaves nothing."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from scalepool._base.ids import make_id
from scalepool._store import holder as holders
from scalepool._store.adopted import AdoptedSegments
from scalepool._store.budget import Budget, BudgetLimits
from scalepool._store.files import in_memory
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool._store.spiller import Spiller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scalepool._store.holder import SegmentHolder
    from scalepool._store.spiller import Written

MIB = 1 << 20


class Disk:
    """Lets a copy go on only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Semaphore(0)
        original = holders.copy_file

        def slow(source: int, target: int, size_bytes: int) -> Iterator[int]:
            self.begun.release()
            assert self.may_go_on.acquire(timeout=60)
            yield from original(source, target, size_bytes)

        monkeypatch.setattr(holders, "copy_file", slow)


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget("", 0, BudgetLimits(64 * MIB, 16 * MIB, str(tmp_path)))


@pytest.fixture
def store(budget: Budget) -> Iterator[SegmentStore]:
    before = open_fds()
    store = SegmentStore(budget=budget)
    yield store
    store.close()
    until(lambda: open_fds() <= before)


@pytest.fixture
def spiller(budget: Budget) -> Iterator[Spiller]:
    spiller = Spiller(budget, lambda: None)
    yield spiller
    spiller.close()
    until(lambda: "scalepool-spill" not in [thread.name for thread in threading.enumerate()])


def open_fds() -> int:
    return len(list(os.scandir("/proc/self/fd")))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def order(spiller: Spiller, holder: SegmentHolder, object_id: int) -> None:
    source = holder.begin_spill(object_id)
    assert source is not None
    spiller.order(holder, object_id, source)


def outcome(spiller: Spiller) -> Written:
    until(lambda: spiller.written)
    (written,) = spiller.take()
    return written


def test_an_object_is_moved_and_its_readers_go_on(spiller: Spiller, store: SegmentStore, budget: Budget) -> None:
    ref = store.create(1, [b"a" * MIB])
    view = Views().open(ref, "r")
    order(spiller, store, 1)
    written = outcome(spiller)
    assert written[:2] == (store, 1)
    assert in_memory(ref.fd)  # nothing has changed so far
    assert written.copy is not None
    assert store.end_spill(1, written.copy)
    assert not in_memory(ref.fd)
    assert store.begin_spill(1) is None
    assert bytes(Views().open(ref, "r")) == bytes(view) == b"a" * MIB
    store.free(1)
    assert budget.usage() == (0, 0)


def test_whoever_orders_does_not_wait(monkeypatch: pytest.MonkeyPatch, spiller: Spiller, store: SegmentStore) -> None:
    disk = Disk(monkeypatch)
    for number in (1, 2):
        store.create(number, [b"a" * MIB])
        order(spiller, store, number)
    assert disk.begun.acquire(timeout=60)
    assert spiller.take() == []
    store.create(3, [b"b" * MIB])  # nothing is locked meanwhile
    assert store.content(1) == b"a" * MIB
    disk.may_go_on.release(2)
    until(lambda: len(spiller.written) == 2)
    done = spiller.take()
    assert [one.object_id for one in done] == [1, 2]
    assert all(one.copy is not None and store.end_spill(one.object_id, one.copy) for one in done)
    assert store.statistics().spilled == 2


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_what_is_freed_is_dropped(
    monkeypatch: pytest.MonkeyPatch, spiller: Spiller, store: SegmentStore, budget: Budget, when: str
) -> None:
    disk = Disk(monkeypatch)
    ref = store.create(1, [b"a" * MIB])
    source = store.begin_spill(1)
    assert source is not None
    if when == "before":
        store.free(1)
    spiller.order(store, 1, source)
    if when != "before":
        assert disk.begun.acquire(timeout=60)
    if when == "while":
        store.free(1)
    disk.may_go_on.release()
    written = outcome(spiller)
    if when == "after":
        store.free(1)
        assert written.copy is not None
        assert not store.end_spill(1, written.copy)
    else:
        assert written.copy is None
    assert budget.usage().disk_bytes == 0
    assert store.create(2, [b"b" * MIB]).fd == ref.fd  # its memory was recycled as ever
    assert store.content(2) == b"b" * MIB


def test_a_full_disk_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, spiller: Spiller, store: SegmentStore, budget: Budget
) -> None:
    def full(target: int, parts: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.create(1, [b"a" * MIB])
    store.create(2, [b"a" * (20 * MIB)])
    order(spiller, store, 2)
    assert outcome(spiller).copy is None  # more than the budget of disk
    monkeypatch.setattr("scalepool._store.files.write_buffers", full)
    order(spiller, store, 1)
    assert outcome(spiller).copy is None
    assert budget.usage().disk_bytes == 0
    assert store.content(1) == b"a" * MIB


def test_adopted_objects_too(spiller: Spiller, budget: Budget) -> None:
    maker = SegmentStore()
    adopted = AdoptedSegments(budget)
    ref = adopted.adopt(maker.create(make_id(1, 1), [b"w" * MIB]))
    maker.discard(ref.object_id)
    order(spiller, adopted, ref.object_id)
    written = outcome(spiller)
    assert written.copy is not None
    assert adopted.end_spill(ref.object_id, written.copy)
    assert bytes(Views().open(ref, "r")) == b"w" * MIB
    adopted.drop(ref.object_id)
    assert not adopted.holds(ref.object_id)
    with pytest.raises(KeyError):
        adopted.begin_spill(ref.object_id)
    assert budget.usage() == (0, 0)
    maker.close()


def test_closing_drops_what_is_under_way_and_what_nobody_took(
    monkeypatch: pytest.MonkeyPatch, spiller: Spiller, store: SegmentStore, budget: Budget
) -> None:
    disk = Disk(monkeypatch)
    for number in (1, 2, 3):
        store.create(number, [b"a" * MIB])
        order(spiller, store, number)
    disk.may_go_on.release()
    until(lambda: spiller.written)
    spiller.close()
    disk.may_go_on.release(2)
    until(lambda: budget.usage().disk_bytes == 0)
    assert spiller.take() == []


def test_without_threads_it_is_done_at_once(
    monkeypatch: pytest.MonkeyPatch, spiller: Spiller, store: SegmentStore
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    store.create(1, [b"a" * MIB])
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    order(spiller, store, 1)
    (written,) = spiller.take()
    assert written.copy is not None
    assert store.end_spill(1, written.copy)
