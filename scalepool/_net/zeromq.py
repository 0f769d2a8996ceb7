"""Channels over ZeroMQ: a ROUTER at the hub, a DEALER at each peer. Here over Unix sockets, in `curve` over TCP.

Facts of libzmq that the code rests on (all measured): a ROUTER at its high-water mark drops silently, so there is none
and the hub bounds what is in flight by credit; a message to a peer that is gone is dropped silently unless
ROUTER_MANDATORY is set; an undelivered message makes ``term`` hang unless linger is set; ``bind`` deletes whatever file
is at its path, so the path must be fresh; a socket used after a fork swallows what is sent, so every use is guarded by
the process id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import zmq

from scalepool._net.paths import check_socket_path
from scalepool._net.waker import Wakeable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Channel", "Hub", "HubEnd", "Peer", "PeerEnd"]

# As plain integers: the enum members cost microseconds in each operation on them.
_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_SNDMORE: Final = int(zmq.SNDMORE)
_ZERO_COPY_BYTES: Final = 65_536
"""Below this size copying a message is cheaper than tracking its buffer."""


class Channel(Wakeable):
    """What both ends share, whatever they are connected by.

    Parameters
    ----------
    kind
        Of socket.
    options
        Set before it is bound or connected.
    """

    def __init__(self, kind: int, options: Mapping[int, int]) -> None:
        super().__init__()
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(kind)
        self._sockets: list[zmq.Socket[bytes]] = [self._socket]
        """To be closed one by one: a context that is left to do it complains, and one that has any open never ends."""
        for option, value in {zmq.LINGER: 0, **options}.items():
            self._socket.setsockopt(option, value)
        self._poll_set: list[Any] = [(self._socket, _POLLIN), (self._waker.fd, _POLLIN)]

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether a message is there."""
        self._guard.check()
        timeout_ms = -1 if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
        message = False
        for source, _ in zmq.zmq_poll(self._poll_set, timeout_ms):
            if source is self._socket:
                message = True
            elif source == self._waker.fd:
                self._waker.drain()
            elif not isinstance(source, int):
                self._take_news()
        return message

    def _take_news(self) -> None:
        """Another socket of the poll set is readable: what is known of connections."""

    def close(self) -> None:
        """Close the socket; what was not delivered within a second is dropped."""
        self._close(linger_ms=1000)

    def _close(self, *, linger_ms: int) -> None:
        if not self.closed and not self._guard.forked:
            for socket in self._sockets:
                socket.close(linger=linger_ms)
            self._context.term()
            self._waker.close()


class HubEnd(Channel):
    """A ROUTER; see `scalepool._net.channel.HubChannel`."""

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one peer; False when it is gone. True says nothing about its arrival."""
        self._guard.check()
        try:
            self._socket.send(routing, _NOBLOCK | _SNDMORE)
            self._socket.send(data, _NOBLOCK, copy=len(data) < _ZERO_COPY_BYTES)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def _next(self) -> tuple[bytes, zmq.Frame, bytes] | None:
        """Return the routing bytes of the next message, its first frame and what it says; None when there is none."""
        try:
            routing = self._socket.recv(_NOBLOCK)
        except zmq.Again:
            return None
        first = frame = self._socket.recv(_NOBLOCK, copy=False)
        data = frame.bytes
        while frame.more:  # no peer of ours sends more than one frame: such a message is nobody's
            frame = self._socket.recv(_NOBLOCK, copy=False)
            data = b""
        return routing, first, data


class PeerEnd(Channel):
    """A DEALER; see `scalepool._net.channel.PeerChannel`."""

    def receive_into(self, take: Callable[[bytes], None]) -> bool:
        """Hand a message to ``take`` if one is there; return whether one was."""
        try:
            data = self._socket.recv(_NOBLOCK)
        except zmq.Again:
            return False
        take(data)
        return True

    def send(self, data: bytes) -> None:
        """Send to the hub."""
        self._guard.check()
        self._socket.send(data, _NOBLOCK, copy=len(data) < _ZERO_COPY_BYTES)

    @property
    def unsent_bytes(self) -> int:
        """Not known here."""
        return 0

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds."""
        self._close(linger_ms=2000)


def _options(max_message_bytes: int) -> dict[int, int]:
    return {zmq.SNDHWM: 0, zmq.RCVHWM: 0, zmq.MAXMSGSIZE: max_message_bytes}


class Hub(HubEnd):
    """The hub's end; see `scalepool._net.channel.HubChannel`.

    Parameters
    ----------
    path
        Where to put the Unix socket. The file must not exist and its directory must be the user's own.
    max_message_bytes
        A peer that announces more is disconnected.
    """

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        check_socket_path(path)
        super().__init__(zmq.ROUTER, _options(max_message_bytes))
        self._socket.router_mandatory = True
        self._socket.bind(f"ipc://{path}")

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) to ``take`` if a message is there; return whether one was."""
        found = self._next()
        if found is None:
            return False
        take(found[0], found[2])
        return True


class Peer(PeerEnd):
    """A peer's end; see `scalepool._net.channel.PeerChannel`."""

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        super().__init__(zmq.DEALER, _options(max_message_bytes))
        self._socket.connect(f"ipc://{path}")
