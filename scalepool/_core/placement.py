"""Which host a worker is put on: what hosts offer, what is in use of them, and who is next.

Pure. The head asks when a worker is ordered; how messages get to hosts is the switchboard's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalepool._wire import cluster as c

__all__ = ["Host", "Placement"]


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
    """

    __slots__ = ("link", "load", "memory", "name", "number", "slots")

    def __init__(self, number: int, link: bytes, offer: c.Offer) -> None:
        self.number = number
        self.link = link
        self.slots = offer.slots
        self.memory = offer.memory
        self.name = offer.host
        self.load = 0

    def report(self) -> dict[str, Any]:
        """Return what it is and does, for people and programs."""
        return {
            "node": self.number, "host": self.name.decode("utf-8", "replace"), "slots": self.slots,
            "workers": self.load, "memory_bytes": self.memory, "away": not self.link,
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
        """A host joins under a new number."""
        host = self.hosts[number] = Host(number, link, offer)
        return host

    def lose(self, host: Host) -> None:
        """A host is gone, and what was on it."""
        del self.hosts[host.number]

    def take(self) -> Host | None:
        """Choose the host of one more worker, and count it there; ``None``: there are no hosts."""
        host = min((one for one in self.hosts.values() if one.link), key=_share_with_one_more, default=None)
        if host is None:
            return None
        host.load += 1
        return host

    def give_back(self, host: Host) -> None:
        """A worker is no longer there."""
        host.load -= 1


def _share_with_one_more(host: Host) -> tuple[float, int]:
    return (host.load + 1) / host.slots, host.number
