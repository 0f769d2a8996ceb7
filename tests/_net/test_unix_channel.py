"""What only the channels over Unix sockets have to stand: slow readers, vanished peers, no descriptors left."""

from __future__ import annotations

import errno
import socket
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._net.unix import Hub, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 1 << 24


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="net-") as folder:
        yield f"{folder}/hub"


@pytest.fixture
def hub(path: str) -> Iterator[Hub]:
    hub = Hub(path, max_message_bytes=LIMIT)
    yield hub
    hub.close()


@pytest.fixture
def peer(hub: Hub, path: str) -> Iterator[Peer]:
    peer = Peer(path, max_message_bytes=LIMIT)
    yield peer
    peer.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline


def hear(hub: Hub, number: int, *senders: Peer) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []

    def heard() -> bool:
        for sender in senders:
            sender.poll(0.0)
        if hub.poll(0.001):
            hub.receive_into(lambda routing, data: found.append((routing, data)))
        return len(found) >= number

    until(heard)
    return found


def test_a_peer_that_does_not_read_delays_nobody(hub: Hub, peer: Peer, path: str) -> None:
    lazy = Peer(path, max_message_bytes=LIMIT)
    lazy.send(b"lazy")
    ((to_lazy, _),) = hear(hub, 1)
    for _ in range(50):
        assert hub.send(to_lazy, b"x" * 100_000)
    peer.send(b"prompt")
    ((to_peer, _),) = hear(hub, 1)
    assert hub.send(to_peer, b"answer")
    got: list[bytes] = []
    until(lambda: peer.poll(0.1) and peer.receive_into(got.append))
    assert got == [b"answer"]

    late: list[bytes] = []

    def catch_up() -> bool:
        hub.poll(0.0)
        while lazy.receive_into(late.append):
            pass
        return len(late) == 50

    until(catch_up)
    assert set(late) == {b"x" * 100_000}
    assert not hub.poll(0.0)  # nothing waits any more, so nobody is told that the socket could take more
    lazy.close()


def test_a_hub_that_does_not_read_delays_no_peer(hub: Hub, peer: Peer) -> None:
    messages = [bytes([number]) * 100_000 for number in range(50)]
    for message in messages:
        peer.send(message)
    assert [data for _, data in hear(hub, 50, peer)] == messages


def test_the_last_words_of_a_peer_are_heard_without_a_wait(hub: Hub, path: str) -> None:
    peer = Peer(path, max_message_bytes=LIMIT)
    peer.send(b"hello")
    ((routing, _),) = hear(hub, 1)
    hub.send(routing, b"never read")
    for number in range(100):
        peer.send(b"%d" % number)
    peer.close()

    heard: list[bytes] = []
    while hub.receive_into(lambda _, data: heard.append(data)):
        pass
    assert heard == [b"%d" % number for number in range(100)]
    assert not hub.send(routing, b"x")


def test_a_peer_whose_hub_is_gone_stays_calm(hub: Hub, peer: Peer) -> None:
    peer.send(b"hello")
    ((routing, _),) = hear(hub, 1)
    hub.send(routing, b"the last message")
    hub.close()

    got: list[bytes] = []
    until(lambda: peer.receive_into(got.append))
    assert got == [b"the last message"]
    peer.send(b"x")
    assert not peer.receive_into(got.append)
    # It waits like one that nobody writes to, and does not spin.
    before = time.process_time()
    assert not peer.poll(0.2)
    peer.send(b"y" * 1_000_000)
    assert time.process_time() - before < 0.15
    peer.wake()
    assert not peer.poll(30)
    peer.flush_and_close()


def test_who_takes_a_message_may_ask_for_the_next(hub: Hub, peer: Peer) -> None:
    for number in range(4):
        peer.send(b"%d" % number)
    order: list[bytes] = []

    def take(_: bytes, data: bytes) -> None:
        order.append(data)
        hub.receive_into(take)

    until(lambda: hub.poll(0.1) and hub.receive_into(take) and len(order) == 4)
    assert order == [b"0", b"1", b"2", b"3"]


def test_without_descriptors_newcomers_wait(hub: Hub, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        def __init__(self, listener: socket.socket) -> None:
            self.listener = listener
            self.left = 3
            self.asked = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.listener, name)

        def accept(self) -> Any:
            self.asked += 1
            if self.left:
                self.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.listener.accept()

    exhausted = Exhausted(hub._listener)
    monkeypatch.setattr(hub, "_listener", exhausted)
    peer = Peer(path, max_message_bytes=LIMIT)
    peer.send(b"patient")
    asked_at_first = []

    def heard() -> bool:
        hub.poll(0.01)
        asked_at_first.append(exhausted.asked)
        return hub.receive_into(lambda _, data: None)

    until(heard)
    assert exhausted.left == 0
    assert asked_at_first.count(1) > 1  # it was not asked at every look
    peer.close()


def test_nobody_listens_is_said(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        Peer(path, max_message_bytes=LIMIT)


def test_a_stranger_is_shown_the_door(hub: Hub, peer: Peer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool._net.unix.os.geteuid", lambda: 12345)
    monkeypatch.setattr("scalepool._base.credentials._ROOT", 54321)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        hub.poll(0.0)
        stranger.settimeout(30)
        assert stranger.recv(10) == b""
