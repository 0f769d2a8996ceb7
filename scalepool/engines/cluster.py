"""Workers on the hosts of a cluster: ordered from its head, which chooses where.

Which host a worker is on is told by the head before anything else of that worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._base.tuples import NamedTuple
from scalepool._wire import cluster as c

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ClusterEngine", "ClusterNode"]


class ClusterNode(NamedTuple):
    """A host of the cluster."""

    number: int
    slots: int
    memory_bytes: int
    host: str


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
        self._session = session
        self._send = send
        self.nodes: dict[int, ClusterNode] = {}
        self.homes = {} if homes is None else homes
        self.fates: Mapping[int, object] = {}
        """As of a local engine: the flight records are with the agents."""
        self.gpus: Sequence[str] = ()

    @property
    def slots(self) -> int:
        """How many workers the cluster has room for at once."""
        return sum(node.slots for node in self.nodes.values())

    @property
    def memory_bytes(self) -> int:
        """Memory of all hosts together."""
        return sum(node.memory_bytes for node in self.nodes.values())

    def take_nodes(self, message: c.Nodes) -> None:
        """The head tells which hosts there are."""
        columns = zip(message.nodes, message.slots, message.memory, message.hosts, strict=False)
        self.nodes = {
            number: ClusterNode(number, slots, memory, host.decode("utf-8", "replace"))
            for number, slots, memory, host in columns
        }

    def on_node(self, node: int) -> list[int]:
        """Return the workers on a host."""
        return [worker for worker, home in self.homes.items() if home == node]

    def prepare(self, limits: Mapping[str, str]) -> None:
        """Agents get ready when the first worker is ordered there."""

    def start(
        self, worker: int, spec_bytes: bytes, gpus: Sequence[int] = (), objects: Sequence[int] = ()
    ) -> str | None:
        """Order a worker; what becomes of it comes as events."""
        self._send(c.Launch(self._session, worker, spec_bytes, objects))
        return None

    def kill(self, worker: int, *, force: bool) -> None:
        """Have a worker killed, with its children."""
        self._send(c.Kill(self._session, worker, int(force)))

    def look(self, worker: int, revocation: int) -> None:
        """Ask for a worker's flight record."""
        self._send(c.Look(self._session, worker, revocation))

    def revoke(self, worker: int, number: int) -> None:
        """Have a worker begin nothing that it holds; see the command Revoke."""
        self._send(c.Withdraw(self._session, worker, number))

    def bury(self, worker: int) -> None:
        """Forget a worker that is gone."""
        self.homes.pop(worker, None)

    def close(self) -> None:
        """Tell the head that the session is over."""
        self._send(c.End(self._session))
