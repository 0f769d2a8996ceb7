"""Channels over TCP: a ROUTER at the head, a DEALER at each peer, encrypted and authenticated by CURVE.

CURVE alone lets in everybody who knows the head's public key, and each of these three alone leaves a door open (all
measured with libzmq 4.3.5): a domain without a handler, a handler without ZAP_ENFORCE_DOMAIN, enforcement with an empty
domain. So the domain has a name, it is enforced, the handler runs before the socket is bound and denies on any error,
and a head knocks at its own door with no key and with a wrong one before anybody learns the address.

Who a message is from is what the handler said of the sender's key (its User-Id), never the routing id, which a peer
chooses. It is the first byte of the routing bytes that callers see.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

import zmq

from scalepool._base.clock import monotonic_s
from scalepool._base.tuples import NamedTuple
from scalepool._net.addresses import join_endpoint, split_endpoint, why_nobody_answers, why_not_here
from scalepool._net.connections import CAN_TELL, Connections
from scalepool._net.keys import AGENT, DRIVER, HEAD, ClusterKeys, KeyPair
from scalepool._net.newcomers import Newcomers
from scalepool._net.zap import DOMAIN, Doorkeeper
from scalepool._net.zeromq import HubEnd, PeerEnd
from scalepool.errors import AuthenticationError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["Heartbeats", "Hub", "Peer", "role_of"]

_POLLIN: Final = int(zmq.POLLIN)
_HANDSHAKE_MS: Final = 5_000
"""A connection that has not introduced itself by then is closed: idle ones must not use up the descriptors."""
_QUEUED_MESSAGES: Final = 100_000
"""A peer that has let so many wait is as good as gone; what is under way is bounded by credit, far below."""
_UNHEARD_MESSAGES: Final = 1000
"""As many of each peer wait in a head's memory. More stay with their sender, however fast it talks."""
_OF_HEADS: Final[dict[int, int]] = {
    zmq.RCVHWM: _UNHEARD_MESSAGES,
    **({zmq.HEARTBEAT_IVL: 0} if CAN_TELL else {}),
    # For who was let in and has said nothing since: nobody watches it.
    zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 2,
}  # fmt: skip
_SEALING_BYTES: Final = 33
"""What CURVE adds to a message; libzmq compares its limit with what comes over the wire."""
_TRIES: Final = 3
"""Somebody who has accepted so many connections, and ended them before a word, will not do otherwise with the next."""
_KNOCK_TIMEOUT_S: Final = 5.0
_SRCFD: Final = int(zmq.SRCFD)
_MARKS: Final = {AGENT: b"a", DRIVER: b"d"}
_ROLES: Final = {mark: role for role, mark in _MARKS.items()}


class Heartbeats(NamedTuple):
    """Signs of life of a connection: one every ``interval_s``, given up ``timeout_s`` after one that has no answer.

    Peers ask, and wait for the head's answer; threads of libzmq do that, so it says that host and process run, not that
    Python makes progress. The head asks nobody: see `scalepool._net.connections`. A time to live in the question
    (ZMQ_HEARTBEAT_TTL) would end links after shorter stalls: libzmq cuts it to tenths of a second, and counts it from
    the last question.
    """

    interval_s: float = 0.15
    timeout_s: float = 0.75


_BEATS: Final = Heartbeats()


def role_of(routing: bytes) -> str:
    """Return which of the cluster's keys the sender of a message has, by the routing bytes that came with it."""
    return _ROLES[routing[:1]]


def _options(max_message_bytes: int, heartbeats: Heartbeats) -> dict[int, int]:
    return {
        zmq.SNDHWM: _QUEUED_MESSAGES,
        zmq.RCVHWM: 0,  # what is under way is bounded by credit
        zmq.MAXMSGSIZE: max_message_bytes + _SEALING_BYTES,
        zmq.HANDSHAKE_IVL: _HANDSHAKE_MS,
        zmq.HEARTBEAT_IVL: int(heartbeats.interval_s * 1000),
        zmq.HEARTBEAT_TIMEOUT: int(heartbeats.timeout_s * 1000),
    }


