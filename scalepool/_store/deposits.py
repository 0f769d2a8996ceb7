"""Descriptors of workers' objects, left with the driver: what a worker has made outlives it from the first moment on.

The driver keeps a descriptor of every object of which a message tells. But a worker may be gone when the message is
read, killed by its next task, say, while the driver was busy; and before there is a message, its flight record tells
of the object. So whoever makes a segment sends a descriptor of it over a socket of its own, at once and without
waiting for anybody: from then on it lies in the socket's queue, which belongs to the driver. The driver looks there
only when it is told of an object, so it needs no thread for that. (Where processes may not open each other's
descriptors, ``handover`` passes them on, and does the same.)

It is a help and no promise: a queue that is full takes no more, and where the driver is told in time it can do without.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading

from scalepool._base.credentials import is_ours, listening
from scalepool._base.ids import peer_of
from scalepool._store.files import check_stamp, open_segment
from scalepool._store.handover import receive_fd, send_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scalepool._store.files import SegmentRef

__all__ = ["DepositBox", "Depositor"]

_NUMBER = struct.Struct("<q")
_QUEUE_BYTES = 32_768
"""What a worker's queue may take of the kernel's memory: some dozens of descriptors. The system counts those of a user
that are on their way."""
_NOTHING, _THE_END = -1, -2
_PASSED_OVER = 64
"""Descriptors that are kept of objects of which nobody has told yet."""


class Depositor:
    """A worker's end. Thread-safe; a forked child has none.

    Parameters
    ----------
    path
        The driver's socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()
        self._lock = threading.RLock()  # reentrant: the collector may run user code that makes objects
        self._connection: socket.socket | None = None
        self._gone = False

    def deposit(self, number: int, fd: int) -> None:
        """Leave a descriptor with the driver if that can be done at once."""
        with contextlib.suppress(OSError), self._lock:
            connection = self._connection or self._connect()
            if connection is not None:
                send_fd(connection, _NUMBER.pack(number), fd)

    def withdraw(self, number: int) -> None:
        """Do nothing: who frees an object was told to, by a driver that has it."""

    def close(self) -> None:
        """Close the connection; what was left with the driver stays there."""
        self._gone = True
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> socket.socket | None:
        if self._gone or os.getpid() != self._pid:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
            connection.setblocking(False)
            connection.connect(self._path)
        except BlockingIOError:  # too many are connecting at this moment
            connection.close()
            return None
        except OSError:
            connection.close()
            self._gone = True
            return None
        self._connection = connection
        return connection


class DepositBox:
    """The driver's end. To be used by one thread at a time.

    Parameters
    ----------
    path
        Where to listen; there must be nothing.

    Raises
    ------
    OSError
        No socket can be made there.
    """

    def __init__(self, path: str) -> None:
        self._unknown: list[socket.socket] = []
        self._connections: dict[int, socket.socket] = {}
        self._passed_over: dict[int, int] = {}
        self._listener = listening(path, socket.SOCK_SEQPACKET)

    def claim(self, ref: SegmentRef) -> int:
        """Return a descriptor of an object's segment, the caller's from now on: the one left here, or a new one.

        Raises
        ------
        StoreError
            None was left, and its maker is gone; or the segment holds something else.
        """
        fd = self._take(ref.object_id)
        return open_segment(ref) if fd is None else check_stamp(fd, ref)

    def forget(self, peer: int) -> None:
        """A worker is gone: what it left here and nobody has claimed goes, too."""
        for number in [number for number in self._passed_over if peer_of(number) == peer]:
            os.close(self._passed_over.pop(number))
        connection = self._connections.pop(peer, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Let go of everything."""
        for connection in (*self._unknown, *self._connections.values(), self._listener):
            connection.close()
        for fd in self._passed_over.values():
            os.close(fd)
        self._unknown.clear()
        self._connections.clear()
        self._passed_over.clear()

    def _take(self, number: int) -> int | None:
        found = self._passed_over.pop(number, None)
        if found is not None:
            return found
        peer = peer_of(number)
        if peer not in self._connections:
            self._look_for_new_ones()
            found = self._passed_over.pop(number, None)
            if found is not None:
                return found
        connection = self._connections.get(peer)
        while connection is not None:
            got, fd = self._receive(connection)
            if got == number:
                return fd if fd >= 0 else None
            if got in (_NOTHING, _THE_END):
                return None
            self._pass_over(got, fd)
        return None

    def _look_for_new_ones(self) -> None:
        """Let in who has connected; the first that each has left says who it is."""
        with contextlib.suppress(OSError):  # no more of them, or no descriptor is left
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                if is_ours(connection):
                    self._unknown.append(connection)
                else:
                    connection.close()
        waiting, self._unknown = self._unknown, []
        for connection in waiting:
            number, fd = self._receive(connection)
            if number == _NOTHING:
                self._unknown.append(connection)
                continue
            if number == _THE_END:
                connection.close()
                continue
            former = self._connections.get(peer_of(number))
            if former is not None:
                former.close()
            self._connections[peer_of(number)] = connection
            self._pass_over(number, fd)

    def _receive(self, connection: socket.socket) -> tuple[int, int]:
        """Return what was left next: its number, and the descriptor; -1 where there was no room for that here."""
        try:
            data, fd = receive_fd(connection, _NUMBER.size)
        except BlockingIOError:
            return _NOTHING, -1
        except OSError:
            return _THE_END, -1
        if len(data) == _NUMBER.size:
            return int(_NUMBER.unpack(data)[0]), fd
        if fd >= 0:
            os.close(fd)
        return _THE_END, -1

    def _pass_over(self, number: int, fd: int) -> None:
        if fd < 0:
            return
        self._passed_over[number] = fd
        if len(self._passed_over) > _PASSED_OVER:
            os.close(self._passed_over.pop(next(iter(self._passed_over))))
