"""Serving large data to other hosts: a listener of its own, and a thread for each link that came in over it.

Who connects shows a certificate of the cluster and then the ticket of a session, which its driver has given to the
hosts of that session over the link to the head: so nobody gets objects of a session that is not his. After that he
names an object and how much of it he has; the rest is sent, even while it is still coming in here.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, Protocol

from scalepool._base.clock import monotonic_s
from scalepool._net.addresses import join_endpoint
from scalepool._net.tls import listen
from scalepool._store.files import SegmentRef, check_stamp
from scalepool.errors import AuthenticationError, StoreError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from scalepool._net.tls import SecureLinks
    from scalepool._store.incoming import Filled

__all__ = ["GONE", "HELLO", "PIECE", "PIECE_BYTES", "REQUEST", "TICKET_BYTES", "WAIT", "BulkServer", "Shelf", "cut"]

HELLO: Final = b"scalepool-bulk-1"
"""What a link begins with, followed by the session's ticket; the numbers below are of this version."""
TICKET_BYTES: Final = 32
REQUEST: Final = struct.Struct("<qqq")
"""Object, how many bytes of it the other side has, its size."""
PIECE: Final = struct.Struct("<q")
"""How many bytes follow, or one of these."""
GONE: Final = 0
WAIT: Final = -1
"""The rest is not here yet, but comes."""
PIECE_BYTES: Final = 1 << 20

_HANDSHAKE_S: Final = 5.0
_IDLE_S: Final = 60.0
"""Longer than the other side keeps a link that it does not use."""
_STALL_S: Final = 30.0
_BEAT_S: Final = 1.0
_MOST_STRANGERS: Final = 16
"""Links that have not shown who they are; each costs a thread and some tens of KiB, for five seconds."""
_MOST_LINKS: Final = 256
_TELL_EVERY_S: Final = 10.0
_JOIN_S: Final = 2.0


class Shelf(Protocol):
    """Where a session's objects are."""

    def take(self, object_id: int) -> tuple[int, Filled | None] | None:
        """Return a new descriptor of an object, and how much of it is there where it is not whole; else ``None``."""


