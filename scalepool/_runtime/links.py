"""Which routing id of the hub's socket is which peer; a stranger is nobody until its Hello is valid."""

from __future__ import annotations

# Where hmac has it from; that would load OpenSSL (3 ms, 1 MB).
from _operator import _compare_digest as compare_digest
from typing import TYPE_CHECKING

from scalepool._wire import messages as m
from scalepool._wire.codec import encode
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._net.channel import HubChannel

__all__ = ["PeerLinks"]


class PeerLinks:
    """The peers behind one socket.

    Parameters
    ----------
    channel
        The socket.
    token
        What a worker of this session says in its Hello.
    """

    __slots__ = ("_channel", "_peers", "_routes", "_token")

    def __init__(self, channel: HubChannel, token: bytes) -> None:
        self._channel = channel
        self._token = token
        self._routes: dict[bytes, int] = {}
        self._peers: dict[int, bytes] = {}

    def peer_of(self, routing: bytes, message: m.Message) -> int:
        """Return who sent ``message``.

        Raises
        ------
        ProtocolError
            When it is the first from there and not a valid Hello.
        """
        peer = self._routes.get(routing)
        return self._introduce(routing, message) if peer is None else peer

    def find(self, routing: bytes) -> int | None:
        """Return who is behind a routing id, if that is known."""
        return self._routes.get(routing)

    def send_encoded(self, peer: int, data: bytes) -> None:
        """As ``send``, for a message that is bytes already."""
        routing = self._peers.get(peer)
        if routing is not None:
            self._channel.send(routing, data)

    def _introduce(self, routing: bytes, message: m.Message) -> int:
        if type(message) is not m.Hello or not compare_digest(message.token, self._token):
            raise ProtocolError("the first message of a peer was not a valid Hello")
        if message.version != m.WIRE_VERSION:
            raise ProtocolError(f"a worker speaks version {message.version} of the protocol, not {m.WIRE_VERSION}")
        self._routes[routing] = message.worker
        self._peers[message.worker] = routing
        return message.worker

    def send(self, peer: int, message: m.Message) -> None:
        """Send to a peer; to one that is gone this does nothing, as the run table knows what it held."""
        routing = self._peers.get(peer)
        if routing is not None:
            self._channel.send(routing, encode(message))

    def forget(self, peer: int) -> None:
        """The peer is gone; what still comes from there is a stranger's."""
        routing = self._peers.pop(peer, None)
        if routing is not None:
            self._routes.pop(routing, None)
