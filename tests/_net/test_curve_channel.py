"""Links over TCP: only who has a key of the cluster is heard, and what is wrong is said at once."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from zmq.utils import z85

from scalepool._net import curve
from scalepool._net.addresses import split_endpoint
from scalepool._net.curve import Heartbeats, Hub, Peer, role_of
from scalepool._net.keys import AGENT, DRIVER, HEAD, ClusterKeys, KeyPair
from scalepool._net.zap import DOMAIN, verdict
from scalepool.errors import AuthenticationError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 1 << 20
KEYS = ClusterKeys.generate()
LONG_S = 30.0


def connect(address: str, role: str = AGENT, keys: ClusterKeys = KEYS, **options: Any) -> Peer:
    return Peer(address, keys.only_for(role) if role in keys.pairs else keys, role, max_message_bytes=LIMIT, **options)


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub("127.0.0.1", 0, KEYS, max_message_bytes=LIMIT)
    yield hub
    hub.close()
    hub.close()
    assert hub.closed


@pytest.fixture
def peer(hub: Hub) -> Iterator[Peer]:
    peer = connect(hub.address)
    yield peer
    peer.flush_and_close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline


def hear(hub: Hub) -> tuple[bytes, bytes]:
    found: list[tuple[bytes, bytes]] = []
    until(lambda: (hub.poll(0.1) and hub.receive_into(lambda *one: found.append(one))) or found)
    return found[0]


# ---- those who may ----


def test_messages_go_there_and_back_and_say_whose_key_it_was(hub: Hub) -> None:
    for role in (AGENT, DRIVER):
        peer = connect(hub.address, role)
        for size in (0, 1, 65_536, LIMIT):
            peer.send(b"x" * size)
            routing, data = hear(hub)
            assert (role_of(routing), data) == (role, b"x" * size)
            assert hub.send(routing, data)
            got: list[bytes] = []
            until(lambda got=got, peer=peer: (peer.poll(0.1) and peer.receive_into(got.append)) or got)
            assert got == [data]
        peer.flush_and_close()


def test_over_ipv6_too() -> None:
    try:
        hub = Hub("::1", 0, KEYS, max_message_bytes=LIMIT)
    except SessionError as error:
        pytest.skip(f"no IPv6 here: {error}")
    peer = connect(hub.address)
    peer.send(b"six")
    assert hear(hub)[1] == b"six"
    peer.flush_and_close()
    hub.close()


def test_a_link_comes_back_by_itself_and_is_a_new_one(hub: Hub, peer: Peer) -> None:
    peer.send(b"before")
    routing, _ = hear(hub)
    _, port = split_endpoint(hub.address)
    hub.close()
    until(lambda: peer.poll(0.1) or not peer.connected)
    second = Hub("127.0.0.1", port, KEYS, max_message_bytes=LIMIT)
    until(lambda: peer.poll(0.1) or peer.connected)
    assert peer.links == 2
    assert not second.send(routing, b"to whom?")
    peer.send(b"after")
    assert hear(second)[1] == b"after"
    second.close()


def test_a_host_that_falls_silent_is_noticed() -> None:
    # A listener that takes the connection and never says a word again: as after a cable was pulled.
    beats = Heartbeats(0.1, 0.3)
    hub = Hub("127.0.0.1", 0, KEYS, max_message_bytes=LIMIT, heartbeats=beats)
    with socket.create_server(("127.0.0.1", 0)) as relay:
        relay.settimeout(LONG_S)
        _, port = split_endpoint(hub.address)
        stop = _Relay(relay, port)
        peer = connect(f"tcp://127.0.0.1:{relay.getsockname()[1]}", heartbeats=beats)
        peer.send(b"here")
        routing, _ = hear(hub)
        stop.silent = True
        until(lambda: peer.poll(0.05) or not peer.connected)
        until(lambda: hub.poll(0.05) or hub.has_ended)
        assert hub.fell_silent(routing)
        peer.flush_and_close()
        stop.end()
    hub.close()


class _Relay:
    """Passes bytes on in both directions until it is told to keep them."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        import threading

        self.silent = False
        self._ended = False
        self._listener, self._port = listener, port
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        near, _ = self._listener.accept()
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            near.setblocking(False)
            far.setblocking(False)
            while not self._ended:
                for source, target in ((near, far), (far, near)):
                    with contextlib.suppress(BlockingIOError, ConnectionError, BrokenPipeError):
                        data = source.recv(65_536)
                        if not self.silent:
                            target.sendall(data)
                time.sleep(0.001)

    def end(self) -> None:
        self._ended = True
        self._thread.join()


