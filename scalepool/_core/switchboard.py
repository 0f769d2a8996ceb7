"""What the head of a cluster does: who is there, and who gets which message.

Pure: messages in, messages out. A *link* is one connection, with the role that the sender's key gives it. Drivers
order, agents report; neither can do the other's part, nor reach into a session that is not its own.

The hub of a session is with its driver. The head knows of its workers only where they are, and unpacks nothing; which
host each is put on is decided in ``placement``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from scalepool._core.placement import Host, Placement
from scalepool._wire import cluster as c
from scalepool._wire.handshake import Introduction, decode_introduction, differences, encode_introduction
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Sends: TypeAlias = list[tuple[bytes, bytes]]

__all__ = ["Switchboard"]

_AGENT: Final = "agent"
_MOST_SLOTS: Final = 1 << 20


class _Link:
    __slots__ = ("introduced", "node", "role", "session")

    def __init__(self, role: str) -> None:
        self.role = role
        self.introduced: Introduction | None = None
        self.node: Host | None = None
        self.session: _Session | None = None


class _Session:
    """A driver's use of the cluster: where its workers are, and which nodes know of it."""

    __slots__ = ("begun", "link", "number", "opened", "workers")

    def __init__(self, number: int, link: bytes, opened: c.Open) -> None:
        self.number = number
        self.link = link
        self.opened = opened
        self.workers: dict[int, Host] = {}
        self.begun: dict[int, Host] = {}


