"""Large data without the head between: who is asked where an object is, and what is done with the answer.

The driver knows where its objects are, and decides (`scalepool._core.sources`). A node asks it by Where, fetches from
where Source says, and reports by Brought, so that others can be sent to it. Where something stands in the way, a
certificate or a route, objects come over the head, as small ones always do.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final

from scalepool._core.sources import GIVEN_UP, HERE, RELAY, Sources
from scalepool._core.transfer import CHUNK_BYTES
from scalepool._net.addresses import split_endpoint
from scalepool._wire import cluster as c
from scalepool.errors import KeyFileError, ProtocolError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalepool._core.sources import Assign
    from scalepool._net.keys import ClusterKeys
    from scalepool._net.tls import SecureLinks
    from scalepool._runtime.bulk_client import Couriers, Outcome
    from scalepool._runtime.bulk_server import BulkServer
    from scalepool._runtime.porter import Porter
    from scalepool._store.incoming import Filled

__all__ = ["PORTS_VARIABLE", "BulkSite", "DriverDirect", "NodeDirect", "port_numbers"]

PORTS_VARIABLE: Final = "SCALEPOOL_BULK_PORTS"
_FROM_BYTES: Final = CHUNK_BYTES + 1
"""Smaller objects are here in one round trip over the head, which is what it takes to ask where they are."""
_TICKET_BYTES: Final = 32


def port_numbers(text: str) -> Sequence[int]:
    """Return the ports to try that are written as ``7900-7999`` or ``7900``; any, where nothing is written.

    Raises
    ------
    SessionError
        It is neither.
    """
    if not text.strip():
        return (0,)
    first, to, last = text.partition("-")
    try:
        ports = range(int(first), int(last if to else first) + 1)
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65_535:
        raise SessionError(f"{PORTS_VARIABLE}={text!r} is no range of ports: write for example 7900-7999")
    return ports


class BulkSite:
    """What a process has of it: a certificate to show, and one place to listen at for all of its sessions.

    Parameters
    ----------
    keys, role
        As of `SecureLinks`.
    head
        The address of the head: we listen where it would reach us, so on loopback when the head is there.
    tell
        Called with what a person may want to know.
    """

    def __init__(self, keys: ClusterKeys, role: str, head: str, tell: Callable[[str], object]) -> None:
        self._keys = keys
        self._role = role
        self._head = head
        self._tell = tell
        self._failed = role not in keys.certificates
        self._links: SecureLinks | None = None
        self._server: BulkServer | None = None

    @property
    def links(self) -> SecureLinks | None:
        """What makes links; ``None`` where there is no certificate."""
        if self._links is None and not self._failed:
            from scalepool._net.tls import SecureLinks

            try:
                self._links = SecureLinks(self._keys, self._role)
            except KeyFileError as error:
                self._fail(error)
        return self._links

    @property
    def server(self) -> BulkServer | None:
        """What listens; ``None`` where that cannot be."""
        links = self.links
        if self._server is None and links is not None and not self._failed:
            from scalepool._net.tls import local_host
            from scalepool._runtime.bulk_server import BulkServer

            try:
                host = local_host(*split_endpoint(self._head))
                ports = port_numbers(os.environ.get(PORTS_VARIABLE, ""))
                self._server = BulkServer(links, host, ports, self._tell)
            except (OSError, SessionError) as error:
                self._fail(error)
        return self._server

    def dismiss(self, ticket: bytes) -> None:
        """A session is over."""
        if self._server is not None:
            self._server.dismiss(ticket)

    def close(self) -> None:
        """Stop listening."""
        self._failed = True
        if self._server is not None:
            self._server.close()

    def forked(self) -> None:
        """Be told that this process is a child of the one that listens."""
        self._failed = True
        if self._server is not None:
            self._server.forked()

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._tell(f"large data goes over the head: {error}")


class _Direct:
    """What both sides share.

    Parameters
    ----------
    site
        The process's.
    porter
        Who brings objects, and is told by this how.
    find
        Returns a new descriptor of an object that is here, or ``None``; called in any thread.
    wake
        Called in any thread, when ``step`` is to be called.
    """

    def __init__(
        self, site: BulkSite, porter: Porter, find: Callable[[int], int | None], wake: Callable[[], object]
    ) -> None:
        self._site = site
        self._porter = porter
        self._find = find
        self._wake = wake
        self._ticket = b""
        self._couriers: Couriers | None = None
        self.done: deque[Outcome] = deque()
        """What `step` has to deal with."""
        porter.seek = self._seek
        porter.settled = lambda object_id, is_here: self._report(object_id, HERE if is_here else GIVEN_UP)

    def take(self, object_id: int) -> tuple[int, Filled | None] | None:
        """See `Shelf`."""
        fd = self._find(object_id)
        if fd is not None:
            return fd, None
        filled = self._porter.filling(object_id)
        fd = -1 if filled is None else filled.open()
        if fd >= 0:
            return fd, filled
        fd = self._find(object_id)  # it may have come to be whole right now
        return None if fd is None else (fd, None)

    def step(self) -> None:
        """Take in what has been fetched; never wait."""
        while self.done:
            outcome = self.done.popleft()
            if self._porter.filling(outcome.object) is not outcome.filled:
                continue  # it was given up, which has been told
            if outcome.result == HERE:
                self._porter.filled(outcome.object)
            elif outcome.result == GIVEN_UP:
                self._porter.filled(outcome.object, outcome.text)
            else:
                self._report(outcome.object, outcome.result)

    def close(self) -> None:
        """End all links and threads of this session."""
        self._site.dismiss(self._ticket)
        if self._couriers is not None:
            self._couriers.close()

    def _start(self, ticket: bytes) -> bool:
        """Get ready to fetch; whether that can be."""
        links = self._site.links
        if links is None:
            return False
        if self._couriers is None:
            from scalepool._runtime.bulk_client import Couriers

            self._ticket = ticket
            self._couriers = Couriers(links, ticket, self._fetched)
        return True

    def _fetched(self, outcome: Outcome) -> None:
        self.done.append(outcome)
        self._wake()

    def _go(self, object_id: int, source: int, address: str) -> None:
        if not address or self._couriers is None:
            self._porter.relay(object_id)
            return
        filled = self._porter.directly(object_id)
        if filled is not None:
            self._couriers.fetch(source, address, object_id, filled)

    def _seek(self, source: int, object_id: int, size_bytes: int) -> bool:
        raise NotImplementedError

    def _report(self, object_id: int, result: int) -> None:
        raise NotImplementedError


class NodeDirect(_Direct):
    """A node's part in one session; ``send`` sends to the driver."""

    def __init__(
        self, site: BulkSite, porter: Porter, find: Callable[[int], int | None], wake: Callable[[], object],
        send: Callable[[c.ClusterMessage], object], session: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__(site, porter, find, wake)
        self._send = send
        self._session, self._node = session

    def admit(self, ticket: bytes) -> None:
        """The driver says that it can do it, too, and what to know each other by.

        Raises
        ------
        ProtocolError
            When that is no ticket.
        """
        if len(ticket) != _TICKET_BYTES:
            raise ProtocolError("no ticket")
        server = self._site.server
        if server is not None and self._start(ticket):
            server.admit(ticket, self)
            self._send(c.Listening(self._session, self._node, server.address.encode()))

    def go(self, source: c.Source) -> None:
        """The driver says from where to get an object."""
        self._go(source.object, source.source, source.address.decode("ascii", "replace"))

    def _seek(self, source: int, object_id: int, size_bytes: int) -> bool:
        if self._couriers is None or size_bytes < _FROM_BYTES:
            return False
        self._send(c.Where(self._session, self._node, object_id))
        return True

    def _report(self, object_id: int, result: int) -> None:
        self._send(c.Brought(self._session, self._node, object_id, result))


class DriverDirect(_Direct):
    """The driver's part: it decides who gets what from where; ``tell`` sends to the head."""

    def __init__(
        self, site: BulkSite, porter: Porter, find: Callable[[int], int | None], wake: Callable[[], object],
        tell: Callable[[c.ClusterMessage], object], session: int,
    ) -> None:  # fmt: skip
        super().__init__(site, porter, find, wake)
        self._tell = tell
        self._session = session
        self._sources = Sources()
        self._addresses: dict[int, str] = {}
        self._known: set[int] = set()
        self._secret = os.urandom(_TICKET_BYTES)

    def hear(self, message: c.ClusterMessage) -> bool:
        """Take in what nodes say of this; False: somebody else has to know it, too."""
        if type(message) is c.Where:
            self._asked(message)
        elif type(message) is c.Brought:
            self._assign(self._sources.ended(message.object, message.node, message.result))
        elif type(message) is c.Listening:
            if self._start(self._secret):
                self._addresses[message.node] = message.address.decode("ascii", "replace")
                self._sources.listens(message.node)
        else:
            if type(message) is c.Placed:
                self._invite(message.node)
            elif type(message) is c.NodeLost:
                self._lose(message.node)
            return False
        return True

    def forget(self, objects: Iterable[int]) -> None:
        """Nobody needs these objects any more."""
        self._assign(self._sources.forget(objects))

    def close(self) -> None:
        """End all links and threads."""
        super().close()
        self._site.close()

    def forked(self) -> None:
        """Be told that this process is a child of the driver's."""
        self._site.forked()
        if self._couriers is not None:
            self._couriers.forked()

    def _invite(self, node: int) -> None:
        """A worker is placed there: from the first one on the node knows of this session."""
        if node not in self._known:
            self._known.add(node)
            if self._site.links is not None:
                self._tell(c.Ticket(self._session, node, self._secret))

    def _lose(self, node: int) -> None:
        self._known.discard(node)
        self._addresses.pop(node, None)
        if self._couriers is not None:
            self._couriers.drop(node)
        self._assign(self._sources.lose(node))

    def _asked(self, where: c.Where) -> None:
        fd = self._find(where.object)
        if fd is None:  # gone: the relay says so
            self._tell(c.Source(self._session, where.node, where.object, 0, b""))
            return
        os.close(fd)
        server = self._site.server
        if server is not None and 0 not in self._addresses:
            server.admit(self._secret, self)
            self._addresses[0] = server.address
            self._sources.listens(0)
        self._assign(self._sources.want(where.object, where.node, 0))

    def _assign(self, assigned: list[Assign]) -> None:
        for one in assigned:
            address = "" if one.source == RELAY else self._addresses.get(one.source, "")
            if one.place:
                self._tell(c.Source(self._session, one.place, one.object, max(0, one.source), address.encode()))
            else:
                self._go(one.object, one.source, address)

    def _seek(self, source: int, object_id: int, size_bytes: int) -> bool:
        if source not in self._addresses or size_bytes < _FROM_BYTES:
            return False
        self._assign(self._sources.want(object_id, 0, source))
        return True

    def _report(self, object_id: int, result: int) -> None:
        self._assign(self._sources.ended(object_id, 0, result))