# ---- those who may not ----


def test_an_unknown_key_is_refused_and_told_so(hub: Hub) -> None:
    stranger = KEYS._replace(pairs={**KEYS.pairs, AGENT: KeyPair.generate()})
    with pytest.raises(AuthenticationError, match="does not know our key"):
        connect(hub.address, keys=stranger, timeout_s=LONG_S)
    assert not hub.poll(0.0)


def test_another_clusters_head_is_told_from_ours(hub: Hub) -> None:
    with pytest.raises(AuthenticationError, match="not the head that the key file belongs to"):
        connect(hub.address, keys=ClusterKeys.generate(), timeout_s=0.5)


def test_nobody_at_the_address_is_said_within_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SessionError, match=f"nobody answers at tcp://127.0.0.1:{port} within 0.2 seconds"):
        connect(f"tcp://127.0.0.1:{port}", timeout_s=0.2)


def test_a_key_of_another_role_is_no_key() -> None:
    with pytest.raises(AuthenticationError, match="none for a driver"):
        Peer("tcp://127.0.0.1:1", KEYS.only_for(AGENT), DRIVER, max_message_bytes=LIMIT)
    with pytest.raises(SessionError, match="lack the head's secret"):
        Hub("127.0.0.1", 0, KEYS.only_for(AGENT), max_message_bytes=LIMIT)


def test_strangers_without_keys_and_noise_are_not_heard(hub: Hub, peer: Peer) -> None:
    rng = random.Random(3)
    host, port = split_endpoint(hub.address)
    noises = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"SSH-2.0-x\r\n",
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL",
    ]
    noises += [rng.randbytes(rng.randrange(1, 400)) for _ in range(100)]
    for noise in noises:
        with socket.create_connection((host, port)) as stranger:
            stranger.sendall(noise)
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger, context.socket(zmq.PUSH) as pusher:
        for one in (stranger, pusher):
            one.linger = 0
            one.connect(hub.address)
        stranger.send(b"let me in")
        peer.send(b"legitimate")
        assert hear(hub)[1] == b"legitimate"
        assert not hub.poll(0.2)
    assert hub.safe


def test_who_is_denied_is_told_once_in_a_while() -> None:
    told: list[tuple[int, str]] = []
    hub = Hub("127.0.0.1", 0, KEYS, max_message_bytes=LIMIT, on_denied=lambda *one: told.append(one))
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            connect(hub.address, keys=KEYS._replace(pairs={**KEYS.pairs, AGENT: KeyPair.generate()}))
    hub.close()
    assert told == [(1, "127.0.0.1")]


def test_noise_is_told_of_once_in_a_while_and_who_is_denied_is_no_noise(hub: Hub, peer: Peer) -> None:
    told: list[tuple[int, str]] = []
    hub.on_noise = lambda *one: told.append(one)
    host, port = split_endpoint(hub.address)
    connect(hub.address, DRIVER).flush_and_close()
    counts = hub._newcomers
    until(lambda: (hub.poll(0.05), (counts._admitted, len(counts._open)) == (2, 1))[1])
    with socket.create_connection((host, port)):  # who says nothing at all
        until(lambda: (hub.poll(0.05), len(counts._open) == 2)[1])
    until(lambda: (hub.poll(0.05), told)[1])
    assert told == [(1, "127.0.0.1")]
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(60)):
        with socket.create_connection((host, port)) as stranger:
            stranger.sendall(noise)
    stranger_keys = KEYS._replace(pairs={**KEYS.pairs, AGENT: KeyPair.generate()})
    with pytest.raises(AuthenticationError):
        connect(hub.address, keys=stranger_keys, timeout_s=LONG_S)
    until(lambda: (hub.poll(0.05), counts._count == 2)[1])
    assert len(told) == 1
    peer.send(b"still here")
    assert hear(hub)[1] == b"still here"


