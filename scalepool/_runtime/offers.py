"""What the hosts of a session have, and what is free of it, as a driver or a worker finds out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._core.resources import LABEL, summed
from scalepool._runtime.demands import capacity_of
from scalepool._runtime.session import DriverSession
from scalepool._wire.messages import Inquire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._runtime.session import WorkerSession
    from scalepool._wire.messages import Inventory
    from scalepool.engines.cluster import ClusterNode

__all__ = ["cluster_nodes", "free_of", "offers_of", "total_of"]


def cluster_nodes(session: DriverSession) -> list[ClusterNode]:
    """Return the hosts of a driver's cluster."""
    found: Mapping[int, Any] = session.engine.nodes  # type: ignore[attr-defined]  # as that of a cluster has
    return list(found.values())


def offers_of(session: DriverSession | WorkerSession) -> list[tuple[str, Mapping[str, int]]]:
    """Return what each host that stays is called and has, in units by name, with what stands for its labels.

    Raises
    ------
    SessionError
        When the session ends meanwhile.
    """
    if isinstance(session, DriverSession):
        if session.address == "local":
            return [("", capacity_of(session.settings))]
        return [(node.host, node.amounts) for node in cluster_nodes(session) if not node.leaving]
    if session.settings.num_cpus is not None:  # which drivers tell workers of their own host
        return [("", capacity_of(session.settings))]
    by_host: dict[int, dict[str, int]] = {}
    found = _ask(session, whole=1)
    for name, amount, host in zip(found.resources, found.amounts, found.hosts, strict=True):
        by_host.setdefault(host, {})[name.decode()] = amount
    return [(f"host {number}", amounts) for number, amounts in by_host.items()]


def total_of(session: DriverSession | WorkerSession) -> dict[str, int]:
    """Return what there is in all, in units by name."""
    return _without_labels(summed(amounts for _, amounts in offers_of(session)))


def free_of(session: DriverSession | WorkerSession) -> dict[str, int]:
    """Return what of that nobody holds; raises as `offers_of`."""
    if isinstance(session, DriverSession):
        free = session.hub.free_resources()
        return total_of(session) if free is None else _without_labels(free)
    found = _ask(session, whole=0)
    return _without_labels(summed([{name.decode(): n} for name, n in zip(found.resources, found.amounts, strict=True)]))


def _without_labels(amounts: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if not name.startswith(LABEL)}


def _ask(session: WorkerSession, whole: int) -> Inventory:
    request = session.client.new_object_id()
    found: Inventory = session.client.questions.ask(request, Inquire(request, whole))
    return found
