"""What the head of a cluster does: who is there, and who gets which message.

Pure: messages in, messages out. A *link* is one connection, with the role that the sender's key gives it. Drivers
order, agents report; neither can do the other's part, nor reach into a session that is not its own.

The hub of a session is with its driver. The head knows of its workers only where they are, and unpacks nothing; which
host each is put on is decided in ``placement``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from scalepool._core.membership import AWAY, Link, Members, Sends, Session
from scalepool._core.returning import Returning
from scalepool._core.stewardship import Stewardship
from scalepool._core.tenancy import Tenancy
from scalepool._wire import cluster as c
from scalepool._wire.handshake import (
    Introduction,
    decode_introduction,
    differences,
    encode_introduction,
    is_introduction,
)
from scalepool._wire.stewards import STEWARD
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from scalepool._core.placement import Host

__all__ = ["Switchboard"]

_AGENT: Final = "agent"
_MOST_SLOTS: Final = 1 << 20
_PAUSE_S: Final = 1.5
"""Who is ticked four times a second, and was not for so long, did not run meanwhile."""


class Switchboard:
    """The head's tables and what they mean.

    Parameters
    ----------
    own
        What the head itself is.
    first
        Numbers of sessions and hosts begin after this: above all that an earlier head of the cluster has given.
    host_grace_s
        A host that is lost is waited for so long before its workers count as dead.
    stewardship
        Who may be the steward of detached actors; ``None``: there can be none.

    Attributes
    ----------
    down
        Whether somebody has asked for the cluster's end.
    """

    def __init__(
        self, own: Introduction, first: int = 0, host_grace_s: float = 0.0, stewardship: Stewardship | None = None
    ) -> None:
        self._own = own
        self._members = members = Members(first)
        self._links = members.links
        self._placement = members.placement
        self._sessions = members.sessions
        self._returning = Returning(members, host_grace_s)
        self._tenancy = Tenancy(members.placement, members.sessions)
        self._stewardship = stewardship or Stewardship()
        self._held: list[tuple[Session, c.Launch]] = []
        """Orders that wait for a host that may come back."""
        self._ticked = False
        self.down = False
        self._from_drivers: dict[type, Callable[[Session, Any], Sends]] = {
            c.Launch: self._launch,
            c.Drop: self._drop,
            c.End: lambda session, message: self._end(session),
            c.Wants: self._tenancy.wanted,
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
        if is_introduction(data):
            return self._introduce(link, role, data)
        if known is None or known.introduced is None:
            if known is None and c.decode(data) is not None:  # nonsense is said to be that
                return [(link, c.encode(c.Stranger()))]
            raise ProtocolError("whose versions do not fit has nothing to say")
        route = c.route_of(data)
        if route is not None:
            return self._pass_on(known, *route, data)
        message = c.decode(data)
        if type(message) is c.Ask:
            return [(link, c.encode(c.Report(json.dumps(self.report()).encode())))]
        if role == _AGENT:
            return self._from_agent(link, known, message)
        return self._from_driver(link, known, message, data)

    def tick(self, now: float) -> Sends:
        """Be told the time, in seconds, four times a second; return what to send, as who left did not come back."""
        members = self._members
        paused = self._ticked and now - members.now > _PAUSE_S
        members.now, self._ticked = now, True
        if paused:
            self._returning.paused()
        sends, is_news = self._tenancy.look(now)
        if is_news:
            sends += self._tell_nodes()
        if not self._returning.awaiting:
            return sends + self._launch_held() if self._held else sends
        left, overdue = self._returning.overdue()
        sends += overdue
        for session in left:
            sends += self._end(session)
        return sends + self._launch_held()

    def lose(self, link: bytes, reason: str = "", *, silent: bool = False) -> Sends:
        """A link is gone, closed by the other side or fallen silent; return what others are to be told."""
        known = self._links.pop(link, None)
        if known is None:
            return []
        sends: Sends = [] if known.session is None else self._returning.lose_driver(known.session, silent=silent)
        if known.node is not None:
            sends += self._returning.lose_host(known.node, reason)
            sends += self._tell_nodes()
        return sends

    def report(self) -> dict[str, Any]:
        """Return what is going on, for people and programs; who is cut off and may come back is ``away``."""
        hosts = {link: one.introduced.host for link, one in self._links.items() if one.introduced is not None}
        return {
            "nodes": [node.report() for node in self._placement.with_room],
            "drivers": [
                {"session": session.number, "host": hosts.get(session.link, ""), "workers": len(session.workers),
                 "away": session.link == AWAY}
                for session in self._sessions.values() if session.number != self._stewardship.session
            ],
            "detached": self._stewardship.actors if self._placement.steward is not None else [],
        }  # fmt: skip

    # ---- who comes ----

    def _introduce(self, link: bytes, role: str, data: bytes) -> Sends:
        theirs = decode_introduction(data)
        known = self._links.setdefault(link, Link(role))
        # One that does not fit hears what we are, and says to its user what differs; nothing else of it is taken in.
        if not differences([("", self._own), ("", theirs)]):
            known.introduced = theirs
        return [(link, encode_introduction(self._own))]

    def _offer(self, link: bytes, known: Link, offer: c.Offer) -> Sends:
        if known.node is not None or not 0 <= offer.slots <= _MOST_SLOTS:
            raise ProtocolError("an agent offered its host twice, or a number of slots that makes no sense")
        if not offer.slots:
            self._stewardship.admit(offer.rest, self._placement.steward)
        return [*self._returning.offer(link, known, offer), *self._tell_nodes(), *self._launch_held()]

    def _open(self, link: bytes, known: Link, opened: c.Open) -> Sends:
        if known.session is not None:
            raise ProtocolError("a driver opened a second session over one link")
        number = self._members.next_number()
        known.session = session = self._sessions[number] = Session(number, link, *opened)
        return [(link, c.encode(c.Opened(number))), *self._tell_nodes([session])]

    def _reopen(self, link: bytes, known: Link, message: c.Reopen) -> Sends:
        sends = self._returning.reopen(link, known, message)
        if known.session is None:
            return sends
        self._tenancy.returned(known.session.number)
        return sends + self._tell_nodes([known.session])

    def _tell_nodes(self, sessions: list[Session] | None = None) -> Sends:
        nodes = [host for host in self._placement.with_room if host.link != AWAY]
        rows = ((node.number, node.slots, node.memory, node.name, node.rest, node.state) for node in nodes)
        data = c.encode(c.Nodes(*zip(*rows, strict=True)) if nodes else c.Nodes((), (), (), ()))
        if sessions is None:
            self._tenancy.hosts_changed()
        told = self._sessions.values() if sessions is None else sessions
        return [(session.link, data) for session in told if session.link != AWAY]

    # ---- who leaves ----

    def _end(self, session: Session) -> Sends:
        self._sessions.pop(session.number, None)
        for node in session.workers.values():
            self._placement.give_back(node)
        session.workers.clear()
        for known in self._links.values():
            if known.session is session:
                known.session = None
        self._held = [one for one in self._held if one[0] is not session]
        return [one for host in list(session.begun.values()) for one in self._end_at(session, host)]

    def _end_at(self, session: Session, host: Host) -> Sends:
        session.begun.pop(host.number, None)
        self._members.claims[host.number].pop(session.number, None)
        return [(host.link, c.encode(c.End(session.number)))] if host.link != AWAY else []

    # ---- orders ----

    def _from_driver(self, link: bytes, known: Link, message: c.ClusterMessage, data: bytes) -> Sends:
        if type(message) is c.Open:
            return self._open(link, known, message)
        if type(message) is c.Reopen:
            return self._reopen(link, known, message)
        if type(message) is c.Drain:
            return self._tenancy.drain(message, link, None)
        if type(message) is c.Down:
            self.down = True
            users = [session.link for session in self._sessions.values() if session.link != AWAY]
            return [(to, data) for to in [host.link for host in self._placement.hosts.values() if host.link] + users]
        handler = self._from_drivers.get(type(message))
        if handler is None:
            raise ProtocolError(f"a driver sent a {type(message).__name__} message")
        session = known.session
        if session is None or session.number != message.session:  # type: ignore[union-attr]  # all of these have one
            raise ProtocolError("a driver spoke of a session that is not its own")
        return handler(session, message)

    def _launch(self, session: Session, message: c.Launch) -> Sends:
        node = session.workers.get(message.worker)
        if node is not None:  # the answer was lost with a link
            return [(session.link, c.encode(c.Placed(session.number, message.worker, node.number)))]
        node = self._placement.take(message.node)
        if node is None and self._returning.awaiting and not message.node:
            self._held.append((session, message))
            return []
        missing = self._stewardship.missing(self._members.now) if node is None and message.node == STEWARD else None
        if missing == "":
            self._held.append((session, message))
            return []
        if missing is not None:
            return [(session.link, c.encode(c.Refused(session.number, message.worker, missing.encode(), 0)))]
        if node is None:
            # The hub finds another host, or waits for one to join, and so hears first that there is none.
            reason = b"its host has left the cluster" if message.node else b"the cluster has no host that stays"
            told = [] if message.node else self._tell_nodes([session])
            return [*told, (session.link, c.encode(c.Refused(session.number, message.worker, reason, 1)))]
        begun = [] if node.number in session.begun else [self._returning.begin(session, node)]
        session.workers[message.worker] = node
        return [*begun, (session.link, c.encode(c.Placed(session.number, message.worker, node.number)))]

    def _launch_held(self) -> Sends:
        held, self._held = self._held, []
        return [one for session, message in held if session.link != AWAY for one in self._launch(session, message)]

    def _drop(self, session: Session, message: c.Drop) -> Sends:
        host = session.begun.get(message.node)
        if host is None:
            return []
        for worker in [worker for worker, at in session.workers.items() if at is host]:
            self._left(session, host, worker)
        return self._end_at(session, host)

    # ---- reports ----

    def _from_agent(self, link: bytes, known: Link, message: c.ClusterMessage) -> Sends:
        if type(message) is c.Offer:
            return self._offer(link, known, message)
        if type(message) is c.Drain and known.node is not None:
            return self._tenancy.drain(message, link, known.node)
        if type(message) is c.Owned and known.node is not None and known.node is self._placement.steward:
            self._stewardship.owned(message)
            return []
        if type(message) is not c.Again or known.node is not None or known.again is not None:
            raise ProtocolError(f"an agent sent a {type(message).__name__} message")
        known.again = message
        return []

    def _left(self, session: Session, host: Host, worker: int) -> None:
        if session.workers.get(worker) is host:
            del session.workers[worker]
            self._placement.give_back(host)

    def _pass_on(self, known: Link, number: int, node: int, data: bytes) -> Sends:
        """Carry on what a session and its part on a host say to each other."""
        if known.role == _AGENT:
            session, host = self._sessions.get(number), known.node
            if session is None or host is None or session.begun.get(node) is not host:
                return []
            if c.kind_said(data) in (c.Ended, c.Refused):
                said = c.decode(c.decode(data).data)  # type: ignore[union-attr]  # it is a Said
                self._left(session, host, said.worker)  # type: ignore[union-attr]  # one of these two
            return [(session.link, data)] if session.link != AWAY else []
        session = known.session
        if session is None or session.number != number:
            raise ProtocolError("a driver spoke of a session that is not its own")
        at = session.begun.get(node)
        return [(at.link, data)] if at is not None and at.link != AWAY else []