def test_a_head_hears_at_once_that_a_peer_may_have_gone(hub: Hub, peer: Peer) -> None:
    peer.send(b"here")
    assert hear(hub)[1] == b"here"
    hub.has_ended = False  # of its own knocks at its door it may hear, too
    peer.flush_and_close()
    until(lambda: (hub.poll(LONG_S), hub.has_ended)[1])


def test_a_message_that_is_too_large_ends_that_link_only(hub: Hub, peer: Peer) -> None:
    other = connect(hub.address, DRIVER)
    other.send(b"x" * (LIMIT + 1))
    peer.send(b"small")
    assert hear(hub)[1] == b"small"
    other.flush_and_close()


def test_a_message_of_many_parts_is_nobodys(hub: Hub) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as insider:
        insider.curve_serverkey = KEYS.pairs[HEAD].public
        insider.curve_publickey, insider.curve_secretkey = KEYS.pairs[AGENT]
        insider.connect(hub.address)
        insider.send_multipart([b"a"] * 1000)
        assert hear(hub)[1] == b""


def test_without_its_doorkeeper_a_head_lets_nobody_in(hub: Hub) -> None:
    hub._doorkeeper.close()
    assert not hub.safe
    with pytest.raises(SessionError):
        connect(hub.address, timeout_s=0.5)
    assert not hub.poll(0.0)


def test_a_head_whose_door_is_open_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalepool._net.zap.verdict", lambda request, allowed: (request[1], AGENT))
    with pytest.raises(SessionError, match="would let in who has no key"):
        Hub("127.0.0.1", 0, KEYS, max_message_bytes=LIMIT)


def test_a_place_that_is_taken_is_named(hub: Hub) -> None:
    host, port = split_endpoint(hub.address)
    with pytest.raises(SessionError, match=f"cannot listen at tcp://127.0.0.1:{port}: Address already in use"):
        Hub(host, port, KEYS, max_message_bytes=LIMIT)


# ---- decisions ----


def asked(key: bytes = z85.decode(KEYS.pairs[AGENT].public), **changes: bytes) -> list[bytes]:
    fields = {"version": b"1.0", "id": b"7", "domain": DOMAIN, "address": b"10.0.0.1", "routing": b"", "how": b"CURVE"}
    return [*{**fields, **changes}.values(), key]


def test_the_verdict_is_about_domain_mechanism_and_key() -> None:
    allowed = KEYS.roles_by_key()
    assert verdict(asked(), allowed) == (b"7", AGENT)
    assert verdict(asked(z85.decode(KEYS.pairs[DRIVER].public)), allowed) == (b"7", DRIVER)
    denied = [
        asked(z85.decode(KEYS.pairs[HEAD].public)), asked(os.urandom(32)), asked(b""), asked(b"x" * 31),
        asked(version=b"2.0"), asked(domain=b""), asked(domain=b"*"), asked(how=b"NULL"), asked(how=b"PLAIN"),
        [*asked(), b""],
    ]  # fmt: skip
    assert {verdict(request, allowed) for request in denied} == {(b"7", None)}
    assert verdict([], allowed)[1] is None
    assert verdict([b"1.0"], allowed)[1] is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [("tcp://host:5", ("host", 5)), ("tcp://127.0.0.1:65535", ("127.0.0.1", 65535)), ("tcp://[::1]:9", ("::1", 9))],
)
def test_an_address_has_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert split_endpoint(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "host:5", "tcp://", "tcp://host", "tcp://:5", "tcp://host:x", "tcp://host:70000", "tcp://a@host:5",
     "tcp://host:5/x", "ipc://host:5", "tcp://[::1:5", "tcp://*:5x"],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(SessionError, match="tcp://host:port"):
        split_endpoint(address)


def test_the_channel_is_of_no_use_in_a_forked_child(hub: Hub, peer: Peer) -> None:
    child = os.fork()
    if not child:
        refused = 0
        for attempt in (lambda: hub.poll(0), lambda: peer.poll(0), lambda: hub.send(b"a", b""), lambda: peer.send(b"")):
            try:
                attempt()
            except SessionError:
                refused += 1
        peer.flush_and_close()
        hub.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    peer.send(b"the parent's goes on")
    assert hear(hub)[1] == b"the parent's goes on"


def test_roles_have_marks() -> None:
    assert {role_of(mark + b"any") for mark in curve._MARKS.values()} == {AGENT, DRIVER}