class BulkServer:
    """Listens, and serves who may come. All public methods may be called from any thread.

    Parameters
    ----------
    links
        With the certificate to show.
    host
        The address to listen at.
    ports
        Which to try; 0 stands for any.
    tell
        Called with what a person may want to know.

    Raises
    ------
    SessionError
        None of the ports is free.
    """

    def __init__(self, links: SecureLinks, host: str, ports: Sequence[int], tell: Callable[[str], object]) -> None:
        self._links = links
        self._tell = tell
        self._shelves: dict[bytes, Shelf] = {}
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._strangers = 0
        self._denied = 0
        self._told_at = float("-inf")
        self._closed = False
        self._listener = listen(host, ports)
        self.address = join_endpoint(*self._listener.getsockname()[:2])
        self._thread = threading.Thread(target=self._accept, name="scalepool-bulk-listen", daemon=True)
        self._thread.start()

    def admit(self, ticket: bytes, shelf: Shelf) -> None:
        """Serve a session's objects to who has its ticket."""
        self._shelves[ticket] = shelf

    def dismiss(self, ticket: bytes) -> None:
        """The session is over."""
        self._shelves.pop(ticket, None)

    def close(self) -> None:
        """Stop listening, cut all links and end their threads."""
        with self._lock:
            self._closed = True
            running = dict(self._open)
        cut(self._listener)
        self._listener.close()
        for link in running:
            cut(link)
        for thread in (self._thread, *running.values()):
            if thread.ident is not None:
                thread.join(_JOIN_S)

    def forked(self) -> None:
        """Be told that this process is a child of the one that listens: let go of the sockets, without a word."""
        self._closed = True
        for one in (self._listener, *self._open):
            one.close()

    # ---- in the listener's thread ----

    def _accept(self) -> None:
        while not self._is_over():
            try:
                raw, address = self._listener.accept()
            except OSError:
                if self._is_over():
                    return
                threading.Event().wait(_BEAT_S)  # no descriptors are left: those in use end some time
                continue
            if self._is_full():
                raw.close()
                self._deny("there are too many at once", str(address[0]))
                continue
            self._begin(raw, str(address[0]))

    def _is_over(self) -> bool:
        return self._closed  # set in another thread

    def _is_full(self) -> bool:
        return self._strangers >= _MOST_STRANGERS or len(self._open) >= _MOST_LINKS

    def _begin(self, raw: socket.socket, host: str) -> None:
        thread = threading.Thread(target=self._attend, args=(raw, host), name="scalepool-bulk-serve", daemon=True)
        with self._lock:
            if self._closed:
                raw.close()
                return
            self._strangers += 1
            self._open[raw] = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads
            with self._lock:
                self._strangers -= 1
                del self._open[raw]
            raw.close()

    def _deny(self, reason: str, host: str) -> None:
        """Say that somebody was turned away: at most every ten seconds, with their number."""
        with self._lock:
            self._denied += 1
            now = monotonic_s()
            if now < self._told_at + _TELL_EVERY_S:
                return
            count, self._denied, self._told_at = self._denied, 0, now
        self._tell(f"{count} refused where large data is served, the last from {host}: {reason}")

    # ---- in a link's thread ----

    def _attend(self, raw: socket.socket, host: str) -> None:
        known = raw
        try:
            try:
                link = self._links.accept(raw, _HANDSHAKE_S)
                self._swap(raw, known := link)
                shelf = self._shelf_of(link)
            finally:
                with self._lock:
                    self._strangers -= 1
            self._serve(link, shelf)
        except AuthenticationError as error:
            self._deny(str(error), host)
        except OSError:
            pass  # it left, or fell silent
        finally:
            with self._lock:
                self._open.pop(known, None)
                self._open.pop(raw, None)
            known.close()

    def _swap(self, raw: socket.socket, link: socket.socket) -> None:
        with self._lock:
            self._open[link] = self._open.pop(raw)
            if self._closed:
                raise ConnectionAbortedError

    def _shelf_of(self, link: ssl.SSLSocket) -> Shelf:
        hello = _receive(link, len(HELLO) + TICKET_BYTES)
        ticket = hello[len(HELLO) :]
        found = [shelf for own, shelf in list(self._shelves.items()) if hmac.compare_digest(own, ticket)]
        if not hello.startswith(HELLO) or not found:
            raise AuthenticationError("it has no ticket of a session here")
        return found[0]

    def _serve(self, link: ssl.SSLSocket, shelf: Shelf) -> None:
        room = memoryview(bytearray(PIECE.size + PIECE_BYTES))
        while not self._is_over():
            link.settimeout(_IDLE_S)
            object_id, at, size_bytes = REQUEST.unpack(_receive(link, REQUEST.size))
            link.settimeout(_STALL_S)
            try:
                found = shelf.take(object_id)
            except OSError:
                found = None  # no descriptor is left: it has to come from elsewhere
            if found is None or not 0 <= at < size_bytes:
                link.sendall(PIECE.pack(GONE))
                continue
            fd, filled = found
            try:
                _send(link, SegmentRef(object_id, 0, fd, size_bytes), at, filled, room)
            finally:
                os.close(fd)


def _send(link: ssl.SSLSocket, ref: SegmentRef, at: int, filled: Filled | None, room: memoryview) -> None:
    """Send an object from ``at`` on."""
    size_bytes = ref.size_bytes if filled is None else filled.size_bytes
    while at < size_bytes:
        there = size_bytes if filled is None else filled.wait_beyond(at, _BEAT_S)
        count = min(there - at, PIECE_BYTES)
        if there < 0 or size_bytes != ref.size_bytes:
            link.sendall(PIECE.pack(GONE))
            return
        if count <= 0:
            link.sendall(PIECE.pack(WAIT))
            continue
        piece = room[: PIECE.size + count]
        # Read, not mapped: a file that is cut short meanwhile must not kill the process. It costs a tenth of sealing.
        is_there = os.preadv(ref.fd, [piece[PIECE.size :]], at) == count
        if not is_there or (filled is None and at + count == size_bytes and not _is_sound(ref)):
            link.sendall(PIECE.pack(GONE))
            return
        PIECE.pack_into(piece, 0, count)
        link.sendall(piece)
        at += count


def _is_sound(ref: SegmentRef) -> bool:
    """Whether a segment still holds the object: it may have been freed meanwhile, and used for another one."""
    fd = os.dup(ref.fd)
    try:
        os.close(check_stamp(fd, ref))
    except StoreError:
        return False
    return True


def _receive(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def cut(link: socket.socket) -> None:
    """End a connection that another thread uses, which notices."""
    with contextlib.suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(link, socket.SHUT_RDWR)  # of TCP: that of TLS is not for two threads at once
