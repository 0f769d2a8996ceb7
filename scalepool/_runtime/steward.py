"""The steward of a cluster's detached actors: a process beside the head, which starts it when a program wants one.

It is a program and a host at once. As a program it owns the actors, in a session of its own, and so does what the hub
of any program does for its actors: starts their workers, counts calls, restarts. As a host it has gates in place of
workers, through which other programs reach them. It ends with the cluster, and never loads what a user has pickled.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._net.keys import steward_word
from scalepool._runtime.agent import Agent
from scalepool._runtime.gates import GateSession
from scalepool._runtime.house import House
from scalepool._wire import cluster as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._net.keys import ClusterKeys
    from scalepool._runtime.cluster_driver import ClusterSession
    from scalepool._runtime.session_part import SessionPart

__all__ = ["Steward"]

_REPORT_S: Final = 0.5


class Steward(Agent):
    """Serves until the cluster ends.

    Parameters
    ----------
    session
        Its own, on the cluster.
    address, keys, tell
        As of an `Agent`; with the head's secret.
    reconnect_s
        How long to try to reach the head again.
    """

    def __init__(
        self, session: ClusterSession, address: str, keys: ClusterKeys, tell: Callable[[str], object], *,
        reconnect_s: float,
    ) -> None:  # fmt: skip
        self._session = session
        self._house = House(session)
        self._reported: tuple[int, bytes] = (0, b"")
        self._report_at = 0.0
        offer = c.Offer(0, 0, b"steward of detached actors", steward_word(keys))
        super().__init__(address, keys, offer, tell, timeout_s=10.0, reconnect_s=reconnect_s)

    def run(self) -> bool:
        """As the base class; somebody always serves the steward's own hub meanwhile, so that no call waits for that."""
        client = self._session.client
        pumping = threading.Thread(
            target=lambda: client.pump.wait_for(lambda: client.closed), name="scalepool-house", daemon=True
        )
        pumping.start()
        return super().run()

    def stop(self) -> None:
        """End at once: with it the actors end."""
        self._told_to_end = True
        self._peer.wake()

    def _is_over(self) -> bool:
        if monotonic_s() >= self._report_at:
            self._report()
        return self._session.client.closed or super()._is_over()

    def _report(self) -> None:
        self._report_at = monotonic_s() + _REPORT_S
        report = self._node, self._house.report()
        if self._node and report != self._reported and self._link.ready:
            self._reported = report
            self._send(c.Owned(self._session.number, report[1]))

    def _back(self) -> None:
        super()._back()
        self._reported = 0, b""  # a new head knows nothing

    def _part(self, begin: c.Begin) -> SessionPart:
        return GateSession(begin, self._link.send, self._house, self._tell, self._wake)

    def _wake(self) -> Any:
        with contextlib.suppress(OSError):  # it is closed, and nobody waits any more
            self._peer.wake()
