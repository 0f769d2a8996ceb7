"""The two ends of a link, over Unix sockets and over ZeroMQ: wake-ups, hostile bytes, and paths that are refused."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from scalepool._net.channel import HubChannel, PeerChannel, open_hub_channel, open_peer_channel
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="net-") as folder:
        yield Path(folder)


@pytest.fixture
def path(folder: Path) -> str:
    return f"{folder}/hub"


@pytest.fixture(params=["unix", "ipc"])
def address(request: pytest.FixtureRequest, path: str) -> str:
    return f"{request.param}://{path}"


@pytest.fixture
def hub(address: str) -> Iterator[HubChannel]:
    hub = open_hub_channel(address, max_message_bytes=LIMIT)
    yield hub
    hub.close()
    hub.close()
    assert hub.closed


@pytest.fixture
def peer(hub: HubChannel, address: str) -> Iterator[PeerChannel]:
    peer = open_peer_channel(address, max_message_bytes=LIMIT)
    yield peer
    peer.flush_and_close()


def receive(hub: HubChannel, sender: PeerChannel | None = None) -> tuple[bytes, bytes]:
    """The next message; the sender's own waits, meanwhile, are where the rest of a large one goes out."""
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + 30
    while not found:
        assert time.monotonic() < deadline
        if sender is not None:
            sender.poll(0.0)
        if hub.poll(0.1 if sender is None else 0.001):
            hub.receive_into(lambda routing, data: found.append((routing, data)))
    return found[0]


def test_messages_go_there_and_back(hub: HubChannel, peer: PeerChannel) -> None:
    for size in (0, 1, 1000, 65_535, 65_536, LIMIT):
        peer.send(b"x" * size)
        routing, data = receive(hub, peer)
        assert data == b"x" * size
        assert hub.send(routing, data)
        got: list[bytes] = []
        while not got:
            peer.poll(0.1)
            hub.poll(0.0)  # a large message goes out as the other side takes it in
            peer.receive_into(got.append)
        assert got == [data]
    assert not hub.receive_into(lambda *_: None)
    assert not peer.receive_into(lambda _: None)


def test_wake_ends_a_wait_from_any_thread(hub: HubChannel) -> None:
    timer = threading.Timer(0.02, hub.wake)
    timer.start()
    assert not hub.poll(30)
    timer.join()


def test_a_wake_before_the_wait_counts_and_many_are_one(hub: HubChannel) -> None:
    for _ in range(100_000):  # more than a pipe holds
        hub.wake()
    assert not hub.poll(30)
    before = time.monotonic()
    assert not hub.poll(0.01)  # taken together
    assert time.monotonic() - before < 20


def test_a_send_to_nobody_says_so(hub: HubChannel) -> None:
    assert not hub.send(b"nobody", b"x")


def test_a_send_to_a_peer_that_left_says_so(hub: HubChannel, address: str) -> None:
    peer = open_peer_channel(address, max_message_bytes=LIMIT)
    peer.send(b"x")
    routing, _ = receive(hub)
    peer.flush_and_close()

    deadline = time.monotonic() + 30
    while hub.send(routing, b"y"):
        assert time.monotonic() < deadline
        hub.poll(0.005)
        hub.receive_into(lambda *_: None)


def test_what_was_sent_before_a_flushing_close_arrives(hub: HubChannel, address: str) -> None:
    peer = open_peer_channel(address, max_message_bytes=LIMIT)
    for number in range(200):
        peer.send(b"%d" % number)
    peer.flush_and_close()

    assert [receive(hub)[1] for _ in range(200)] == [b"%d" % number for number in range(200)]


@pytest.mark.parametrize("address", ["ipc"], indirect=True)
def test_a_zeromq_message_of_many_parts_is_nobodys(hub: HubChannel, peer: PeerChannel, address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(address)
        stranger.send_multipart([b"a"] * 1000)
        assert receive(hub)[1] == b""
        stranger.send_multipart([b"", b""])
        assert receive(hub)[1] == b""
    peer.send(b"still here")
    assert receive(hub)[1] == b"still here"


def test_a_message_that_is_too_large_ends_that_peer_only(hub: HubChannel, peer: PeerChannel, address: str) -> None:
    stranger = open_peer_channel(address, max_message_bytes=LIMIT)
    stranger.send(b"x" * (LIMIT + 1))
    peer.send(b"small")
    assert receive(hub)[1] == b"small"
    stranger.flush_and_close()


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


def test_a_path_that_exists_is_refused_and_kept(address: str, path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(SessionError, match="refusing"):
        open_hub_channel(address, max_message_bytes=LIMIT)
    assert Path(path).read_text() == "precious"
    Path(path).unlink()
    Path(path).symlink_to("/nonexistent")
    with pytest.raises(SessionError, match="refusing"):
        open_hub_channel(address, max_message_bytes=LIMIT)


def test_a_path_that_is_too_long_is_refused(address: str) -> None:
    with pytest.raises(SessionError, match="TMPDIR"):
        open_hub_channel(address + "x" * 108, max_message_bytes=LIMIT)


@pytest.mark.parametrize("address", ["", "hub", "tcp://host:1", "unix:/hub"])
def test_an_address_of_no_known_form_is_refused(address: str) -> None:
    for open_channel in (open_hub_channel, open_peer_channel):
        with pytest.raises(SessionError, match="begins with none of unix, ipc"):
            open_channel(address, max_message_bytes=LIMIT)


def test_waking_a_closed_channel_is_harmless(address: str) -> None:
    hub = open_hub_channel(address, max_message_bytes=LIMIT)
    hub.close()
    hub.wake()
    assert hub.closed


def test_a_channel_is_of_no_use_in_a_forked_child(hub: HubChannel, peer: PeerChannel) -> None:
    child = os.fork()
    if not child:
        refused = 0
        for attempt in (lambda: hub.poll(0), lambda: peer.poll(0), lambda: hub.send(b"", b""), lambda: peer.send(b"")):
            try:
                attempt()
            except SessionError:
                refused += 1
        peer.flush_and_close()
        hub.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    peer.send(b"the parent's goes on")
    assert receive(hub)[1] == b"the parent's goes on"
