"""Channels over ZeroMQ: a ROUTER at the hub, a DEALER at each peer.

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
    from collections.abc import Callable

__all__ = ["Hub", "Peer"]

# As plain integers: the enum members cost microseconds in each operation on them.
_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_SNDMORE: Final = int(zmq.SNDMORE)
_ZERO_COPY_BYTES: Final = 65_536
"""Below this size copying a message is cheaper than tracking its buffer."""


class _Channel(Wakeable):
    """What both ends share."""

    def __init__(self, kind: int, *, max_message_bytes: int) -> None:
        super().__init__()
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(kind)
        self._socket.linger = 0
        self._socket.sndhwm = 0
        self._socket.rcvhwm = 0
        self._socket.maxmsgsize = max_message_bytes
        self._poll_set: list[Any] = [(self._socket, _POLLIN), (self._waker.fd, _POLLIN)]

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether a message is there."""
        self._guard.check()
        timeout_ms = -1 if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
        ready = zmq.zmq_poll(self._poll_set, timeout_ms)
        message = False
        for source, _ in ready:
            if source is self._socket:
                message = True
            else:
                self._waker.drain()
        return message

    def close(self) -> None:
        """Close the socket; what was not delivered within a second is dropped."""
        self._close(linger_ms=1000)

    def _close(self, *, linger_ms: int) -> None:
        if not self.closed and not self._guard.forked:
            self._context.destroy(linger=linger_ms)
            self._waker.close()


class Hub(_Channel):
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
        super().__init__(zmq.ROUTER, max_message_bytes=max_message_bytes)
        self._socket.router_mandatory = True
        self._socket.bind(f"ipc://{path}")

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) to ``take`` if a message is there; return whether one was."""
        try:
            routing = self._socket.recv(_NOBLOCK)
        except zmq.Again:
            return False
        frame = self._socket.recv(_NOBLOCK, copy=False)
        data = frame.bytes
        while frame.more:  # no peer of ours sends more than one frame: such a message is nobody's
            frame = self._socket.recv(_NOBLOCK, copy=False)
            data = b""
        take(routing, data)
        return True

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


class Peer(_Channel):
    """A peer's end; see `scalepool._net.channel.PeerChannel`."""

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        super().__init__(zmq.DEALER, max_message_bytes=max_message_bytes)
        self._socket.connect(f"ipc://{path}")

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

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds."""
        self._close(linger_ms=2000)
