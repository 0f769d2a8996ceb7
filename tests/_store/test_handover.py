"""Descriptors handed over a socket: what is deposited can be fetched, whoever is gone; strangers get nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from scalepool._base.ids import make_id
from scalepool._store import handover as wire
from scalepool._store.adopted import AdoptedSegments
from scalepool._store.files import SegmentRef, can_look_into
from scalepool._store.handover import HandoverPeer
from scalepool._store.handover_host import HandoverHost
from scalepool._store.holder import copy_to_disk
from scalepool._store.mapping import Views
from scalepool._store.segments import SegmentStore
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(range(16))


class Session:
    """A driver and a worker that may not look into each other, here in one process."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "fds")
        self.host = HandoverHost(self.path, KEY)
        self.store = SegmentStore()
        self.adopted = AdoptedSegments(None, self.host.claim)
        self.host.serve_from(self.store.find)
        self.host.serve_from(self.adopted.find)
        self.peer = HandoverPeer(self.path, KEY)
        self.made = SegmentStore()
        self.made.handover = self.peer

    def close(self) -> None:
        self.peer.close()
        self.host.close()
        self.adopted.close()
        self.store.close()
        self.made.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()


def elsewhere(ref: SegmentRef) -> SegmentRef:
    """As another process sees it: not to be found under its own numbers."""
    return ref._replace(pid=1)


def inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def test_what_the_driver_makes_is_fetched_by_others(session: Session) -> None:
    ref = session.store.create(7, [b"driver" * 1000])
    assert bytes(Views(opener=session.peer.open).open(elsewhere(ref), "c")) == b"driver" * 1000
    session.store.free(7)
    with pytest.raises(StoreError, match=r"object 7 .* nobody holds it any more"):
        session.peer.open(elsewhere(ref))


def test_what_another_makes_outlives_it_and_is_handed_on(session: Session) -> None:
    number = make_id(3, 1)
    ref = elsewhere(session.made.create(number, [b"worker" * 1000]))
    session.peer.close()
    session.made.close()
    place = session.adopted.adopt(ref)
    assert place.pid == os.getpid()
    assert bytes(Views().open(place, "r")) == b"worker" * 1000
    reader = HandoverPeer(session.path, KEY)
    assert bytes(Views(opener=reader.open).open(elsewhere(place), "r")) == b"worker" * 1000
    session.adopted.drop(number)
    with pytest.raises(StoreError, match="nobody holds it"):
        reader.open(elsewhere(place))
    reader.close()


def test_it_can_be_fetched_before_it_is_adopted_and_while_it_is_spilled(session: Session, tmp_path: Path) -> None:
    ref = elsewhere(session.made.create(make_id(3, 1), [b"x" * 5000]))
    assert bytes(Views(opener=session.host.open).open(ref, "r")) == b"x" * 5000
    own = session.store.create(8, [b"y" * 5000])
    session.store._allocator.budget.limits = session.store._allocator.budget.limits._replace(
        disk_bytes=1 << 20, folder=str(tmp_path)
    )
    source = session.store.begin_spill(8)
    assert source is not None
    copy = copy_to_disk(session.store._allocator.budget, source)
    os.close(source.fd)
    assert session.store.end_spill(8, copy)
    assert bytes(Views(opener=session.peer.open).open(elsewhere(own), "r")) == b"y" * 5000


def test_what_was_never_told_goes_when_it_is_freed_or_its_maker_is_gone(session: Session) -> None:
    freed, left, others = make_id(3, 1), make_id(3, 2), make_id(4, 1)
    refs = {number: elsewhere(session.made.create(number, [b"z" * 5000])) for number in (freed, left, others)}
    session.made.free(freed)
    with pytest.raises(StoreError, match="nobody holds it"):
        session.host.open(refs[freed])
    session.host.forget(3)
    with pytest.raises(StoreError, match="nobody holds it"):
        session.adopted.adopt(refs[left])
    session.adopted.adopt(refs[others])


