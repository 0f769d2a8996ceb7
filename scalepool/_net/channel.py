"""The two ends of a ZeroMQ link, each with a way to wake whoever waits on it.

A channel is not thread-safe: its pump lets one thread at a time touch it. ``wake`` alone may be called from any thread.

Facts of libzmq that the code rests on (all measured): a ROUTER at its high-water mark drops silently, so there is none
and the hub bounds what is in flight by credit; a message to a peer that is gone is dropped silently unless
ROUTER_MANDATORY is set; an undelivered message makes ``term`` hang unless linger is set; ``bind`` deletes whatever file
is at its path, so the path must be fresh; a socket used after a fork swallows what is sent, so every use is guarded by
the process id.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import zmq

from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HubChannel", "PeerChannel"]

# As plain integers: the enum members cost microseconds in each operation on them.
_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_SNDMORE: Final = int(zmq.SNDMORE)
_ZERO_COPY_BYTES: Final = 65_536
"""Below this size copying a message is cheaper than tracking its buffer."""
_MAX_PATH: Final = 107
"""Longest path of a Unix socket on Linux."""


_forks = 0
"""Forks between the start of this program and this process. Asking for the process id is a system call each time."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one number per process, as there is one fork history
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class _Channel:
    """What both ends share."""

    def __init__(self, kind: int, *, max_message_bytes: int) -> None:
        self._forks = _forks
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(kind)
        self._socket.linger = 0
        self._socket.sndhwm = 0
        self._socket.rcvhwm = 0
        self._socket.maxmsgsize = max_message_bytes
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if hasattr(os, "eventfd") else -1
        self._pipe = (-1, -1)
        if self._waker < 0:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        self._wake_fd = self._waker if self._waker >= 0 else self._pipe[0]
        self._poll_set: list[Any] = [(self._socket, _POLLIN), (self._wake_fd, _POLLIN)]

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether a message is there."""
        self._check_process()
        timeout_ms = -1 if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
        ready = zmq.zmq_poll(self._poll_set, timeout_ms)
        message = False
        for source, _ in ready:
            if source is self._socket:
                message = True
            else:
                self._drain_waker()
        return message

    def wake(self) -> None:
        """Make a running or the next ``poll`` return; from any thread."""
        try:
            if self._waker >= 0:
                os.eventfd_write(self._waker, 1)
            else:
                os.write(self._pipe[1], b"\0")
        except BlockingIOError:
            pass  # full: it will wake anyway
        except OSError:
            if not self.closed:
                raise

    @property
    def closed(self) -> bool:
        """Whether the channel was closed."""
        return bool(self._socket.closed)

    def close(self) -> None:
        """Close the socket; what was not delivered within a second is dropped."""
        if self.closed or self._forks != _forks:
            return
        self._context.destroy(linger=1000)
        for fd in (self._waker, *self._pipe):
            if fd >= 0:
                os.close(fd)

    def _drain_waker(self) -> None:
        try:
            if self._waker >= 0:
                os.eventfd_read(self._waker)
            else:
                os.read(self._wake_fd, 4096)
        except BlockingIOError:
            pass  # another wake-up was taken together with this one

    def _check_process(self) -> None:
        if self._forks != _forks:
            raise SessionError("this scalepool session belongs to the parent process; make a new pool after the fork")


class HubChannel(_Channel):
    """The hub's end: many peers behind one socket.

    Parameters
    ----------
    path
        Where to put the Unix socket. The file must not exist and its directory must be the user's own.
    max_message_bytes
        A peer that announces more is disconnected.
    """

    def __init__(self, path: str, *, max_message_bytes: int) -> None:
        if len(os.fsencode(path)) > _MAX_PATH:
            raise SessionError(
                f"the socket path {path!r} is longer than {_MAX_PATH} bytes; set TMPDIR to a shorter folder"
            )
        if os.path.lexists(path):
            raise SessionError(f"refusing to replace {path!r}")
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
        self._check_process()
        try:
            self._socket.send(routing, _NOBLOCK | _SNDMORE)
            self._socket.send(data, _NOBLOCK, copy=len(data) < _ZERO_COPY_BYTES)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True


class PeerChannel(_Channel):
    """A peer's end: one hub."""

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
        self._check_process()
        self._socket.send(data, _NOBLOCK, copy=len(data) < _ZERO_COPY_BYTES)

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds."""
        self._context.destroy(linger=2000)
