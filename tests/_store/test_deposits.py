"""Descriptors that workers leave with the driver: there when their makers are gone, and never waited for."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from scalepool._base.ids import make_id
from scalepool._store.deposits import DepositBox, Depositor
from scalepool._store.files import SegmentRef
from scalepool._store.segments import SegmentStore
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = bytes(range(256)) * 64
NOWHERE = (0, -1)
"""Process and descriptor of an object whose maker is gone."""

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="elsewhere handover passes descriptors on")  # noqa: PTH112


class Maker:
    """A worker's store, here in the same process."""

    def __init__(self, path: str, peer: int) -> None:
        self.peer = peer
        self.store = SegmentStore()
        self.store.handover = Depositor(path)
        self._counter = 0

    def makes(self) -> SegmentRef:
        self._counter += 1
        return self.store.create(make_id(self.peer, self._counter), [DATA])

    def dies(self) -> None:
        assert self.store.handover is not None
        self.store.handover.close()
        self.store.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "fds")


@pytest.fixture
def box(path: str) -> Iterator[DepositBox]:
    before = open_fds()
    box = DepositBox(path)
    yield box
    box.close()
    assert open_fds() == before, "nothing stays open"


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def gone(ref: SegmentRef) -> SegmentRef:
    """Name only the object, as a dead worker's flight record does."""
    return SegmentRef(ref.object_id, *NOWHERE, ref.size_bytes)


def claimed(box: DepositBox, ref: SegmentRef) -> bytes:
    fd = box.claim(ref)
    try:
        return os.pread(fd, ref.size_bytes, 0)
    finally:
        os.close(fd)


def test_what_a_worker_has_made_is_there_when_the_worker_is_gone(box: DepositBox, path: str) -> None:
    maker = Maker(path, 3)
    refs = [maker.makes() for _ in range(3)]
    maker.dies()
    assert [claimed(box, gone(ref)) for ref in refs] == [DATA] * 3


def test_workers_and_orders_do_not_matter(box: DepositBox, path: str) -> None:
    makers = [Maker(path, 3), Maker(path, 4)]
    refs = [maker.makes() for maker in makers for _ in range(3)]
    for maker in makers:
        maker.dies()
    assert [claimed(box, gone(ref)) for ref in reversed(refs)] == [DATA] * 6


def test_what_was_claimed_is_not_there_again(box: DepositBox, path: str) -> None:
    maker = Maker(path, 3)
    ref = maker.makes()
    claimed(box, ref)
    with pytest.raises(StoreError):
        box.claim(gone(ref))
    assert claimed(box, ref) == DATA, "its maker still has it"
    maker.dies()


def test_a_full_queue_is_not_waited_for(box: DepositBox, path: str) -> None:
    maker = Maker(path, 3)
    refs = [maker.makes() for _ in range(300)]
    assert claimed(box, gone(refs[0])) == DATA
    with pytest.raises(StoreError):
        box.claim(gone(refs[-1]))
    assert claimed(box, refs[-1]) == DATA, "from its maker"
    maker.dies()


def test_a_descriptor_that_is_not_the_object_is_refused(box: DepositBox, path: str) -> None:
    maker = Maker(path, 3)
    ref = maker.makes()
    maker.store.free(ref.object_id)  # and its memory may hold something else by now
    with pytest.raises(StoreError):
        box.claim(gone(ref))
    maker.dies()


def test_a_worker_that_is_forgotten_leaves_nothing(box: DepositBox, path: str) -> None:
    maker, other = Maker(path, 3), Maker(path, 4)
    refs = [maker.makes() for _ in range(3)]
    kept = other.makes()
    claimed(box, refs[2])  # the two before it were passed over
    maker.dies()
    before = open_fds()
    box.forget(3)
    assert open_fds() == before - 3  # these two, and the connection
    with pytest.raises(StoreError):
        box.claim(gone(refs[0]))
    assert claimed(box, gone(kept)) == DATA
    other.dies()


def test_what_nobody_ever_tells_of_does_not_pile_up(box: DepositBox, path: str) -> None:
    maker = Maker(path, 3)
    for _ in range(10):
        refs = [maker.makes() for _ in range(20)]
        claimed(box, refs[-1])
    before = open_fds()
    for _ in range(10):
        refs = [maker.makes() for _ in range(20)]
        claimed(box, refs[-1])
        for ref in refs:
            maker.store.discard(ref.object_id)
    assert open_fds() <= before + 1
    maker.dies()


def test_strangers_are_not_believed(box: DepositBox, path: str) -> None:
    for word in (b"x", b"x" * 100):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(path)
        connection.send(word)
        connection.close()
    maker = Maker(path, 3)
    ref = maker.makes()
    maker.dies()
    assert claimed(box, gone(ref)) == DATA


def test_a_worker_without_a_driver_goes_on(path: str) -> None:
    maker = Maker(path, 3)
    for ref in (maker.makes(), maker.makes()):
        maker.store.free(ref.object_id)
    maker.dies()