def test_a_segment_that_is_written_again_is_another_object(session: Session) -> None:
    first, second = make_id(3, 1), make_id(3, 2)
    ref = elsewhere(session.made.create(first, [b"1" * 100_000]))
    session.adopted.adopt(ref)
    session.adopted.drop(first)
    session.made.free(first)
    again = elsewhere(session.made.create(second, [b"2" * 100_000]))
    assert session.made.statistics().recycled == 1
    with pytest.raises(StoreError):
        session.adopted.adopt(ref)
    assert bytes(Views().open(session.adopted.adopt(again), "r")) == b"2" * 100_000


def test_any_descriptor_can_be_handed_over_also_a_socket(session: Session) -> None:
    one, other = socket.socketpair()
    with one, other:
        session.host.deposit(5, one.fileno())
        with socket.socket(fileno=session.peer.fetch(5)) as fetched:
            other.send(b"hello")
            assert fetched.recv(10) == b"hello"
        session.host.withdraw(5)
        with pytest.raises(FileNotFoundError):
            session.peer.fetch(5)


def test_a_stranger_gets_nothing_and_disturbs_nobody(session: Session) -> None:
    session.host.deposit(5, 0)
    for first in (b"", bytes(16), KEY + b"x", wire.REQUEST.pack(wire.FETCH, 5)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(session.path)
            stranger.settimeout(60)
            try:
                stranger.send(first)
                stranger.send(wire.REQUEST.pack(wire.FETCH, 5))
                assert stranger.recv(16) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass
    os.close(session.peer.fetch(5))


@pytest.mark.parametrize("nonsense", [b"short", wire.REQUEST.pack(9, 9), b"x" * 18])
def test_one_that_talks_nonsense_is_disconnected(session: Session, nonsense: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(session.path)
        peer.settimeout(60)
        peer.send(KEY)
        peer.send(nonsense)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(16) == b""
    session.host.deposit(5, 0)
    os.close(session.peer.fetch(5))


def test_threads_get_what_they_ask_for(session: Session, tmp_path: Path) -> None:
    files = [os.open(tmp_path / str(number), os.O_CREAT | os.O_RDWR) for number in range(8)]
    for number, fd in enumerate(files):
        session.host.deposit(number, fd)
    wrong: list[int] = []

    def fetch(number: int) -> None:
        for _ in range(100):
            if inode(session.peer.fetch(number)) != os.fstat(files[number]).st_ino:
                wrong.append(number)

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fd in files:
        os.close(fd)
    assert not wrong


def test_more_than_the_system_lets_be_on_their_way_at_once(session: Session) -> None:
    for number in range(2000):
        session.peer.deposit(number, 0)
        if number >= 100:
            session.peer.withdraw(number - 100)
    os.close(session.peer.fetch(1999))
    with pytest.raises(FileNotFoundError):
        session.peer.fetch(5)


def test_a_forked_child_asks_for_itself(session: Session) -> None:
    session.host.deposit(5, 0)
    os.close(session.peer.fetch(5))
    child = os.fork()
    if child == 0:
        os._exit(int(inode(session.peer.fetch(5)) != os.fstat(0).st_ino))
    for _ in range(100):
        assert inode(session.peer.fetch(5)) == os.fstat(0).st_ino
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_when_the_driver_is_gone_nobody_waits(session: Session) -> None:
    session.host.deposit(5, 0)
    os.close(session.peer.fetch(5))
    session.host.close()
    with pytest.raises(OSError, match=r"ended|reset|Broken|refused"):
        session.peer.fetch(5)
    with pytest.raises(StoreError):
        session.made.create(make_id(3, 1), [b"x" * 5000])
    session.peer.withdraw(5)


def test_without_descriptors_it_is_the_callers_error(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    session.host.deposit(5, 0)
    monkeypatch.setattr("scalepool._store.handover_host.os.dup", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        session.peer.fetch(5)
    monkeypatch.undo()
    os.close(session.peer.fetch(5))


def test_whether_another_process_can_be_looked_into() -> None:
    assert not can_look_into(2**22 + 1)  # no process can have this number
    assert can_look_into(os.getpid()) == os.access("/proc/self/fd/0", os.F_OK)
