"""Workers on the hosts of a cluster: ordered from its head, which chooses where.

Which host a worker is on is told by the head before anything else of that worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._base.amounts import UNIT
from scalepool._base.tuples import NamedTuple
from scalepool._core.events import HostFacts, HostsChanged
from scalepool._core.placement import Rest
from scalepool._core.resources import CPU, ENOUGH, GPU, MEMORY, label_name
from scalepool._wire import cluster as c
from scalepool._wire.stewards import GATE, STEWARD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ClusterEngine", "ClusterNode"]


class ClusterNode(NamedTuple):
    """A host of the cluster."""

    number: int
    slots: int
    memory_bytes: int
    host: str
    rest: Rest = Rest()
    leaving: int = 0

    @property
    def own_amounts(self) -> dict[str, int]:
        """What it has, in units by name: CPU, GPU where there are any, memory, others."""
        amounts = {CPU: self.slots * UNIT}
        if self.rest.gpus:
            amounts[GPU] = self.rest.gpus * UNIT
        return {**amounts, MEMORY: self.memory_bytes * UNIT, **self.rest.resources}

    @property
    def amounts(self) -> dict[str, int]:
        """The same, and what stands for its labels."""
        labels = {label_name(*label): ENOUGH * UNIT for label in self.rest.labels.items()}
        return {**self.own_amounts, **labels}


class ClusterEngine:
    """What a driver orders of its workers, as messages to the head.

    Parameters
    ----------
    session
        Its number.
    send
        Sends to the head.
    homes
        Which host each worker is on, for others who want to know.

    Attributes
    ----------
    nodes
        The hosts that there are now, by number.
    """

    def __init__(
        self,
        session: int,
        send: Callable[[c.Launch | c.Kill | c.Look | c.Withdraw | c.End], object],
        homes: dict[int, int] | None = None,
    ) -> None:
        self.session = session
        self._send = send
        self.nodes: dict[int, ClusterNode] = {}
        self.homes = {} if homes is None else homes
        self.fates: Mapping[int, object] = {}
        """As of a local engine: the flight records are with the agents."""
        self.gpus: Sequence[str] = ()

    @property
    def slots(self) -> int:
        """How many workers the cluster has room for at once, on hosts that stay."""
        return sum(node.slots for node in self.nodes.values() if not node.leaving)

    @property
    def memory_bytes(self) -> int:
        """Memory of all hosts together."""
        return sum(node.memory_bytes for node in self.nodes.values())

    def take_nodes(self, message: c.Nodes) -> None:
        """The head tells which hosts there are."""
        columns = zip(
            message.nodes, message.slots, message.memory, message.hosts, message.rest, message.leaving, strict=False
        )
        self.nodes = {
            number: ClusterNode(number, slots, memory, host.decode("utf-8", "replace"), Rest.decode(rest), leaving)
            for number, slots, memory, host, rest, leaving in columns
        }

    def facts(self) -> HostsChanged:
        """Return what a hub is to know of the hosts."""
        return HostsChanged(
            tuple(
                HostFacts(node.number, node.host, node.slots, node.amounts, node.leaving)
                for node in self.nodes.values()
            )
        )

    def on_node(self, node: int) -> list[int]:
        """Return the workers on a host."""
        return [worker for worker, home in self.homes.items() if home == node]

    def prepare(self, limits: Mapping[str, str]) -> None:
        """Agents get ready when the first worker is ordered there."""

    def start(
        self, worker: int, spec_bytes: bytes, gpus: Sequence[int] = (), objects: Sequence[int] = (), host: int = 0
    ) -> str | None:
        """Order a worker, on this host or on any; what becomes of it comes as events."""
        if spec_bytes == GATE:
            host = STEWARD
        self._send(c.Launch(self.session, worker, spec_bytes, objects, host, gpus))
        return None

    def kill(self, worker: int, *, force: bool) -> None:
        """Have a worker killed, with its children."""
        self._send(c.Kill(self.session, worker, int(force)))

    def look(self, worker: int, revocation: int) -> None:
        """Ask for a worker's flight record."""
        self._send(c.Look(self.session, worker, revocation))

    def revoke(self, worker: int, number: int) -> None:
        """Have a worker begin nothing that it holds; see the command Revoke."""
        self._send(c.Withdraw(self.session, worker, number))

    def bury(self, worker: int) -> None:
        """Forget a worker that is gone."""
        self.homes.pop(worker, None)

    def close(self) -> None:
        """Tell the head that the session is over."""
        self._send(c.End(self.session))
