"""Descriptors passed from hand to hand, where processes may not look into each other's /proc entries.

There the driver's process has a socket in the session's directory, see ``handover_host``, and every other process a
connection to it, which it opens when it first needs one. Who makes a segment *deposits* its descriptor before anybody
hears of the object; who wants to read it *fetches* one, by the object's number. What a process has deposited lies in
the socket's queue at the latest, so it outlives that process, and neither side ever waits for the maker of an object:
it may be in a task that does not let its other threads run.

Each request is one packet: a byte that says what it is, and a number; a deposit carries its descriptor along. The first
packet is the session's key. Only a fetch is answered: 0 and a descriptor, or an error's number.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import threading
import time

from scalepool._store.files import SegmentLost, SegmentRef, check_stamp, open_segment
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Deposits(Protocol):
        """Where descriptors are left for others."""

        def deposit(self, number: int, fd: int) -> None:
            """Let others fetch this descriptor; it stays the caller's, who keeps it open until it is withdrawn."""

        def withdraw(self, number: int) -> None:
            """Nobody need be able to fetch it any more."""

        def close(self) -> None:
            """Let go of everything."""

    class Handover(Deposits, Protocol):
        """Either end."""

        def fetch(self, number: int) -> int:
            """Return a new descriptor of what was deposited under this number; raises OSError."""

        def open(self, ref: SegmentRef) -> int:
            """Return a new descriptor of an object's segment; see ``files.open_segment``."""


__all__ = [
    "ANSWER",
    "DEPOSIT",
    "FETCH",
    "KEY_BYTES",
    "REQUEST",
    "WITHDRAW",
    "HandoverPeer",
    "opened",
    "receive_fd",
    "send_fd",
]

REQUEST = struct.Struct("<Bq")
ANSWER = struct.Struct("<i")
DEPOSIT, WITHDRAW, FETCH = 1, 2, 3
KEY_BYTES = 16

_BUSY = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
"""So many descriptors are on their way that the system takes no more for the moment."""
_RETRY_S = 0.002
_PATIENCE_S = 10.0
_FD_BYTES = array.array("i").itemsize


def send_fd(connection: socket.socket, data: bytes, fd: int) -> None:
    """Send a packet with a descriptor; raises OSError."""
    rights = array.array("i", [fd])
    connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive_fd(connection: socket.socket, size_bytes: int) -> tuple[bytes, int]:
    """Return a packet and the descriptor that came with it, -1 for none; raises OSError."""
    data, ancillary, _, _ = connection.recvmsg(size_bytes, socket.CMSG_SPACE(_FD_BYTES), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(rights[: len(rights) // _FD_BYTES * _FD_BYTES])
    return data, fds[0] if fds else -1


def opened(ref: SegmentRef, fetch: int | OSError) -> int:
    """Return a descriptor that was fetched, if it is the segment of that object; it is closed if not.

    Raises
    ------
    StoreError
        It is not, or was not to be had.
    """
    if isinstance(fetch, OSError):
        start = f"object {ref.object_id} ({ref.size_bytes} bytes) cannot be reached"
        if fetch.errno == errno.ENOENT:
            raise SegmentLost(ref.object_id, f"{start}: nobody holds it any more") from fetch
        raise StoreError(f"{start}: {fetch}") from fetch
    return check_stamp(fetch, ref)


class HandoverPeer:
    """The end of a process other than the driver's. Thread-safe, and in a forked child, too.

    Parameters
    ----------
    path
        The driver's socket.
    key
        What the session's processes know.
    """

    def __init__(self, path: str, key: bytes) -> None:
        self._path = path
        self._key = key
        self._lock = threading.RLock()  # reentrant: the collector may run user code that frees objects
        self._connection: socket.socket | None = None
        self._pid = 0

    def deposit(self, number: int, fd: int) -> None:
        """See `Handover`.

        Raises
        ------
        StoreError
            The driver is gone, or the system lets no more descriptors be on their way.
        """
        try:
            with self._lock:
                self._send(REQUEST.pack(DEPOSIT, number), fd)
        except OSError as error:
            raise StoreError(f"a descriptor could not be passed on: {error}") from error

    def withdraw(self, number: int) -> None:
        """See `Handover`."""
        try:
            with self._lock:
                if self._connection is not None:
                    self._send(REQUEST.pack(WITHDRAW, number))
        except OSError:
            return  # the driver is gone, and what it held with it

    def fetch(self, number: int) -> int:
        """See `Handover`."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with self._lock:
                code, fd = self._ask(REQUEST.pack(FETCH, number))
            if fd >= 0:
                return fd
            if code not in _BUSY or time.monotonic() > deadline:
                # None came though one was sent: there was no number left for it here.
                raise OSError(code or errno.EMFILE, os.strerror(code or errno.EMFILE))
            time.sleep(_RETRY_S)

    def open(self, ref: SegmentRef) -> int:
        """See `Handover`."""
        if ref.pid == os.getpid():
            return open_segment(ref)
        try:
            fd = self.fetch(ref.object_id)
        except OSError as error:
            return opened(ref, error)
        return opened(ref, fd)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, request: bytes) -> tuple[int, int]:
        connection = self._connect()
        try:
            connection.send(request)
            data, fd = receive_fd(connection, ANSWER.size)
        except BaseException:  # of a signal's handler, too: the answer would be taken for that of the next request
            self.close()
            raise
        if len(data) != ANSWER.size:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, "the session has ended")
        return ANSWER.unpack(data)[0], fd

    def _send(self, request: bytes, fd: int = -1) -> None:
        connection = self._connect()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if fd < 0:
                    connection.send(request)
                else:
                    send_fd(connection, request, fd)
            except OSError as error:
                if error.errno not in _BUSY or time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    def _connect(self) -> socket.socket:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(self._path)
            connection.send(self._key)
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, os.getpid()
        return connection
