"""Which host a worker is put on, and who may have how much: what hosts offer, and what is in use of them.

Pure. The head asks when a worker is ordered, and looks from time to time whether something should be different: hosts
that are to leave and have nothing left, sessions that have more than their share while others want some, and a host
with too many workers while another one has room. How messages get to hosts is the switchboard's business.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool._wire.stewards import STEWARD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._wire import cluster as c

__all__ = ["EVICTED", "LEAVING", "STAYS", "Host", "Placement", "Rest", "Transfer", "fair_shares", "transfer"]

STAYS: Final = 0
LEAVING: Final = 1
"""Nothing new comes there; what is there goes on."""
EVICTED: Final = 2
"""What is still there ends now."""


class Rest(NamedTuple):
    """What a host offers beside CPUs and memory.

    Attributes
    ----------
    gpus
        How many it has.
    resources
        Of the user's own: units by name.
    labels
        What can be asked for by name and value.
    """

    gpus: int = 0
    resources: Mapping[str, int] = {}
    labels: Mapping[str, str] = {}

    def encode(self) -> bytes:
        """Return it as it is in messages."""
        return json.dumps([self.gpus, dict(self.resources), dict(self.labels)]).encode()

    @classmethod
    def decode(cls, data: bytes) -> Rest:
        """Read what ``encode`` wrote; what makes no sense offers nothing."""
        try:
            gpus, resources, labels = json.loads(data)
            own = {str(name): int(amount) for name, amount in resources.items() if 0 < int(amount) < 1 << 62}
            return cls(max(0, int(gpus)), own, {str(name): str(value) for name, value in labels.items()})
        except (ValueError, TypeError, AttributeError):
            return cls()


class Host:
    """A host that has joined.

    Attributes
    ----------
    number
        Its number in the cluster.
    link
        Of its agent; empty: it is cut off, and gets no workers.
    load
        How many workers are on it, of all sessions.
    state
        `STAYS`, `LEAVING` or `EVICTED`.
    limit_s
        How long what is there may go on when it is to leave.
    leave_by
        When that is over, once somebody has looked at a clock.
    """

    __slots__ = (
        "is_released",
        "leave_by",
        "limit_s",
        "link",
        "load",
        "memory",
        "name",
        "number",
        "rest",
        "slots",
        "state",
    )

    def __init__(self, number: int, link: bytes, offer: c.Offer) -> None:
        self.number = number
        self.link = link
        self.slots = offer.slots
        self.memory = offer.memory
        self.name = offer.host
        self.rest = offer.rest
        self.load = 0
        self.state = STAYS
        self.limit_s = 0.0
        self.leave_by: float | None = None
        self.is_released = False
        """Whether its agent was told that it may end."""

    def report(self) -> dict[str, Any]:
        """Return what it is and does, for people and programs."""
        rest = Rest.decode(self.rest)
        return {
            "node": self.number, "host": self.name.decode("utf-8", "replace"), "slots": self.slots,
            "workers": self.load, "memory_bytes": self.memory, "gpus": rest.gpus,
            "resources": {name: amount / 10_000 for name, amount in rest.resources.items()},
            "labels": dict(rest.labels), "leaving": self.state != STAYS, "away": not self.link,
        }  # fmt: skip


class Placement:
    """The hosts that there are, and the choice among them.

    Attributes
    ----------
    hosts
        By number.
    """

    __slots__ = ("hosts",)

    def __init__(self) -> None:
        self.hosts: dict[int, Host] = {}

    def join(self, number: int, link: bytes, offer: c.Offer) -> Host:
        """A host joins under a new number, or comes back under its own: then it still is to leave if it was."""
        before = self.hosts.get(number)
        host = self.hosts[number] = Host(number, link, offer)
        if before is not None:
            host.state, host.limit_s, host.leave_by = before.state, before.limit_s, before.leave_by
        return host

    def lose(self, host: Host) -> None:
        """A host is gone, and what was on it."""
        del self.hosts[host.number]

    @property
    def with_room(self) -> list[Host]:
        """Those that people and programs know of: all but the steward of detached actors, which has no slots."""
        return [host for host in self.hosts.values() if host.slots]

    @property
    def steward(self) -> Host | None:
        """The steward's, if it is there."""
        return next((host for host in self.hosts.values() if not host.slots and host.link), None)

    @property
    def staying(self) -> list[Host]:
        """Those that may get something new."""
        return [host for host in self.with_room if host.state == STAYS and host.link]

    def take(self, number: int = 0) -> Host | None:
        """Choose the host of one more worker, and count it there; ``None``: there are none that stay.

        With a ``number`` it must be that one; `STEWARD` stands for the steward's.
        """
        chosen: Host | None
        if number == STEWARD:
            chosen = self.steward
            if chosen is None:
                return None
        elif number:
            chosen = self.hosts.get(number)
            if chosen is None or chosen.state != STAYS or not chosen.link:
                return None
        else:
            staying = self.staying
            if not staying:
                return None
            chosen = min(staying, key=_share_with_one_more)
        chosen.load += 1
        return chosen

    def give_back(self, host: Host) -> None:
        """A worker is no longer there."""
        host.load -= 1

    def find(self, number: int, name: bytes) -> list[Host]:
        """Return the hosts with this number, or else this name."""
        if number:
            return [host for host in self.with_room if host.number == number]
        return [host for host in self.with_room if host.name == name]

    def drain(self, host: Host, limit_s: float) -> None:
        """A host is to leave after so long; one that is to leave already, at the earlier of the two moments."""
        if host.state == STAYS:
            host.state, host.limit_s = LEAVING, limit_s
        elif limit_s < host.limit_s:
            if host.leave_by is not None:
                host.leave_by -= host.limit_s - limit_s
            host.limit_s = limit_s

    def pass_time(self, now: float) -> bool:
        """See whose time is up; whether it is somebody's."""
        is_up = False
        for host in self.hosts.values():
            if host.state != STAYS and host.leave_by is None:
                host.leave_by = now + host.limit_s
            if host.state == LEAVING and host.leave_by is not None and now >= host.leave_by:
                host.state = EVICTED
                is_up = True
        return is_up