class Switchboard:
    """The head's tables and what they mean.

    Parameters
    ----------
    own
        What the head itself is.

    Attributes
    ----------
    down
        Whether somebody has asked for the cluster's end.
    """

    def __init__(self, own: Introduction) -> None:
        self._own = own
        self._links: dict[bytes, _Link] = {}
        self._placement = Placement()
        self._sessions: dict[int, _Session] = {}
        self._count = 0
        self.down = False
        self._from_drivers: dict[type, Callable[[_Session, Any, bytes], Sends]] = {
            c.Launch: self._launch,
            c.Kill: self._to_worker,
            c.Look: self._to_worker,
            c.Withdraw: self._to_worker,
            c.Fetch: self._to_node,
            c.Forget: self._to_node,
            c.Sought: self._to_node,
            c.Ticket: self._to_node,
            c.Source: self._to_node,
            c.End: lambda session, message, data: self._end(session),
        }
        self._from_agents: dict[type, Callable[[_Session, Host, Any], bool]] = {
            c.Launched: self._is_placed,
            c.Looked: self._is_placed,
            c.Refused: self._left,
            c.Ended: self._left,
            **dict.fromkeys(
                (c.Fetch, c.Seek, c.Listening, c.Where, c.Brought),
                lambda session, node, message: message.node == node.number,
            ),
        }

    @property
    def links(self) -> list[bytes]:
        """All links that have said something."""
        return list(self._links)

    def receive(self, link: bytes, role: str, data: bytes) -> Sends:
        """Take in a message; return what to send, as (link, message).

        Raises
        ------
        ProtocolError
            When it makes no sense, or the sender has no business to say that; the tables are as before.
        """
        known = self._links.get(link)
        if known is None or known.introduced is None:
            return self._introduce(link, role, data)
        route = c.route_of(data)
        if route is not None:
            return self._pass_on(known, *route, data)
        message = c.decode(data)
        if type(message) is c.Ask:
            return [(link, c.encode(c.Report(json.dumps(self.report()).encode())))]
        if role == _AGENT:
            return self._from_agent(link, known, message, data)
        return self._from_driver(link, known, message, data)

    def lose(self, link: bytes, reason: str = "") -> Sends:
        """A link is gone; return what others are to be told."""
        known = self._links.pop(link, None)
        if known is None:
            return []
        sends: Sends = [] if known.session is None else self._end(known.session)
        if known.node is not None:
            sends += self._lose_node(known.node, reason)
        return sends

    def report(self) -> dict[str, Any]:
        """Return what is going on, for people and programs."""
        hosts = {link: one.introduced.host for link, one in self._links.items() if one.introduced is not None}
        return {
            "nodes": [node.report() for node in self._placement.hosts.values()],
            "drivers": [
                {"session": session.number, "host": hosts.get(session.link, ""), "workers": len(session.workers)}
                for session in self._sessions.values()
            ],
        }  # fmt: skip

    # ---- who comes ----

    def _introduce(self, link: bytes, role: str, data: bytes) -> Sends:
        theirs = decode_introduction(data)
        known = self._links.setdefault(link, _Link(role))
        # One that does not fit hears what we are, and says to its user what differs; nothing else of it is taken in.
        if not differences([("", self._own), ("", theirs)]):
            known.introduced = theirs
        return [(link, encode_introduction(self._own))]

    def _offer(self, link: bytes, known: _Link, offer: c.Offer) -> Sends:
        if known.node is not None or not 0 < offer.slots <= _MOST_SLOTS:
            raise ProtocolError("an agent offered its host twice, or no slots")
        self._count += 1
        known.node = self._placement.join(self._count, link, offer)
        return self._tell_nodes()

    def _open(self, link: bytes, known: _Link, opened: c.Open) -> Sends:
        if known.session is not None:
            raise ProtocolError("a driver opened a second session over one link")
        self._count += 1
        known.session = session = self._sessions[self._count] = _Session(self._count, link, opened)
        return [(link, c.encode(c.Opened(session.number))), *self._tell_nodes([session])]

    def _tell_nodes(self, sessions: list[_Session] | None = None) -> Sends:
        nodes = list(self._placement.hosts.values())
        columns = zip(*((node.number, node.slots, node.memory, node.name) for node in nodes), strict=True)
        data = c.encode(c.Nodes(*columns) if nodes else c.Nodes((), (), (), ()))
        return [(session.link, data) for session in (self._sessions.values() if sessions is None else sessions)]

    # ---- who leaves ----

    def _end(self, session: _Session) -> Sends:
        self._sessions.pop(session.number, None)
        for node in session.workers.values():
            self._placement.give_back(node)
        session.workers.clear()
        for known in self._links.values():
            if known.session is session:
                known.session = None
        data = c.encode(c.End(session.number))
        return [(node.link, data) for node in session.begun.values()]

    def _lose_node(self, node: Host, reason: str) -> Sends:
        self._placement.lose(node)
        sends: Sends = []
        for session in self._sessions.values():
            if session.begun.pop(node.number, None) is not None:
                sends.append((session.link, c.encode(c.NodeLost(node.number, reason.encode()))))
            session.workers = {worker: at for worker, at in session.workers.items() if at is not node}
        return sends + self._tell_nodes()

    # ---- orders ----

    def _from_driver(self, link: bytes, known: _Link, message: c.ClusterMessage, data: bytes) -> Sends:
        if type(message) is c.Open:
            return self._open(link, known, message)
        if type(message) is c.Down:
            self.down = True
            return [(node.link, data) for node in self._placement.hosts.values()]
        handler = self._from_drivers.get(type(message))
        if handler is None:
            raise ProtocolError(f"a driver sent a {type(message).__name__} message")
        session = known.session
        if session is None or session.number != message.session:  # type: ignore[union-attr]  # all of these have one
            raise ProtocolError("a driver spoke of a session that is not its own")
        return handler(session, message, data)

    def _launch(self, session: _Session, message: c.Launch, data: bytes) -> Sends:
        if message.worker in session.workers:
            raise ProtocolError(f"worker {message.worker} was ordered twice")
        node = self._placement.take()
        if node is None:
            return [(session.link, c.encode(c.Refused(session.number, message.worker, b"the cluster has no hosts")))]
        sends: Sends = [(session.link, c.encode(c.Placed(session.number, message.worker, node.number)))]
        if node.number not in session.begun:
            session.begun[node.number] = node
            sends.append((node.link, c.encode(c.Begin(session.number, node.number, *session.opened))))
        session.workers[message.worker] = node
        return [*sends, (node.link, data)]

    def _to_worker(self, session: _Session, message: c.Kill | c.Look | c.Withdraw, data: bytes) -> Sends:
        node = session.workers.get(message.worker)
        return [] if node is None else [(node.link, data)]

    def _to_node(
        self, session: _Session, message: c.Fetch | c.Forget | c.Sought | c.Ticket | c.Source, data: bytes
    ) -> Sends:
        node = session.begun.get(message.node)
        if node is not None:
            return [(node.link, data)]
        if type(message) is c.Fetch:  # it left: what lay there is gone
            gone = c.Chunk(session.number, message.node, message.object, message.offset, b"")
            return [(session.link, c.encode(gone))]
        return []

    # ---- reports ----

    def _from_agent(self, link: bytes, known: _Link, message: c.ClusterMessage, data: bytes) -> Sends:
        if type(message) is c.Offer:
            return self._offer(link, known, message)
        concerns = self._from_agents.get(type(message))
        if concerns is None or known.node is None:
            raise ProtocolError(f"an agent sent a {type(message).__name__} message")
        session = self._sessions.get(message.session)  # type: ignore[union-attr]  # all of these have one
        if session is None or known.node.number not in session.begun:
            return []  # late: the session is over
        return [(session.link, data)] if concerns(session, known.node, message) else []

    def _is_placed(self, session: _Session, node: Host, message: Any) -> bool:
        return session.workers.get(message.worker) is node

    def _left(self, session: _Session, node: Host, message: Any) -> bool:
        if session.workers.get(message.worker) is not node:
            return False
        del session.workers[message.worker]
        self._placement.give_back(node)
        return True

    def _pass_on(self, known: _Link, kind: type, number: int, end: int, data: bytes) -> Sends:
        """Carry on what is said between a worker and its hub, or a part of an object."""
        if known.role == _AGENT:
            session = self._sessions.get(number)
            node = known.node
            if session is None or node is None:
                return []
            at = session.workers.get(end) if kind is c.Carry else session.begun.get(end)
            return [(session.link, data)] if at is node else []
        session = known.session
        if session is None or session.number != number:
            raise ProtocolError("a driver spoke of a session that is not its own")
        at = session.workers.get(end) if kind is c.Carry else session.begun.get(end)
        return [] if at is None else [(at.link, data)]
