"""The two ends of a link: wake-ups, hostile frames, and paths that are refused."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from scalepool._net.channel import HubChannel, PeerChannel
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="net-") as folder:
        yield f"{folder}/hub"


@pytest.fixture
def hub(path: str) -> Iterator[HubChannel]:
    hub = HubChannel(path, max_message_bytes=LIMIT)
    yield hub
    hub.close()
    hub.close()
    assert hub.closed


@pytest.fixture
def peer(hub: HubChannel, path: str) -> Iterator[PeerChannel]:
    peer = PeerChannel(path, max_message_bytes=LIMIT)
    yield peer
    peer.close()


def receive(hub: HubChannel) -> tuple[bytes, bytes]:
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + 30
    while not found:
        assert time.monotonic() < deadline
        if hub.poll(0.1):
            assert hub.receive_into(lambda routing, data: found.append((routing, data)))
    return found[0]


def test_messages_go_there_and_back(hub: HubChannel, peer: PeerChannel) -> None:
    for size in (0, 1, 1000, 65_536, LIMIT):
        peer.send(b"x" * size)
        routing, data = receive(hub)
        assert data == b"x" * size
        assert hub.send(routing, data)
        got: list[bytes] = []
        assert peer.poll(30)
        assert peer.receive_into(got.append)
        assert got == [data]
    assert not hub.receive_into(lambda *_: None)
    assert not peer.receive_into(lambda _: None)


def test_wake_ends_a_wait_from_any_thread(hub: HubChannel) -> None:
    timer = threading.Timer(0.02, hub.wake)
    timer.start()
    assert not hub.poll(30)
    timer.join()


def test_a_wake_before_the_wait_counts_and_many_are_one(hub: HubChannel) -> None:
    for _ in range(100_000 if hub._waker < 0 else 1000):
        hub.wake()
    assert not hub.poll(30)
    before = time.monotonic()
    assert not hub.poll(0.01)  # taken together
    assert time.monotonic() - before < 20


def test_a_send_to_nobody_says_so(hub: HubChannel) -> None:
    assert not hub.send(b"nobody", b"x")


def test_a_send_to_a_peer_that_left_says_so(hub: HubChannel, path: str) -> None:
    peer = PeerChannel(path, max_message_bytes=LIMIT)
    peer.send(b"x")
    routing, _ = receive(hub)
    peer.flush_and_close()

    deadline = time.monotonic() + 30
    while hub.send(routing, b"y"):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_was_sent_before_a_flushing_close_arrives(hub: HubChannel, path: str) -> None:
    peer = PeerChannel(path, max_message_bytes=LIMIT)
    for number in range(200):
        peer.send(b"%d" % number)
    peer.flush_and_close()

    assert [receive(hub)[1] for _ in range(200)] == [b"%d" % number for number in range(200)]


def test_a_message_of_many_parts_is_nobodys(hub: HubChannel, peer: PeerChannel, path: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(f"ipc://{path}")
        stranger.send_multipart([b"a"] * 1000)
        assert receive(hub)[1] == b""
        stranger.send_multipart([b"", b""])
        assert receive(hub)[1] == b""
    peer.send(b"still here")
    assert receive(hub)[1] == b"still here"


def test_a_message_that_is_too_large_ends_that_peer_only(hub: HubChannel, peer: PeerChannel, path: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(f"ipc://{path}")
        stranger.send(b"x" * (LIMIT + 1))
        peer.send(b"small")
        assert receive(hub)[1] == b"small"


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\xff" * 10_000, bytes(range(78, 250)) * 3]
)
def test_noise_on_the_socket_disturbs_nobody(hub: HubChannel, peer: PeerChannel, path: str, noise: bytes) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        with contextlib.suppress(BrokenPipeError):  # thrown out already
            stranger.sendall(noise)
        peer.send(b"fine")
        # libzmq still speaks its first protocol, so noise may come through as a message: the hub's affair.
        while receive(hub)[1] != b"fine":
            pass


def test_a_path_that_exists_is_refused_and_kept(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(SessionError, match="refusing"):
        HubChannel(path, max_message_bytes=LIMIT)
    assert Path(path).read_text() == "precious"
    Path(path).unlink()
    Path(path).symlink_to("/nonexistent")
    with pytest.raises(SessionError, match="refusing"):
        HubChannel(path, max_message_bytes=LIMIT)


def test_a_path_that_is_too_long_is_refused(path: str) -> None:
    with pytest.raises(SessionError, match="TMPDIR"):
        HubChannel(path + "x" * 108, max_message_bytes=LIMIT)


def test_waking_a_closed_channel_is_harmless(path: str) -> None:
    hub = HubChannel(path, max_message_bytes=LIMIT)
    hub.close()
    hub.wake()
    assert hub.closed
