"""A node agent: one per host, started by ``scalepool worker``. It dials out; it listens for large data alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._net.keys import AGENT
from scalepool._runtime.direct import BulkSite
from scalepool._runtime.joining import join
from scalepool._runtime.node_session import NodeSession
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError, ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._net.keys import ClusterKeys

__all__ = ["Agent"]

_LOOK_S: Final = 0.25
_AT_ONCE: Final = 256


class Agent:
    """Starts workers on this host for whoever opens a session on the cluster.

    Parameters
    ----------
    address
        ``tcp://host:port`` of the head.
    keys
        With the agent's own secret.
    offer
        What the host has.
    tell
        Called with what a person may want to know.
    timeout_s
        How long to try to reach the head.

    Raises
    ------
    AuthenticationError, SessionError
        When the head cannot be reached, or does not let us in.
    """

    def __init__(
        self, address: str, keys: ClusterKeys, offer: c.Offer, tell: Callable[[str], object], timeout_s: float
    ) -> None:
        self._tell = tell
        self._sessions: dict[int, NodeSession] = {}
        self._refused: dict[int, str] = {}
        self._stopped = False
        self._told_to_end = False
        self._peer = join(address, keys, AGENT, timeout_s=timeout_s)
        self._site = BulkSite(keys, AGENT, address, tell)
        self._send(offer)

    def run(self) -> bool:
        """Serve until ``stop`` is called or the cluster ends; False when the head was lost instead."""
        peer = self._peer
        while not self._stopped and not self._told_to_end:
            peer.poll(_LOOK_S)
            for _ in range(_AT_ONCE):
                if not peer.receive_into(self._receive):
                    break
            for session in list(self._sessions.values()):
                session.work()
            if not peer.connected or peer.links != 1:  # another head, or one that has forgotten us, knows no session
                return self._told_to_end
        return True

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal's handler."""
        self._stopped = True
        self._peer.wake()

    def close(self) -> None:
        """End all workers, and the link."""
        for session in list(self._sessions.values()):
            session.close()
        self._sessions.clear()
        self._site.close()
        self._peer.flush_and_close()

    def _send(self, message: c.ClusterMessage) -> None:
        self._peer.send(c.encode(message))

    def _receive(self, data: bytes) -> None:
        try:
            message = c.decode(data)
            if type(message) is c.Begin:
                self._begin(message)
            elif type(message) is c.End:
                self._end(message.session)
            elif type(message) is c.Down:
                self._told_to_end = True
            elif type(message) is not c.Ping:
                self._obey(message)
        except ProtocolError as error:
            self._tell(f"dropped a message of the head: {error}")

    def _obey(self, message: c.ClusterMessage) -> None:
        number: int = message.session  # type: ignore[union-attr]  # all that is left has one
        session = self._sessions.get(number)
        if session is not None:
            session.obey(message)
        elif type(message) is c.Launch:
            reason = self._refused.get(number, "its session is over")
            self._send(c.Refused(number, message.worker, reason.encode()))

    def _begin(self, begin: c.Begin) -> None:
        try:
            session = NodeSession(begin, self._send, self._tell, self._site)
        except (ScalepoolError, OSError, ValueError, TypeError) as error:
            self._tell(f"a session cannot have workers here: {error}")
            self._refused[begin.session] = f"no session can be begun there: {error}"
            return
        self._sessions[begin.session] = session
        for fd in session.filenos():
            self._peer.watch(fd)

    def _end(self, number: int) -> None:
        self._refused.pop(number, None)
        session = self._sessions.pop(number, None)
        if session is not None:
            for fd in session.filenos():
                self._peer.unwatch(fd)
            session.close()
