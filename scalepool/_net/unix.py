"""Channels over Unix sockets, for peers on the hub's own host.

Between two processes of one host a message then costs two system calls and wakes one thread. Over ZeroMQ it passes
through a thread of libzmq's at each end: a round trip takes three times as long, and every process carries the library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._base.credentials import is_ours, listening
from scalepool._net.paths import check_socket_path
from scalepool._net.stream import MessageStream
from scalepool._net.waker import Wakeable
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hub", "Peer"]

_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
_CONNECT_TIMEOUT_S: Final = 30.0
"""A hub that accepts nobody for so long is not there any more."""
_CLOSE_TIMEOUT_S: Final = 1.0
_FLUSH_TIMEOUT_S: Final = 2.0
_ACCEPT_AGAIN_S: Final = 0.2
"""Until the hub tries again to accept when it had no descriptor left for that."""


class _Poller:
    """``epoll`` where there is one, else ``poll``; with one unit of time and two kinds of event."""

    def __init__(self) -> None:
        self._epoll = select.epoll(sizehint=16) if hasattr(select, "epoll") else None
        self._poller = self._epoll or select.poll()
        self.add = self._poller.register
        self.change = self._poller.modify
        self.remove = self._poller.unregister

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Wait; return (descriptor, events)."""
        if self._epoll is not None:
            return self._epoll.poll(timeout_s)
        return self._poller.poll(None if timeout_s is None else timeout_s * 1000)

    def fileno(self) -> int:
        """A descriptor that is readable when there are events; -1 where ``epoll`` is not to be had."""
        return self._epoll.fileno() if self._epoll is not None else -1

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


class Hub(Wakeable):
    """The hub's end; see `scalepool._net.channel.HubChannel`."""

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        check_socket_path(path)
        super().__init__()
        self._path = path
        self._max_message_bytes = max_message_bytes
        self._peers: dict[bytes, MessageStream] = {}
        self._routes: dict[int, bytes] = {}
        self._accepted = 0
        self._accept_at: float | None = None
        self._readable: deque[int] = deque()
        self._messages: deque[tuple[bytes, bytes]] = deque()
        try:
            self._listener = listening(path, socket.SOCK_STREAM)
        except BaseException:
            self._waker.close()
            raise
        self._poller = _Poller()
        self._poller.add(self._listener.fileno(), _IN)
        self._poller.add(self._waker.fd, _IN)

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until something arrives, ``wake`` is called, or time is up; return whether something may be there."""
        self._guard.check()
        if self._messages or self._readable:
            return True
        if self._accept_at is not None:
            timeout_s = self._try_to_accept_again(timeout_s)
        routes, readable = self._routes, self._readable
        for fd, events in self._poller.poll(timeout_s):
            if fd in routes:
                if events & _OUT:
                    self._flush(fd)
                if events & ~_OUT:
                    readable.append(fd)
            elif fd == self._waker.fd:
                self._waker.drain()
            elif fd == self._listener.fileno():
                self._accept()
        return bool(readable)

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``poll`` would return at once, for who waits for more than this."""
        return self._poller.fileno()

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) to ``take`` if a message is there; return whether one was."""
        messages = self._messages
        while not messages:
            if not self._readable and not self.poll(0.0):
                return False
            self._read(self._readable.popleft())
        # Taken out first: who takes it may come here again.
        routing, data = messages.popleft()
        take(routing, data)
        return True

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one peer; False when it is gone. True says nothing about its arrival."""
        self._guard.check()
        stream = self._peers.get(routing)
        if stream is None:
            return False
        waited = stream.unsent
        try:
            stream.send(data)
        except OSError:
            # What it sent before it left can still be read: only that ends it.
            return False
        if stream.unsent and not waited:
            self._poller.change(stream.fileno(), _IN | _OUT)
        return True

    def close(self) -> None:
        """Close all sockets; what was not delivered within a second is dropped."""
        if self.closed or self._guard.forked:
            return
        deadline = monotonic_s() + _CLOSE_TIMEOUT_S
        for stream in self._peers.values():
            _flush_until(stream, deadline)
            stream.close()
        self._peers.clear()
        self._routes.clear()
        self._poller.close()
        self._listener.close()
        self._waker.close()
        with contextlib.suppress(FileNotFoundError):  # its directory was removed before
            os.unlink(self._path)  # noqa: PTH108 - pathlib is a heavy import

    def _flush(self, fd: int) -> None:
        try:
            if self._peers[self._routes[fd]].flush():
                self._poller.change(fd, _IN)
        except OSError:
            self._poller.change(fd, _IN)  # gone; what it left is read first

    def _read(self, fd: int) -> None:
        routing = self._routes.get(fd)
        if routing is None:
            return
        try:
            messages = self._peers[routing].receive()
        except ProtocolError:
            messages = None
        if messages is None:
            self._drop(fd, routing)
        elif messages:
            self._messages.extend([(routing, message) for message in messages])

    def _drop(self, fd: int, routing: bytes) -> None:
        self._poller.remove(fd)
        del self._routes[fd]
        self._peers.pop(routing).close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it left before it was its turn
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                # It stays in the queue. Until a descriptor is free, do not be told of it over and over.
                self._poller.remove(self._listener.fileno())
                self._accept_at = monotonic_s() + _ACCEPT_AGAIN_S
                return
            if not is_ours(connection):
                connection.close()
                continue
            self._accepted += 1
            routing = self._accepted.to_bytes(8, "little")
            stream = MessageStream(connection, self._max_message_bytes)
            self._peers[routing] = stream
            self._routes[stream.fileno()] = routing
            self._poller.add(stream.fileno(), _IN)

    def _try_to_accept_again(self, timeout_s: float | None) -> float:
        """Listen again if it is time; return how long to wait at most."""
        left = (self._accept_at or 0.0) - monotonic_s()
        if left <= 0:
            self._accept_at = None
            self._poller.add(self._listener.fileno(), _IN)
            left = _ACCEPT_AGAIN_S
        return left if timeout_s is None else min(timeout_s, left)


