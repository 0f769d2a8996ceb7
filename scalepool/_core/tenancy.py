"""How sessions share the hosts of a cluster, and how hosts leave it: what the head sees to as time goes by.

Pure, as the switchboard, a part of which it is. A host that is to leave gets nothing new. The sessions that have
something there are told, and say when they have nothing left: then the agent may go. When its time is up, what is
still there is ended first.

When all sessions together want more workers at work than there are slots, each is told its fair share. How it keeps to
that is its own affair: it lets workers go that are through with what they do. So nobody's task is ever stopped for
another one's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.placement import EVICTED, STAYS, Host, Placement, fair_shares, transfer
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._core.membership import Sends, Session

__all__ = ["Tenancy"]

_GRACE_S: Final = 5.0
"""How long sessions have to end what is on a host whose time is up, before its agent goes anyway."""
_PATIENCE_S: Final = 5.0
"""How long a session may take to move workers, before somebody else is asked."""


class Tenancy:
    """Shares, moves and departures.

    Parameters
    ----------
    placement
        The hosts.
    sessions
        The sessions, by number.
    """

    __slots__ = ("_is_news", "_moving", "_placement", "_sessions", "_shares", "_stubborn", "_wants")

    def __init__(self, placement: Placement, sessions: Mapping[int, Session]) -> None:
        self._placement = placement
        self._sessions = sessions
        self._is_news = False
        """Whether the state of a host has changed."""
        self._wants: dict[int, int] = {}
        self._shares: dict[int, int] = {}
        self._moving: tuple[int, int, int, float] | None = None
        """Which session moves workers away from which host, to how many it is to come, and until when to wait."""
        self._stubborn: set[tuple[int, int]] = set()
        """Sessions that did not move anything away from a host when asked."""

    def drain(self, message: c.Drain, asker: bytes, own: Host | None) -> Sends:
        """A host is to leave: an agent's ``own``, or one that a driver names.

        Raises
        ------
        ProtocolError
            When it should have less than no time for that.
        """
        if message.limit_ms < 0:
            raise ProtocolError("a host was to leave in less than no time")
        found = self._placement.find(message.node, message.host) if own is None else [own]
        if len(found) == 1:
            self._is_news = self._is_news or found[0].state == STAYS
            self._placement.drain(found[0], message.limit_ms / 1000)
        return [(asker, c.encode(_answer(found, message)))] if own is None else []

    def wanted(self, session: Session, message: c.Wants) -> Sends:
        """A driver says how many workers it could have at work."""
        self._wants[session.number] = message.workers
        return []

    def returned(self, number: int) -> None:
        """A driver is back, perhaps from another head, and may have any number until it is told."""
        self._shares.pop(number, None)

    def hosts_changed(self) -> None:
        """A host came or went: who could not move anything before may now."""
        self._stubborn.clear()

    def look(self, now: float) -> tuple[Sends, bool]:
        """Return what is to be sent as time goes by, and whether the state of a host has changed."""
        is_news, self._is_news = self._is_news | self._placement.pass_time(now), False
        return self._departures(now) + self._divide() + self._move(now), is_news

    # ---- departures ----

    def _departures(self, now: float) -> Sends:
        sends: Sends = []
        for host in self._placement.hosts.values():
            if host.state == STAYS or host.is_released or host.leave_by is None or not host.link:
                continue
            is_needed = any(host.number in session.begun for session in self._sessions.values())
            if not is_needed or (host.state == EVICTED and now >= host.leave_by + _GRACE_S):
                host.is_released = True
                sends.append((host.link, c.encode(c.Leave())))
        return sends

    # ---- shares ----

    def _divide(self) -> Sends:
        wants = {number: max(0, self._wants.get(number, 0)) for number in self._sessions}
        self._wants = dict(wants)
        shares = fair_shares(sum(host.slots for host in self._placement.staying), wants)
        sends: Sends = []
        for number, share in shares.items():
            if self._shares.get(number, 0) != share and (link := self._sessions[number].link):
                self._shares[number] = share
                sends.append((link, c.encode(c.Share(number, share))))
        self._shares = {number: share for number, share in self._shares.items() if number in shares}
        return sends

    # ---- moves ----

    def _move(self, now: float) -> Sends:
        if self._moving is not None:
            number, source, rest, until = self._moving
            session = self._sessions.get(number)
            there = 0 if session is None else _count(session).get(source, 0)
            if there > rest and now < until:
                return []
            if there > rest:
                self._stubborn.add((number, source))
            self._moving = None
        counts = {
            number: {host: count for host, count in _count(session).items() if (number, host) not in self._stubborn}
            for number, session in self._sessions.items()
            if session.link
        }
        found = transfer(self._placement.staying, counts)
        if found is None:
            return []
        source = found.source.number
        rest = _count(self._sessions[found.session])[source] - found.workers
        self._moving = (found.session, source, rest, now + _PATIENCE_S)
        shift = c.Shift(found.session, source, found.target.number, found.workers)
        return [(self._sessions[found.session].link, c.encode(shift))]


def _count(session: Session) -> dict[int, int]:
    counts: dict[int, int] = {}
    for host in session.workers.values():
        counts[host.number] = counts.get(host.number, 0) + 1
    return counts


def _answer(found: list[Host], message: c.Drain) -> c.Drained:
    if len(found) == 1:
        host = found[0]
        name = host.name.decode("utf-8", "replace")
        return c.Drained(host.number, f"host {host.number} ({name}) leaves the cluster".encode())
    what = f"number {message.node}" if message.node else f"the name {message.host.decode('utf-8', 'replace')!r}"
    if found:
        numbers = ", ".join(str(host.number) for host in found)
        return c.Drained(0, f"several hosts have {what}: say which by number, of {numbers}".encode())
    return c.Drained(0, f"the cluster has no host with {what}".encode())
