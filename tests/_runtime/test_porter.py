"""Messages wait for their objects, in order; objects come whole, once, or are known to be lost."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

import pytest

from scalepool._runtime.node_session import read_part
from scalepool._runtime.porter import Porter
from scalepool._runtime.storage import Storage
from scalepool._store.adopted import AdoptedSegments
from scalepool._store.files import open_segment
from scalepool._store.plan import StorePlan
from scalepool._store.segments import SegmentStore
from scalepool.config import Settings
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = (5 << 20) + 12_345


class Host:
    """A host that has nothing, and one that has objects."""

    def __init__(self, plan: StorePlan) -> None:
        self.there = SegmentStore()
        self.storage = Storage(0, Settings(), plan)
        self.kept = AdoptedSegments(self.storage.budget)
        self.asked: deque[tuple[int, int, int, int]] = deque()
        self.told: list[str] = []
        self.delivered: list[str] = []
        self.porter = Porter(
            self.kept, lambda object_id: False, self.storage, lambda *ask: self.asked.append(ask), self.told.append
        )

    def make(self, object_id: int, size: int = SIZE) -> tuple[int, int, int, int]:
        return self.there.create(object_id, [os.urandom(size)])

    def pass_on(self, lane: int, name: str, *columns: tuple[int, int, int, int]) -> None:
        flat = [number for column in columns for number in column]
        self.porter.pass_on(lane, 1, flat, lambda: self.delivered.append(name))

    def answer(self, count: int = 1 << 30) -> None:
        while self.asked and count:
            _, object_id, offset, size = self.asked.popleft()
            self.porter.chunk(object_id, offset, read_part(self.there.find(object_id), offset, size))
            count -= 1

    def close(self) -> None:
        self.porter.close()
        self.kept.close()
        self.there.close()
        self.storage.close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(StorePlan())
    yield host
    host.close()


def test_an_object_comes_whole_before_what_describes_it(host: Host) -> None:
    ref = host.make(5)
    host.pass_on(1, "first", ref)
    host.pass_on(1, "second")
    host.pass_on(2, "another lane")
    assert host.delivered == ["another lane"]
    assert host.porter.waits(1)
    assert not host.porter.waits(2)
    assert len(host.asked) == 6  # within the window
    host.answer()
    assert host.delivered == ["another lane", "first", "second"]
    held = host.kept.held(5)
    assert held is not None
    os.close(open_segment(held))  # with its stamp
    content = host.there.content(5)
    assert content is not None
    assert os.pread(held.fd, SIZE, 0) == content
    host.pass_on(1, "again", ref)
    assert host.delivered[-1] == "again"
    assert not host.asked


def test_an_object_that_many_wait_for_comes_once(host: Host) -> None:
    ref, other = host.make(5), host.make(6)
    host.pass_on(1, "a", ref)
    host.pass_on(2, "b", ref, other)
    assert len({ask[:3] for ask in host.asked}) == len(host.asked) == 12
    host.answer()
    assert sorted(host.delivered) == ["a", "b"]


def test_what_is_gone_or_lost_with_its_host_is_not_waited_for(host: Host) -> None:
    ref, other = host.make(5), host.make(6)
    host.pass_on(1, "a", ref)
    host.there.free(5)
    host.answer()
    host.pass_on(1, "b", other)
    host.answer(2)
    host.porter.lose_source(1)
    host.answer()  # late chunks
    assert host.delivered == ["a", "b"]
    assert len(host.told) == 2
    assert host.storage.budget.usage() == (0, 0)


def test_without_room_an_object_goes_to_disk_or_is_done_without(tmp_path: object) -> None:
    host = Host(StorePlan(memory_bytes=SIZE // 2, spill_dir=str(tmp_path), spill_bytes=2 * SIZE))
    host.pass_on(1, "a", host.make(5))
    host.answer()
    assert host.kept.held(5) is not None
    assert host.storage.budget.usage().disk_bytes > SIZE
    host.pass_on(1, "b", host.make(6))
    assert host.delivered == ["a", "b"]
    assert host.kept.held(6) is None
    assert "object" in host.told[0]
    host.kept.drop(5)
    assert host.storage.budget.usage() == (0, 0)
    host.close()


def test_chunks_that_nobody_asked_for_are_refused(host: Host) -> None:
    host.pass_on(1, "a", host.make(5))
    with pytest.raises(ProtocolError):
        host.porter.chunk(5, 3, b"x")
    with pytest.raises(ProtocolError):
        host.pass_on(1, "b", (7, 0, 0, -1))
    host.porter.chunk(99, 0, b"x")  # of one that was given up


class Sought:
    """Says yes to everything, and notes what became of it."""

    def __init__(self, host: Host) -> None:
        self.settled: list[tuple[int, bool]] = []
        host.porter.seek = lambda source, object_id, size_bytes: True
        host.porter.settled = lambda object_id, is_here: self.settled.append((object_id, is_here))


def test_an_object_that_comes_directly_is_not_asked_for(host: Host) -> None:
    sought = Sought(host)
    host.pass_on(1, "a", host.make(5))
    assert not host.asked
    filled = host.porter.directly(5)
    assert filled is not None
    assert host.porter.directly(5) is host.porter.filling(5) is filled  # from the next source it goes on
    content = host.there.content(5)
    assert content is not None
    assert filled.write(0, memoryview(content))
    host.porter.filled(5)
    assert (host.delivered, sought.settled) == (["a"], [(5, True)])
    held = host.kept.held(5)
    assert held is not None
    assert os.pread(held.fd, SIZE, 0) == content
    os.close(open_segment(held))
    assert host.porter.directly(5) is host.porter.filling(5) is None


def test_what_broke_off_goes_on_over_the_head_from_where_it_is(host: Host) -> None:
    sought = Sought(host)
    host.pass_on(1, "a", host.make(5))
    filled = host.porter.directly(5)
    content = host.there.content(5)
    assert filled is not None
    assert content is not None
    assert filled.write(0, memoryview(content)[: 2 << 20])
    host.porter.relay(5)
    assert host.asked[0][2] == 2 << 20
    assert not filled.write(2 << 20, memoryview(content)[2 << 20 :])  # nobody writes into it any more
    host.answer()
    held = host.kept.held(5)
    assert held is not None
    assert os.pread(held.fd, SIZE, 0) == content
    assert (host.delivered, sought.settled) == (["a"], [(5, True)])


def test_what_nobody_needs_any_more_does_not_come(host: Host) -> None:
    sought = Sought(host)
    host.pass_on(1, "a", host.make(5))
    filled = host.porter.directly(5)
    assert filled is not None
    host.porter.lose_source(1)  # others may have it
    assert not sought.settled
    assert host.porter.give_up(5)
    assert not host.porter.give_up(5)
    assert not filled.write(0, memoryview(b"x"))
    assert (host.delivered, sought.settled) == (["a"], [(5, False)])
    host.pass_on(1, "b", host.make(6))
    host.porter.directly(6)
    host.porter.filled(6, "no room")
    assert host.told == ["no room"]
    assert host.delivered == ["a", "b"]
    assert host.storage.budget.usage() == (0, 0)


def test_parts_are_bounded(host: Host) -> None:
    host.make(5)
    assert read_part(None, 0, 1) == b""
    assert read_part(host.there.find(5), -1, 1) == b""
    assert read_part(host.there.find(5), 0, 1 << 30) == b""
    assert len(read_part(host.there.find(5), 10, 100)) == 100