class Hub(HubEnd):
    """The head's end; see `scalepool._net.channel.HubChannel`.

    Parameters
    ----------
    host, port
        Where to listen; with port 0 the system chooses one.
    keys
        The cluster's: the head's own pair with its secret, and the public keys of those who may come.
    max_message_bytes
        A peer that announces more is disconnected.
    heartbeats
        How soon a connection that fell silent is given up.
    on_denied
        See `scalepool._net.zap.Doorkeeper`.

    Attributes
    ----------
    on_noise
        Called in ``poll``, at most every ten seconds, with (how many connections since the last time ended before they
        had shown any key, the address of the last one, empty where unknown).
    has_ended
        Set in ``poll`` when a connection ended that may have been a peer's: who cares finds out whose, and clears it.

    Raises
    ------
    SessionError
        When it cannot listen there, or the door does not keep out who has no key.
    """

    def __init__(
        self, host: str, port: int, keys: ClusterKeys, *, max_message_bytes: int,
        heartbeats: Heartbeats = _BEATS, on_denied: Callable[[int, str], object] | None = None,
    ) -> None:  # fmt: skip
        if not keys.pairs[HEAD].secret:
            raise SessionError("these keys lack the head's secret: they are for joining a cluster, not for heading one")
        super().__init__(zmq.ROUTER, {**_options(max_message_bytes, heartbeats), **_OF_HEADS})
        self.on_noise: Callable[[int, str], object] | None = None
        self.has_ended = False
        self._newcomers = Newcomers()
        self._heartbeats = heartbeats
        self._connections = Connections(*heartbeats)
        self._doorkeeper = Doorkeeper(self._context, keys.roles_by_key())
        try:
            self._socket.ipv6 = ":" in host
            self._socket.router_mandatory = True
            self._socket.zap_domain = DOMAIN
            self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self._socket.curve_server = True
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.pairs[HEAD]
            self._listen(host, port)
            self._knock(keys.pairs[HEAD].public)
            self._doorkeeper.on_denied = on_denied
            self._watch_newcomers()
        except BaseException:
            self.close()
            raise

    def _listen(self, host: str, port: int) -> None:
        try:
            self._socket.bind(join_endpoint(host, port) if port else join_endpoint(host, port)[:-1] + "*")
        except zmq.ZMQError as error:
            raise SessionError(f"cannot listen at {join_endpoint(host, port)}: {why_not_here(error.errno)}") from None
        self.address = str(self._socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")

    def _knock(self, public: bytes) -> None:
        """Come as strangers, before anybody knows the address: nobody may hear us."""
        host, port = split_endpoint(self.address)
        here = join_endpoint({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
        for stranger in (None, KeyPair.generate()):
            refused = _is_refused(here, public, stranger)
            if not refused or not self.safe:  # messages may be there: of those who come back to a head started again
                raise SessionError("the head would let in who has no key of the cluster, so it does not start")

    @property
    def safe(self) -> bool:
        """Whether newcomers are still looked at; when not, nobody gets in, and the head had better end."""
        return self._doorkeeper.running

    def _watch_newcomers(self) -> None:
        self._socket.monitor(_NEWS, _OF_NEWCOMERS)
        self._news = self._context.socket(zmq.PAIR)
        # Where it is full libzmq's thread waits, and with it all links; what is there is taken in each poll.
        self._news.rcvhwm = 0
        self._news.connect(_NEWS)
        self._sockets.append(self._news)
        self._poll_set.append((self._news, _POLLIN))

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether a message is there."""
        interval_s = self._heartbeats.interval_s
        message = super().poll(interval_s if timeout_s is None else min(interval_s, timeout_s))
        now_s = monotonic_s()
        self._connections.look(now_s)
        due = self._newcomers.due(now_s)
        if due is not None and self.on_noise is not None:
            self.on_noise(*due)
        return message

    def _take_news(self) -> None:
        for _ in range(_NEWS_AT_ONCE):
            event, value = _next_event(self._news, 0)
            if event is None:
                return
            if event == zmq.EVENT_ACCEPTED:
                self._newcomers.accepted(value, _address_of(value))
            elif event == zmq.EVENT_DISCONNECTED:
                self.has_ended = self._newcomers.ended(value) or self.has_ended
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._newcomers.admitted()
            else:
                self._newcomers.denied()

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing bytes, message) to ``take`` if a message is there; return whether one was."""
        found = self._next()
        if found is None:
            return False
        routing, frame, data = found
        mark = _MARKS.get(str(frame.get("User-Id")))
        if mark is not None:
            if routing not in self._connections:
                self._connections.hold(routing, int(frame.get(_SRCFD)))
            take(mark + routing, data)
        return True

    def fell_silent(self, routing: bytes) -> bool:
        """Whether a peer that is gone was given up as nothing came from it, and has not closed its connection."""
        return self._connections.fell_silent(routing[1:])

    def hold_only(self, links: Collection[bytes]) -> None:
        """Let go of the connections of all others."""
        self._connections.hold_only({link[1:] for link in links})

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one peer; False when it is gone. True says nothing about its arrival."""
        return super().send(routing[1:], data)

    def close(self) -> None:
        """Close the socket; what was not delivered within a second is dropped."""
        if not self.closed and not self._guard.forked:
            self._doorkeeper.close()
            self._socket.disable_monitor()
            self.hold_only(())
        self._close(linger_ms=1000)


_FAILURES: Final = int(
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


_OF_NEWCOMERS: Final = int(
    zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_NEWS: Final = "inproc://scalepool-newcomers"
_NEWS_AT_ONCE: Final = 256
"""Messages come next, however many knock."""


def _address_of(fd: int) -> str:
    """Return the other end's address of a connection that is libzmq's, and may have ended."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            return str(connection.getpeername()[0])
    except (OSError, IndexError, TypeError):
        return ""


def _is_refused(endpoint: str, public: bytes, stranger: KeyPair | None) -> bool:
    """Whether a head turns away who comes with this key, or with none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.ipv6 = True
        if stranger is not None:
            dealer.curve_serverkey = public
            dealer.curve_publickey, dealer.curve_secretkey = stranger
        with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED | _FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED) as news:
            dealer.connect(endpoint)
            return _next_event(news, _KNOCK_TIMEOUT_S)[0] not in (None, int(zmq.EVENT_HANDSHAKE_SUCCEEDED))


def _next_event(news: zmq.Socket[bytes], timeout_s: float) -> tuple[int | None, int]:
    """Return the next event of a monitor, and its value: the descriptor, where it is about one."""
    if not news.poll(int(timeout_s * 1000)):
        return None, 0
    event = news.recv_multipart()[0]
    return int.from_bytes(event[:2], "little"), int.from_bytes(event[2:6], "little")


class Peer(PeerEnd):
    """A peer's end; see `scalepool._net.channel.PeerChannel`. It connects again by itself when the link is cut.

    Parameters
    ----------
    address
        ``tcp://host:port`` of the head.
    keys
        Own pair with its secret, and the head's public key.
    role
        Whose pair to come with: ``"agent"`` or ``"driver"``.
    timeout_s
        How long to try.

    Attributes
    ----------
    links
        How many times the link has come to be: after the first a new one has to be introduced again.
    connected
        Whether it stands now, as far as is known.

    Raises
    ------
    AuthenticationError
        When the head does not let us in, or has another key.
    SessionError
        When nobody answers.
    """

    def __init__(
        self, address: str, keys: ClusterKeys, role: str, *, max_message_bytes: int,
        timeout_s: float = 10.0, heartbeats: Heartbeats = _BEATS,
    ) -> None:  # fmt: skip
        host, port = split_endpoint(address)
        pair = keys.pairs.get(role)
        if pair is None or not pair.secret:
            raise AuthenticationError(f"these keys have none for a {role}: ask the cluster's owner for a key file")
        super().__init__(zmq.DEALER, _options(max_message_bytes, heartbeats))
        self.links = 0
        self.connected = False
        try:
            self._socket.ipv6 = True  # a name may have either sort of address
            self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
            self._socket.curve_serverkey = keys.pairs[HEAD].public
            self._socket.curve_publickey, self._socket.curve_secretkey = pair
            self._news = self._socket.get_monitor_socket(
                _FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECTED
            )
            self._sockets.append(self._news)
            self._poll_set.append((self._news, _POLLIN))
            self._socket.connect(join_endpoint(host, port))
            self._await_link(address, timeout_s)
        except BaseException:
            self._close(linger_ms=0)
            raise

    def _await_link(self, address: str, timeout_s: float) -> None:
        deadline = monotonic_s() + timeout_s
        answered = 0
        while not self.links:
            event, _ = _next_event(self._news, max(0.0, deadline - monotonic_s()))
            if event is None or answered > _TRIES:
                if answered:
                    raise AuthenticationError(
                        f"what listens at {address} is not the head that the key file belongs to: it is another "
                        "cluster's, or none of scalepool"
                    )
                raise SessionError(why_nobody_answers(address, timeout_s))
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise AuthenticationError(
                    f"the head at {address} does not know our key: take the key file of that cluster"
                )
            answered += event == zmq.EVENT_CONNECTED
            self._note(event)

    def _note(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.links += 1
            self.connected = True
        elif event == zmq.EVENT_DISCONNECTED:
            self.connected = False

    def look(self) -> None:
        """Find out what has become of the link, without waiting."""
        self._take_news()

    def _take_news(self) -> None:
        while (event := _next_event(self._news, 0)[0]) is not None:
            self._note(event)

    def send(self, data: bytes) -> None:
        """Send to the head; without a link, or where too much waits, it is dropped, and the other side misses it."""
        try:
            super().send(data)
        except zmq.Again:
            # A link that has just come to be is only seen when the socket is looked at.
            self._socket.getsockopt(zmq.EVENTS)
            with contextlib.suppress(zmq.Again):
                super().send(data)

    def watch(self, fd: int) -> None:
        """Have ``poll`` return, too, when this descriptor is readable."""
        self._poll_set.append((fd, _POLLIN))

    def unwatch(self, fd: int) -> None:
        """The reverse of ``watch``."""
        self._poll_set.remove((fd, _POLLIN))

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds; without a link at once."""
        self._close(linger_ms=2000 if self.connected else 0)
