"""Fetching large data from other hosts: a link and a thread for each of them, while there is something to fetch."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.sources import BROKEN, GIVEN_UP, HERE, UNREACHABLE
from scalepool._net.addresses import split_endpoint
from scalepool._net.keys import AGENT, DRIVER
from scalepool._runtime.bulk_server import GONE, HELLO, PIECE, PIECE_BYTES, REQUEST, WAIT, cut
from scalepool.errors import AuthenticationError, SessionError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from scalepool._net.tls import SecureLinks
    from scalepool._store.incoming import Filled

__all__ = ["Couriers", "Outcome"]

_CONNECT_S: Final = 1.0
_STALL_S: Final = 5.0
"""Without a byte; who has nothing to send says so every second."""
_KEEP_S: Final = 10.0
_JOIN_S: Final = 2.0


class Outcome(NamedTuple):
    """What became of an order; ``result`` is one of those in `scalepool._core.sources`."""

    object: int
    source: int
    filled: Filled
    result: int = BROKEN
    text: str = ""


class _NoRoom(Exception):
    """Nothing more can be written."""


class Couriers:
    """Fetch objects from where they are told to.

    Parameters
    ----------
    links
        With the certificate to show.
    ticket
        The session's.
    report
        Called with an `Outcome`, in another thread.
    """

    def __init__(self, links: SecureLinks, ticket: bytes, report: Callable[[Outcome], object]) -> None:
        self._links = links
        self._ticket = ticket
        self._report = report
        self._lock = threading.Lock()
        self._by_source: dict[int, _Courier] = {}

    def fetch(self, source: int, address: str, object_id: int, filled: Filled) -> None:
        """Fetch what is missing of an object; what becomes of it is reported."""
        order = Outcome(object_id, source, filled)
        with self._lock:
            courier = self._by_source.get(source)
            if courier is None:
                courier = self._by_source[source] = _Courier(self, source, address)
                try:
                    courier.thread.start()
                except RuntimeError:  # no more threads
                    del self._by_source[source]
                    self._report(order)
                    return
            courier.orders.put(order)

    def drop(self, source: int) -> None:
        """That source is gone: what is fetched from there ends now."""
        with self._lock:
            courier = self._by_source.pop(source, None)
        if courier is not None:
            courier.end()

    def close(self) -> None:
        """End all links and threads."""
        with self._lock:
            running = list(self._by_source.values())
            self._by_source.clear()
        for courier in running:
            courier.end()
        for courier in running:
            courier.thread.join(_JOIN_S)

    def forked(self) -> None:
        """Be told that this process is a child of the one that fetches: let go of the links, without a word."""
        for courier in self._by_source.values():
            courier.forked()

    # ---- of its couriers ----

    def connect(self, source: int, address: str) -> ssl.SSLSocket:
        """Return a link that has shown its ticket."""
        link = self._links.connect(*split_endpoint(address), DRIVER if source == 0 else AGENT, _CONNECT_S)
        link.settimeout(_STALL_S)
        link.sendall(HELLO + self._ticket)
        return link

    def report(self, outcome: Outcome) -> None:
        """An order has ended."""
        self._report(outcome)

    def leave(self, courier: _Courier) -> bool:
        """Nobody has asked for anything for a while: whether the courier may go."""
        with self._lock:
            if not courier.orders.empty():
                return False
            if self._by_source.get(courier.source) is courier:
                del self._by_source[courier.source]
            return True


class _Courier:
    """Fetches from one source, one object after the other."""

    def __init__(self, owner: Couriers, source: int, address: str) -> None:
        self._owner = owner
        self.source = source
        self._address = address
        self._link: ssl.SSLSocket | None = None
        self._ended = False
        self._room = memoryview(b"")
        self.orders: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="scalepool-bulk-fetch", daemon=True)

    def end(self) -> None:
        """Give up everything; from any thread."""
        self._ended = True
        self.orders.put(None)
        link = self._link
        if link is not None:
            cut(link)

    def forked(self) -> None:
        """See `Couriers.forked`."""
        self._unlink()

    # ---- in its thread ----

    def _run(self) -> None:
        self._room = memoryview(bytearray(PIECE_BYTES))
        try:
            while True:
                try:
                    order = self.orders.get(timeout=_KEEP_S)
                except queue.Empty:
                    if self._owner.leave(self):
                        return
                    continue
                if order is not None:
                    self._owner.report(self._carry_out(order))
                elif self._ended:
                    return
        finally:
            self._unlink()
            while not self.orders.empty():
                left = self.orders.get()
                if left is not None:
                    self._owner.report(left)

    def _carry_out(self, order: Outcome) -> Outcome:
        was_idle = self._link is not None
        there = order.filled.there_bytes
        while not self._is_over():
            try:
                if self._link is None:
                    self._link = self._owner.connect(self.source, self._address)
            except (OSError, AuthenticationError, SessionError) as error:
                return order._replace(result=UNREACHABLE, text=str(error))
            if self._is_over():
                break
            try:
                if self._receive(self._link, order):
                    return order._replace(result=HERE)
                return order._replace(text="it is not there any more")
            except _NoRoom as error:
                self._unlink()
                return order._replace(result=GIVEN_UP, text=str(error))
            except (OSError, ValueError) as error:
                self._unlink()
                if not was_idle or order.filled.there_bytes > there:
                    return order._replace(text=str(error) or type(error).__name__)
                was_idle = False  # the link may have ended while it was not used: once more, with a new one
        return order

    def _is_over(self) -> bool:
        return self._ended  # set in another thread

    def _receive(self, link: ssl.SSLSocket, order: Outcome) -> bool:
        """Receive what is missing; False when it is not to be had there."""
        filled = order.filled
        at, size_bytes = filled.there_bytes, filled.size_bytes
        link.sendall(REQUEST.pack(order.object, at, size_bytes))
        head = memoryview(bytearray(PIECE.size))
        while at < size_bytes:
            _fill(link, head)
            (count,) = PIECE.unpack(head)
            if count == WAIT:
                continue
            if count == GONE:
                return False
            if not 0 < count <= min(PIECE_BYTES, size_bytes - at):
                raise ValueError(f"a piece of {count} bytes")
            piece = self._room[:count]
            _fill(link, piece)
            try:
                is_wanted = filled.write(at, piece)
            except OSError as error:
                raise _NoRoom(f"no room for an object of {size_bytes} bytes: {error}") from None
            if not is_wanted:
                raise ConnectionAbortedError("nobody wants it any more")
            at += count
        return True

    def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _fill(link: ssl.SSLSocket, room: memoryview) -> None:
    # Into memory that stays in the processor's cache, and from there into the segment by a system call: faster than
    # into fresh pages of a mapping, and an error where that would be a fatal signal.
    while room:
        count = link.recv_into(room)
        if not count:
            raise ConnectionResetError("the link has ended")
        room = room[count:]
