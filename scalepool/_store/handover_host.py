"""The driver's end of ``handover``: holds what others have deposited, and gives it to who asks."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading

# Where hmac has it from; that would load OpenSSL (3 ms, 1 MB).
from _operator import _compare_digest as compare_digest

from scalepool._base.credentials import is_ours, listening
from scalepool._base.ids import peer_of
from scalepool._store.files import open_segment
from scalepool._store.handover import ANSWER, DEPOSIT, FETCH, KEY_BYTES, REQUEST, WITHDRAW, opened, receive_fd, send_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._store.files import SegmentRef

__all__ = ["HandoverHost"]

_ACCEPT_AGAIN_S = 0.1
_NO_MORE_FDS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HandoverHost:
    """Listens at a path in the session's directory, in a thread of its own. Thread-safe.

    Parameters
    ----------
    path
        Where; there must be nothing.
    key
        What a process has to say first.

    Raises
    ------
    OSError
        No socket can be made there.
    """

    def __init__(self, path: str, key: bytes) -> None:
        self._key = key
        # Reentrant: the collector may run user code that frees objects.
        self._lock = threading.RLock()
        self._deposits: dict[int, int] = {}
        self._own: dict[int, int] = {}
        self._sources: list[Callable[[int], int | None]] = []
        self._connections: dict[int, tuple[socket.socket, bool]] = {}
        self._closed = False
        self._listener = listening(path, socket.SOCK_SEQPACKET)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller = select.epoll()
        for fd in (self._listener.fileno(), self._wakeup):
            self._poller.register(fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._serve, name="scalepool-handover", daemon=True)
        self._thread.start()

    def serve_from(self, source: Callable[[int], int | None]) -> None:
        """Ask ``source``, too, which returns a new descriptor or ``None``, when something is to be fetched."""
        self._sources.append(source)

    def deposit(self, number: int, fd: int) -> None:
        """See `Handover`."""
        with self._lock:
            self._own[number] = fd

    def withdraw(self, number: int) -> None:
        """See `Handover`."""
        with self._lock:
            self._own.pop(number, None)

    def fetch(self, number: int) -> int:
        """See `Handover`."""
        with self._lock:
            fd = self._own.get(number, self._deposits.get(number))
            if fd is not None:
                return os.dup(fd)
        for source in self._sources:
            found = source(number)
            if found is not None:
                return found
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def open(self, ref: SegmentRef) -> int:
        """See `Handover`."""
        if ref.pid == os.getpid():
            return open_segment(ref)
        try:
            self.take_in()
            fd = self.fetch(ref.object_id)
        except OSError as error:
            return opened(ref, error)
        return opened(ref, fd)

    def claim(self, ref: SegmentRef) -> int:
        """Take over what was deposited for an object: the caller's from now on.

        Raises
        ------
        StoreError
            Nothing was, or it is something else.
        """
        self.take_in()
        with self._lock:
            fd = self._deposits.pop(ref.object_id, None)
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return opened(ref, missing if fd is None else fd)

    def forget(self, peer: int) -> None:
        """A process is gone: what it deposited and nobody has claimed goes, too."""
        self.take_in()
        with self._lock:
            for number in [number for number in self._deposits if peer_of(number) == peer]:
                os.close(self._deposits.pop(number))

    def take_in(self) -> None:
        """Take in what has been sent by now; what was deposited before it was spoken of is then there."""
        while self._look(0.0):
            pass

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        os.eventfd_write(self._wakeup, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        with self._lock:
            for connection, _ in self._connections.values():
                connection.close()
            self._connections.clear()
            for fd in self._deposits.values():
                os.close(fd)
            self._deposits.clear()
            self._own.clear()
            self._listener.close()
            self._poller.close()
            os.close(self._wakeup)

    def _serve(self) -> None:
        while not self._closed:
            self._look(None)

    def _look(self, timeout_s: float | None) -> bool:
        """Wait for something and handle it; False when there was nothing."""
        if timeout_s is None:
            self._poller.poll()  # outside of the lock: then look what is left to do
        with self._lock:
            if self._closed:
                return False
            ready = self._poller.poll(0)
            for fd, _ in ready:
                if fd == self._listener.fileno():
                    self._accept()
                elif fd != self._wakeup:
                    self._receive(fd)
            return bool(ready)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _NO_MORE_FDS:
                return  # it left before it was its turn
            # It stays in the queue. Until a descriptor is free, do not be told of it over and over.
            self._poller.unregister(self._listener.fileno())
            timer = threading.Timer(_ACCEPT_AGAIN_S, self._listen_again)
            timer.daemon = True
            timer.start()
            return
        if not is_ours(connection):
            connection.close()
            return
        connection.setblocking(False)
        self._connections[connection.fileno()] = (connection, False)
        self._poller.register(connection.fileno(), select.EPOLLIN)

    def _listen_again(self) -> None:
        with self._lock:
            if not self._closed:
                self._poller.register(self._listener.fileno(), select.EPOLLIN)

    def _receive(self, fd: int) -> None:
        connection, is_known = self._connections[fd]
        try:
            data, sent = receive_fd(connection, max(KEY_BYTES, REQUEST.size) + 1)
        except BlockingIOError:
            return
        except OSError:
            data, sent = b"", -1
        if not is_known and sent < 0 and compare_digest(data, self._key):
            self._connections[fd] = (connection, True)
        elif not is_known or len(data) != REQUEST.size or not self._obey(connection, data, sent):
            if sent >= 0:
                os.close(sent)
            self._poller.unregister(fd)
            self._connections.pop(fd)[0].close()

    def _obey(self, connection: socket.socket, data: bytes, sent: int) -> bool:
        """Do what a process asks for; False when that makes no sense, or it is gone."""
        kind, number = REQUEST.unpack(data)
        if kind == FETCH:
            return sent < 0 and self._answer(connection, number)
        if kind == DEPOSIT:
            if sent >= 0:  # else there was no number left for it here: who needs it will not find it
                self._close_deposit(number)
                self._deposits[number] = sent
            return True
        if kind == WITHDRAW and sent < 0:
            self._close_deposit(number)
            return True
        return False

    def _close_deposit(self, number: int) -> None:
        fd = self._deposits.pop(number, None)
        if fd is not None:
            os.close(fd)

    def _answer(self, connection: socket.socket, number: int) -> bool:
        try:
            fd = self.fetch(number)
        except OSError as error:
            code = error.errno or errno.EIO
        else:
            try:
                send_fd(connection, ANSWER.pack(0), fd)
                return True
            except OSError as error:
                code = error.errno or errno.EIO
            finally:
                os.close(fd)
        try:
            connection.send(ANSWER.pack(code))
        except OSError:
            return False
        return True
