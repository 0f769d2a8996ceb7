"""Who is cut off from a head, and who comes back to it, or to the one that was started in its place.

A head that is started again knows nothing. Agents and drivers tell it what they are in, and it believes them, as they
have the keys: drivers name the hosts that they speak with and the workers there, agents the sessions that they have.
Where both agree, each is told that the way between them is new; they say the rest to each other.

A host is lost for good when a driver has been told so; what drivers name when they come back says whether they were.
While nobody who has work there can be told, as all links were cut at once, it is waited for. A driver that has closed
its link has a moment to come back, and is gone if it does not; one that fell silent has longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.membership import AWAY, Link, Members, Sends, Session
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.placement import Host

__all__ = ["RETURN_S", "Returning"]

RETURN_S: Final = 6.0
"""Hosts are waited for so long when their driver is back and they are not: they try every two seconds."""
_CLOSED_S: Final = 1.0
"""A driver that has closed its link comes back within that, or never: its process has ended."""
_SILENT_S: Final = 30.0
"""One that fell silent may be stopped, or the network cut."""
_LATE: Final = b"it did not come back"


class Returning:
    """What a head does about those who leave and those who come back.

    Parameters
    ----------
    members
        The tables.
    host_grace_s
        How long a host that is lost alone is waited for.
    """

    __slots__ = ("_host_grace_s", "_lenient_until", "_members", "_settled_at", "_waited", "awaiting")

    def __init__(self, members: Members, host_grace_s: float) -> None:
        self._members = members
        self._host_grace_s = host_grace_s
        self._waited: dict[int, tuple[float, str]] = {}
        """Hosts without a link: until when they are waited for, and what has become of that."""
        self.awaiting = False
        """Whether anybody is waited for."""
        self._lenient_until = 0.0
        self._settled_at = 0.0
        """Until then an earlier head's hosts may come back."""

    # ---- hosts ----

    def offer(self, link: bytes, known: Link, offer: c.Offer) -> Sends:
        """A host joins, or comes back. What it has besides is in ``known.again``."""
        members, again = self._members, known.again
        returns = again is not None and again.node > 0 and self._may_return(again)
        number = again.node if again is not None and returns else members.next_number()
        before = members.placement.hosts.get(number)
        if before is not None:
            self._forget_link(before)
        host = known.node = members.placement.join(number, link, offer)
        self._waited.pop(number, None)
        members.claims[number] = {}
        sends: Sends = [(link, c.encode(c.Joined(number)))]
        if again is None or again.node != number:
            return sends
        members.claims[number] = dict(zip(again.sessions, again.tokens, strict=False))
        for session in list(members.sessions.values()):
            if before is not None:
                self._move(session, before, host)
            self._settle(session, host, session.awaited.pop(number, None))
            if number in session.begun:
                sends += self._bring_together(session, host)
        return sends + [
            (link, c.encode(c.End(one))) for one in list(members.claims[number]) if self._is_over(one, host)
        ]

    def _may_return(self, again: c.Again) -> bool:
        """Whether nobody was told that this host is lost, as far as is known."""
        members, node = self._members, again.node
        if node in members.placement.hosts or not (node in members.gone or members.is_ours(node)):
            return True
        theirs = [members.sessions[number] for number in again.sessions if number in members.sessions]
        return any(session.link == AWAY or node in session.awaited for session in theirs)

    def _forget_link(self, host: Host) -> None:
        old = self._members.links.pop(host.link, None)  # whoever comes as the same host again has lost that
        if old is not None:
            old.node = None

    def _move(self, session: Session, before: Host, host: Host) -> None:
        """The same host, with what it offers now."""
        session.workers = {worker: host if at is before else at for worker, at in session.workers.items()}
        if session.begun.get(host.number) is before:
            session.begun[host.number] = host
        host.load += sum(at is host for at in session.workers.values())

    def _settle(self, session: Session, host: Host, workers: Iterable[tuple[int, bytes]] | None) -> None:
        """A host that a session was waiting for is there."""
        if workers is None:
            return
        session.begun[host.number] = host
        for worker, _ in workers:
            if worker not in session.workers:
                session.workers[worker] = host
                host.load += 1

    def _is_over(self, number: int, host: Host) -> bool:
        """Whether a session that a host has is nobody's."""
        session = self._members.sessions.get(number)
        if session is None:
            return self._members.is_ours(number)  # that of an earlier head may come back
        if session.token != self._members.claims[host.number][number]:
            return True
        return session.link != AWAY and host.number not in session.begun

    def _bring_together(self, session: Session, host: Host) -> Sends:
        """Tell a driver and a host that the way between them is new, if both are there."""
        if AWAY in (session.link, host.link):
            return []
        data = c.encode(c.Renew(session.number, host.number))
        sends: Sends = []
        claimed = self._members.claims[host.number].get(session.number)
        if claimed not in (None, session.token):
            sends.append((host.link, c.encode(c.End(session.number))))
        if claimed != session.token:
            sends.append(self.begin(session, host))
        return [*sends, (host.link, data), (session.link, data)]

    def begin(self, session: Session, host: Host) -> tuple[bytes, bytes]:
        """Have a host know of a session."""
        session.begun[host.number] = host
        self._members.claims[host.number][session.number] = session.token
        return host.link, c.encode(c.Begin(session.number, host.number, session.settings, session.token))

    def lose_host(self, host: Host, reason: str) -> Sends:
        """The link to a host is gone."""
        users = [session for session in self._members.sessions.values() if host.number in session.begun]
        host.link = AWAY
        nobody = all(session.link == AWAY for session in users) or self._members.now < self._lenient_until
        wait_s = max(self._host_grace_s, RETURN_S if nobody else 0.0)
        if users and wait_s:
            self._waited[host.number] = (self._members.now + wait_s, reason)
            self.awaiting = True
            return []
        return self._give_up_host(host, reason)

    def _give_up_host(self, host: Host, reason: str) -> Sends:
        members = self._members
        members.placement.lose(host)
        members.claims.pop(host.number, None)
        members.gone.add(host.number)
        self._waited.pop(host.number, None)
        sends: Sends = []
        for session in members.sessions.values():
            if session.begun.pop(host.number, None) is not None and session.link != AWAY:
                sends.append((session.link, c.encode(c.NodeLost(host.number, reason.encode()))))
            session.workers = {worker: at for worker, at in session.workers.items() if at is not host}
        return sends

    # ---- drivers ----

    def reopen(self, link: bytes, known: Link, message: c.Reopen) -> Sends:
        """A driver comes back.

        Raises
        ------
        ProtocolError
            When it is another's session, or what it says of its workers makes no sense.
        """
        members = self._members
        pairs = list(zip(message.workers[::2], message.workers[1::2], message.orders, strict=False))
        if len(message.workers) != 2 * len(message.orders) or known.session is not None:
            raise ProtocolError("a driver came back in a way that makes no sense")
        session = members.sessions.get(message.session)
        if session is None:
            if members.is_ours(message.session):
                return [(link, c.encode(c.End(message.session)))]
            session = Session(message.session, link, message.settings, message.token)
            members.sessions[session.number] = session
            self._settled_at = members.now + RETURN_S
            self.awaiting = True
        elif session.token != message.token:
            raise ProtocolError("a driver came back to a session that is not its own")
        elif session.link != AWAY:
            members.links.pop(session.link, None)  # it knows better than we do that this is gone
        session.link = link
        known.session = session
        nodes = {*message.nodes, *message.workers[1::2]}
        workers = {node: [(worker, order) for worker, at, order in pairs if at == node] for node in nodes}
        return [(link, c.encode(c.Opened(session.number))), *self._reunite(session, workers)]

    def _reunite(self, session: Session, workers: dict[int, list[tuple[int, bytes]]]) -> Sends:
        """A driver is back that speaks with these hosts, and has these workers there."""
        members = self._members
        sends: Sends = []
        session.awaited.clear()
        for node, theirs in workers.items():
            host = members.placement.hosts.get(node)
            if host is not None:
                self._settle(session, host, theirs)
                sends += self._bring_together(session, host)
            else:
                session.awaited[node] = theirs
                session.awaited_until = members.now + RETURN_S
                self.awaiting = True
        ended = c.encode(c.End(session.number))
        for number, claimed in members.claims.items():
            if session.number in claimed and number not in session.begun:
                del claimed[session.number]
                link = members.placement.hosts[number].link
                sends += [] if link == AWAY else [(link, ended)]
        return sends

    def lose_driver(self, session: Session, *, silent: bool) -> Sends:
        """The link to a driver is gone: closed by it, or ``silent``."""
        session.link = AWAY
        lenient = silent or self._members.now < self._lenient_until
        session.ends_at = self._members.now + (_SILENT_S if lenient else _CLOSED_S)
        self.awaiting = True
        return []

    # ---- time ----

    def paused(self) -> None:
        """Be told that this process was stopped for a while: all links may be cut, and nobody is gone for that."""
        self._lenient_until = later = self._members.now + RETURN_S
        for session in self._members.sessions.values():
            session.ends_at = max(session.ends_at, later)
            session.awaited_until = max(session.awaited_until, later)
        self._waited = {number: (max(until, later), reason) for number, (until, reason) in self._waited.items()}

    def overdue(self) -> tuple[list[Session], Sends]:
        """Return the sessions whose driver has not come back, and what to send as hosts have not."""
        members = self._members
        sends: Sends = []
        for number, (until, reason) in list(self._waited.items()):
            if members.now >= until:
                sends += self._give_up_host(members.placement.hosts[number], reason)
        for session in members.sessions.values():
            if session.awaited and members.now >= session.awaited_until and session.link != AWAY:
                members.gone.update(session.awaited)
                sends += [(session.link, c.encode(c.NodeLost(node, _LATE))) for node in session.awaited]
                session.awaited.clear()
        left = [one for one in members.sessions.values() if one.link == AWAY and members.now >= one.ends_at]
        self.awaiting = (
            bool(self._waited)
            or members.now < self._settled_at
            or any(one.awaited or (one.link == AWAY and one not in left) for one in members.sessions.values())
        )
        return left, sends
