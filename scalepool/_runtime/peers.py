"""Who is who among the processes of a session, and the news that one of them is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._runtime.session import WorkerSession, current
from scalepool._wire.actors import WatchPeers

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["own_number", "watch_peers"]


def own_number() -> int:
    """Return the number of this process in its session; 0: it is the driver."""
    return current().client.peer


def watch_peers(tell: Callable[[int], object]) -> None:
    """Have ``tell`` called with the number of each worker that is gone from now on, by whichever thread learns of it.

    To be called in a worker, such as an actor; drivers end with their session.
    """
    session = current()
    assert isinstance(session, WorkerSession)
    session.station.mourners.append(tell)
    session.client.post(WatchPeers(), now=True)