class Peer(Wakeable):
    """A peer's end; see `scalepool._net.channel.PeerChannel`.

    Raises
    ------
    OSError
        Nobody listens at ``path``.
    """

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        super().__init__()
        self._messages: deque[bytes] = deque()
        try:
            connection.settimeout(_CONNECT_TIMEOUT_S)
            connection.connect(path)
        except BaseException:
            connection.close()
            self._waker.close()
            raise
        self._stream = MessageStream(connection, max_message_bytes)
        self._fd = self._stream.fileno()
        self._gone = False
        self._watches_out = False
        self._readable = False
        self._poller = _Poller()
        self._poller.add(self._fd, _IN)
        self._poller.add(self._waker.fd, _IN)

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until something arrives, ``wake`` is called, or time is up; return whether something may be there."""
        self._guard.check()
        if self._messages or self._readable:
            return True
        for fd, events in self._poller.poll(timeout_s):
            if fd != self._fd:
                self._waker.drain()
                continue
            if events & _OUT:
                self._flush()
            self._readable = self._readable or bool(events & ~_OUT)
        return self._readable

    def receive_into(self, take: Callable[[bytes], None]) -> bool:
        """Hand a message to ``take`` if one is there; return whether one was."""
        messages = self._messages
        while not messages:
            if not self._readable and not self.poll(0.0):
                return False
            self._readable = False
            found = self._stream.receive()
            if found is None:
                self._hub_is_gone()
                return False
            messages.extend(found)
        take(messages.popleft())
        return True

    def send(self, data: bytes) -> None:
        """Send to the hub; when that is gone this does nothing, as there is nobody left who would wait for it."""
        self._guard.check()
        if self._gone:
            return
        try:
            if self._stream.unsent:
                self._stream.flush()
            self._stream.send(data)
        except OSError:
            return  # what it had sent before is read first; then the end of the stream says that it is gone
        self._watch_out()

    @property
    def unsent_bytes(self) -> int:
        """How much of what was sent the hub has not taken."""
        return 0 if self._gone else self._stream.unsent_bytes

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds."""
        if not self._gone:
            _flush_until(self._stream, monotonic_s() + _FLUSH_TIMEOUT_S)
        self.close()

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        if self.closed or self._guard.forked:
            return
        self._poller.close()
        self._stream.close()
        self._waker.close()

    def _flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._hub_is_gone()
        self._watch_out()

    def _watch_out(self) -> None:
        wanted = self._stream.unsent and not self._gone
        if wanted is not self._watches_out and not self._gone:
            self._watches_out = wanted
            self._poller.change(self._fd, _IN | _OUT if wanted else _IN)

    def _hub_is_gone(self) -> None:
        # A peer without a hub waits: its own host sees to it that it does not do so for ever.
        if not self._gone:
            self._gone = True
            self._poller.remove(self._fd)


def _flush_until(stream: MessageStream, deadline: float) -> None:
    """Send what waits; give up when time is up or the other side is gone."""
    try:
        while not stream.flush() and (left := deadline - monotonic_s()) > 0:
            select.select((), (stream.fileno(),), (), left)
    except OSError:
        pass  # nobody is left who would read it
