"""The tables of a head: links, hosts and sessions, and whose numbers are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scalepool._core.placement import Host, Placement

if TYPE_CHECKING:
    from scalepool._wire import cluster as c
    from scalepool._wire.handshake import Introduction

__all__ = ["AWAY", "Link", "Members", "Sends", "Session"]

Sends: TypeAlias = "list[tuple[bytes, bytes]]"

AWAY = b""
"""As the link of a host or a session: it has none, and may come back."""


class Link:
    """A connection, with the role that the sender's key gives it; what it is for is said later."""

    __slots__ = ("again", "introduced", "node", "role", "session")

    def __init__(self, role: str) -> None:
        self.role = role
        self.introduced: Introduction | None = None
        self.again: c.Again | None = None
        self.node: Host | None = None
        self.session: Session | None = None


class Session:
    """A driver's use of the cluster.

    Attributes
    ----------
    link
        Of its driver; ``AWAY``: it may come back, until ``ends_at``.
    workers
        Where each is.
    begun
        The hosts that know of it, by number.
    awaited
        Of an earlier head's hosts that are not back: the workers there, and the order of each.
    awaited_until
        When these count as lost.
    """

    __slots__ = ("awaited", "awaited_until", "begun", "ends_at", "link", "number", "settings", "token", "workers")

    def __init__(self, number: int, link: bytes, settings: bytes, token: bytes) -> None:
        self.number = number
        self.link = link
        self.settings = settings
        self.token = token
        self.workers: dict[int, Host] = {}
        self.begun: dict[int, Host] = {}
        self.awaited: dict[int, list[tuple[int, bytes]]] = {}
        self.awaited_until = 0.0
        self.ends_at = 0.0


class Members:
    """All of them.

    Parameters
    ----------
    first
        Numbers are given from the one after this on. An earlier head of the cluster gave smaller ones.

    Attributes
    ----------
    now
        Seconds; moves with the head's ticks.
    claims
        By host: the sessions that its agent had when it came, with their tokens.
    gone
        Hosts of whose loss a driver was told: they do not come back as what they were.
    """

    __slots__ = ("_count", "_first", "claims", "gone", "links", "now", "placement", "sessions")

    def __init__(self, first: int) -> None:
        self._first = self._count = first
        self.now = 0.0
        self.links: dict[bytes, Link] = {}
        self.placement = Placement()
        self.sessions: dict[int, Session] = {}
        self.claims: dict[int, dict[int, bytes]] = {}
        self.gone: set[int] = set()

    def next_number(self) -> int:
        """Return a number that nobody else has, not even in the time of another head."""
        self._count += 1
        return self._count

    def is_ours(self, number: int) -> bool:
        """Whether this head has given a number."""
        return self._first < number <= self._count