def _share_with_one_more(host: Host) -> tuple[float, int]:
    return (host.load + 1) / host.slots, host.number


def fair_shares(slots: int, wants: Mapping[int, int]) -> dict[int, int]:
    """Return how many workers each session may have at work; 0: any number, since nobody else lacks room.

    Max-min fair: who wants little gets that, and what is left is divided evenly among the others. Everybody gets at
    least one; sessions that came earlier get what cannot be divided.
    """
    open_ = {session: want for session, want in wants.items() if want}
    if len(open_) < 2 or sum(wants.values()) <= slots:
        return dict.fromkeys(wants, 0)
    shares: dict[int, int] = {}
    left = slots
    while modest := [session for session, want in open_.items() if want <= left // len(open_)]:
        for session in modest:
            shares[session] = open_.pop(session)
            left -= shares[session]
    each, more = divmod(left, len(open_))
    for at, session in enumerate(sorted(open_)):
        shares[session] = max(1, each + (at < more))
    # Who wants nothing now may begin with as much as the others have.
    most = max(shares.values(), default=1)
    return {session: shares.get(session, most) for session in wants}


class Transfer(NamedTuple):
    """So many workers of a session are to move from one host to another."""

    session: int
    source: Host
    target: Host
    workers: int


def transfer(hosts: list[Host], workers: Mapping[int, Mapping[int, int]]) -> Transfer | None:
    """Return what to move from a host with more workers than slots to one with fewer; ``None``: nothing.

    ``workers`` says how many workers each session has on each host that may be asked to move some. Afterwards the one
    host has no fewer workers than slots, and the other no more: what was moved is never moved back for that.
    """
    crowded = max(hosts, key=lambda host: (host.load / host.slots, -host.number), default=None)
    roomy = min(hosts, key=lambda host: (host.load / host.slots, host.number), default=None)
    if crowded is None or roomy is None or crowded.load <= crowded.slots or roomy.load >= roomy.slots:
        return None
    most, session = max(
        ((there.get(crowded.number, 0), -session) for session, there in workers.items()), default=(0, 0)
    )
    if not most:
        return None
    count = min(most, crowded.load - crowded.slots, roomy.slots - roomy.load)
    return Transfer(-session, crowded, roomy, count)
