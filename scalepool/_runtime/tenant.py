"""What a driver tells the head of its use of the cluster: how much it could use, and that it has left a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.events import Move, ShareChanged
from scalepool._core.placement import EVICTED, STAYS
from scalepool._wire import cluster as c

if TYPE_CHECKING:
    from scalepool._core.events import Event
    from scalepool._core.hub import Hub
    from scalepool._runtime.cluster_link import ClusterLink
    from scalepool.engines.cluster import ClusterEngine

__all__ = ["Tenant", "event_of"]

_EVERY_S: Final = 0.2
"""How often the head hears what could be used, at most."""
_AGAIN_S: Final = 2.0
"""How often it hears it at least, while anything goes on here."""


def event_of(message: c.ClusterMessage) -> Event | None:
    """Return what the head says of shares and moves as an event for the hub; ``None``: it is something else."""
    if type(message) is c.Share:
        return ShareChanged(message.workers)
    if type(message) is c.Shift:
        return Move(message.source, message.target, message.workers)
    if type(message) is c.Opened:  # again, after the link was cut: what another head said of shares is void
        return ShareChanged(0)
    return None


class Tenant:
    """Watches a hub on behalf of the head.

    Parameters
    ----------
    hub
        Of the session.
    link
        To the head.
    engine
        Knows the hosts, and which worker is on which.
    """

    __slots__ = ("_again_at", "_due_at", "_engine", "_hub", "_left", "_link", "_told")

    def __init__(self, hub: Hub, link: ClusterLink, engine: ClusterEngine) -> None:
        self._hub = hub
        self._link = link
        self._engine = engine
        self._told = 0
        self._due_at = self._again_at = 0.0
        self._left: set[int] = set()

    def look(self, now: float) -> None:
        """Tell what there is to tell."""
        if self._link.closed:
            return
        if now >= self._due_at:
            self._due_at = now + _EVERY_S
            wanted = self._hub.wanted()
            if wanted != self._told or now >= self._again_at:  # the head may be a new one
                self._told, self._again_at = wanted, now + _AGAIN_S
                self._link.talks.tell_head(c.Wants(self._engine.session, wanted))
        for number, node in self._engine.nodes.items():
            if node.leaving == STAYS or number in self._left:
                continue
            if not self._engine.on_node(number) and not self._link.porter.brings_from(number):
                self._left.add(number)
                self._link.talks.leave(number)

    def reason_of(self, worker: int) -> str:
        """Return why a worker has ended, where that was not its own doing."""
        node = self._engine.nodes.get(self._engine.homes.get(worker, 0))
        if node is None or node.leaving != EVICTED:
            return ""
        return f"its host {node.host} was drained, and it had not ended when the time for that was up"
