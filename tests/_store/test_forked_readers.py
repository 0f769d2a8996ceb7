"""What a forked child reads stays as it is until the child is gone, whatever its parent does."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from scalepool._store.forks import ForkedReaders
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalepool._store.files import SegmentRef

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

DATA = bytes(range(256)) * 1000


@pytest.fixture
def store() -> Iterator[SegmentStore]:
    store = SegmentStore()
    yield store
    store.close()


@pytest.fixture
def ref(store: SegmentStore) -> SegmentRef:
    return store.create(1, [DATA])


class Child:
    """A forked process that lives until it is told to do its work and exit; `succeeded` is whether that was right."""

    def __init__(self, work: Callable[[], bool]) -> None:
        told, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.read(told, 1)
                code = 0 if work() else 1
            finally:
                os._exit(code)
        os.close(told)

    def finish(self) -> bool:
        os.write(self._tell, b"x")
        os.close(self._tell)
        _, status = os.waitpid(self.pid, 0)
        return status == 0


def test_what_a_child_reads_is_released_when_it_has_ended(ref: SegmentRef) -> None:
    views = Views()
    held = [views.open(ref, "c")]
    child = Child(lambda: held[0] == DATA)
    held.clear()
    assert views.live(1)
    assert views.drain_released() == []
    assert child.finish()
    assert views.drain_released() == [1]
    assert not views.live(1)
    assert views.drain_released() == []


def test_it_is_noticed_without_other_work(ref: SegmentRef) -> None:
    views = Views()
    held = [views.open(ref, "r")]
    child = Child(lambda: held[0] == DATA)
    held.clear()
    assert views.drain_released() == []
    assert not views.has_released
    child.finish()
    views.expire(0.0)
    assert views.has_released
    assert views.drain_released() == [1]


def test_grandchildren_and_second_children_count(ref: SegmentRef) -> None:
    views = Views()
    held = [views.open(ref, "c")]
    ready, say_ready = os.pipe()

    def fork_on() -> bool:
        grandchild = Child(lambda: held[0] == DATA)
        os.write(say_ready, b"x")
        return grandchild.finish()

    first, second = Child(fork_on), Child(lambda: held[0] == DATA)
    held.clear()
    assert views.drain_released() == []
    assert second.finish()
    assert views.drain_released() == []
    assert first.finish()
    os.read(ready, 1)
    for fd in (ready, say_ready):
        os.close(fd)
    assert views.drain_released() == [1]


def test_what_lives_on_here_is_released_in_its_own_time(ref: SegmentRef) -> None:
    views = Views()
    view = views.open(ref, "c")
    assert Child(lambda: True).finish()
    assert views.drain_released() == []
    assert view == DATA
    del view
    assert views.drain_released() == [1]


def test_other_objects_and_forks_without_views_cost_nothing(store: SegmentStore, ref: SegmentRef) -> None:
    views = Views()
    before = open_fds()
    idle = Child(lambda: True)
    assert open_fds() == before + 1  # the test's own
    view = views.open(ref, "c")
    other = store.create(2, [b"other"])
    child = Child(lambda: True)
    later = views.open(other, "c")
    assert later == b"other"
    del later
    assert views.drain_released() == [2]
    del view
    assert child.finish()
    assert idle.finish()
    assert views.drain_released() == [1]
    assert open_fds() == before + 1  # the other object


def test_a_child_may_use_its_views_and_let_them_go(ref: SegmentRef) -> None:
    views = Views()
    view = views.open(ref, "c")

    def work() -> bool:
        nonlocal view
        right = view == DATA
        del view
        return right and views.drain_released() == [1] and views.open(ref, "r") == DATA

    assert Child(work).finish()
    assert view == DATA


@contextmanager
def no_pipes() -> Iterator[None]:
    pipe = os.pipe

    def refuse() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    os.pipe = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os.pipe = pipe


def test_without_descriptors_they_are_never_released() -> None:
    readers = ForkedReaders()
    with no_pipes():
        readers.fork_begins(frozenset([1]))
        readers.fork_ends(in_child=False)
        readers.fork_begins(frozenset([2]))
        readers.fork_ends(in_child=False)
    readers.give_up(1)
    readers.give_up(2)
    assert readers.released() == []
    assert 1 in readers
    assert len(readers) == 2
    readers.fork_ends(in_child=True)
    assert len(readers) == 0


def open_fds() -> int:
    return len(list(os.scandir("/proc/self/fd")))


def test_threads_that_fork_at_once_do_not_block_each_other(ref: SegmentRef) -> None:
    views = Views()
    view = views.open(ref, "c")
    right: list[bool] = []

    def fork_often() -> None:
        right.extend(Child(lambda: view == DATA).finish() for _ in range(20))

    threads = [threading.Thread(target=fork_often, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert right == [True] * 60
