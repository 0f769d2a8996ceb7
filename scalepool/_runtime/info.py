"""What a session is and has, for its user."""

from __future__ import annotations

import json
import os

# Where hashlib has it from; that would load OpenSSL.
from _blake2 import blake2b
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.amounts import UNIT
from scalepool._base.tuples import NamedTuple
from scalepool._runtime import session as sessions
from scalepool._runtime.offers import cluster_nodes, free_of, total_of
from scalepool._runtime.session import DriverSession, WorkerSession
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Node", "available_resources", "check_same", "cluster_resources", "get_gpu_ids", "node_id_of", "nodes",
]  # fmt: skip

_ARGUMENTS: Final = {
    "store_limit_bytes": "object_store_memory",
    "spill_limit_bytes": "spill_limit",
    "spill_dir": "spill_directory",
    "worker_output": "log_to_driver",
}
"""Arguments of ``init`` that are not called as their settings are."""


class Node(NamedTuple):
    """A host of the session.

    Attributes
    ----------
    node_id
        A number that no other session's has, as text.
    host_name
        As the host calls itself.
    address
        Where others find it; ``"local"``: it is the driver's own host.
    alive
        Whether new tasks can run there: it does not leave.
    resources
        What it has, by name; of memory bytes.
    labels
        As given to ``init``, or to ``scalepool worker``.
    """

    node_id: str
    host_name: str
    address: str
    alive: bool
    resources: Mapping[str, float]
    labels: Mapping[str, str]


def check_address(address: str) -> None:
    """Raise ValueError for what is no address of a cluster."""
    from scalepool._net.addresses import split_endpoint

    try:
        split_endpoint(address)
    except SessionError as error:
        raise ValueError(str(error)) from None


def check_same(session: DriverSession, given: Mapping[str, Any], address: str | None = None) -> None:
    """Raise SessionError unless ``session`` has been started with what is given, or has that anyway."""
    from scalepool.config import settings

    if address is not None and address != session.address:
        raise SessionError(
            f"a session runs already, at {session.address}, and init() asks for {address}: call scalepool.shutdown() "
            "first, or use the one that runs: init(..., ignore_reinit_error=True)"
        )
    asked = settings(given, {})
    for name, value in given.items():
        there, wanted = getattr(session.settings, name), getattr(asked, name)
        if value is not None and there != wanted:
            argument = _ARGUMENTS.get(name, name)
            raise SessionError(
                f"a session with {argument}={there!r} runs already, and init() asks for {argument}={wanted!r}: call "
                f"scalepool.shutdown() first, or use the one that runs: init(..., ignore_reinit_error=True)"
            )


def cluster_resources() -> dict[str, float]:
    """Return what the session has in all, by name; of memory bytes. Mirrors ``ray.cluster_resources``."""
    return _whole(total_of(sessions.current()))


def available_resources() -> dict[str, float]:
    """Return what of it nobody holds now. Mirrors ``ray.available_resources``.

    Pools and executors hold nothing. What a task holds that waits for others does not count its CPUs.

    Raises
    ------
    SessionError
        When the session ends meanwhile.
    """
    return _whole(free_of(sessions.current()))


def nodes() -> list[Node]:
    """Return the hosts of the session, in a task one. Mirrors ``ray.nodes``, whose dicts are `Node` here."""
    session = sessions.current()
    if isinstance(session, DriverSession) and session.address != "local":
        return _cluster_nodes(session)
    labels = json.loads(session.settings.labels or "{}")
    return [Node(node_id_of(session), os.uname().nodename, "local", True, cluster_resources(), labels)]


def _cluster_nodes(session: DriverSession) -> list[Node]:
    return [
        Node(str(node.number), node.host, session.address, not node.leaving, _whole(node.own_amounts), node.rest.labels)
        for node in cluster_nodes(session)
    ]


def get_gpu_ids() -> list[int | str]:
    """Return the GPUs of the calling task or actor, as ``CUDA_VISIBLE_DEVICES`` names them; outside of one none.

    Mirrors ``ray.get_gpu_ids``.
    """
    session = sessions.existing()
    names = session.gpus if isinstance(session, WorkerSession) else ()
    return [int(name) if name.isdecimal() else name for name in names]


def _whole(amounts: Mapping[str, int]) -> dict[str, float]:
    return {name: max(0, amount) / UNIT for name, amount in amounts.items()}


def node_id_of(session: DriverSession | WorkerSession) -> str:
    """Return what `Node` has as its id."""
    # The number itself is a part of what workers must know to be let in.
    return blake2b(session.client.session.to_bytes(8, "little"), digest_size=8).hexdigest()
