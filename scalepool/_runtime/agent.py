"""A node agent: one per host, started by ``scalepool worker``. It dials out; it listens for large data alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.departure import Departure, Stay
from scalepool._net.keys import AGENT
from scalepool._runtime.direct import BulkSite
from scalepool._runtime.joining import introduction, join
from scalepool._runtime.lasting import LastingLink
from scalepool._runtime.node_session import NodeSession
from scalepool._runtime.session_part import RefusedSession, SessionPart
from scalepool._wire import cluster as c
from scalepool._wire.carrying import unpack_carry
from scalepool.errors import ProtocolError, ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._net.keys import ClusterKeys

__all__ = ["Agent"]

_LOOK_S: Final = 0.25
_AT_ONCE: Final = 256
_GRACE_S: Final = 10.0
"""How long after that the head may take to say that nothing is left here."""
_ALONE_S: Final = 3.0
"""How long it has when the link to it is cut meanwhile."""


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
        How long to try to reach the head at first.
    reconnect_s
        How long to try to reach it again when the link was cut. Workers go on meanwhile.

    Raises
    ------
    AuthenticationError, SessionError
        When the head cannot be reached, or does not let us in.
    """

    def __init__(
        self, address: str, keys: ClusterKeys, offer: c.Offer, tell: Callable[[str], object], *,
        timeout_s: float, reconnect_s: float,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._offer = offer
        self._node = 0
        self._sessions: dict[int, SessionPart] = {}
        self._ending: list[threading.Thread] = []
        self.gpus: Sequence[str] = ()
        """Of this host, as CUDA is told of them."""
        self._stops = 0
        self._stay = Stay()
        self._departure = Departure(self._stay, monotonic_s())
        self._leave_by: float | None = None
        self._told_to_end = False
        self._peer = join(address, keys, AGENT, timeout_s=timeout_s)
        self._link = LastingLink(self._peer, introduction(keys.cluster), reconnect_s)
        self._link.on_cut = self._cut
        self._link.on_back = self._back
        self._site = BulkSite(keys, AGENT, address, tell)
        self._send(offer)

    @property
    def trouble(self) -> str:
        """Why the link to the head was given up."""
        return self._link.trouble

    def run(self) -> bool:
        """Serve until ``stop`` is called or the cluster ends; False when the link to the head was given up instead."""
        peer, link = self._peer, self._link
        while not self._is_over():
            peer.poll(_LOOK_S)
            link.look()
            for _ in range(_AT_ONCE):
                if not peer.receive_into(self._receive):
                    break
            now = monotonic_s()
            for session in list(self._sessions.values()):
                session.work()
                if session.is_forgotten(now):
                    self._tell("a program did not come back: its workers are ended")
                    self._end(session.number)
            if link.trouble:
                return self._told_to_end or self._leave_by is not None
        return True

    def stay(self, stay: Stay) -> None:
        """Leave by itself, as this says."""
        self._stay = stay
        self._departure = Departure(stay, monotonic_s())

    def stop(self) -> None:
        """Have the host leave the cluster, which ends ``run``; the second time at once. From any signal's handler."""
        self._stops += 1
        self._departure.is_asked = True
        self._peer.wake()

    def _is_over(self) -> bool:
        """Whether to end; begins to leave when it is time for that."""
        now = monotonic_s()
        if self._told_to_end or self._stops > 1:
            return True
        if self._leave_by is not None:
            return now >= self._leave_by
        reason = self._departure.reason(now, sum(session.worker_count for session in self._sessions.values()))
        if not reason:
            return False
        if not self._sessions:
            return True
        limit_s = self._stay.drain_s
        self._tell(f"leaving the cluster, since {reason}: what runs here has {limit_s:g} seconds to end")
        self._leave_by = now + limit_s + _GRACE_S
        self._ask_to_leave(limit_s)
        return False

    def _ask_to_leave(self, limit_s: float) -> None:
        self._send(c.Drain(0, b"", int(max(0.0, limit_s) * 1000)))

    def close(self) -> None:
        """End all workers, and the link."""
        for number in list(self._sessions):
            self._end(number)
        for thread in self._ending:
            thread.join()
        self._site.close()
        self._peer.flush_and_close()

    def _send(self, message: c.ClusterMessage) -> None:
        self._link.send(c.encode(message))

    # ---- the link ----

    def _cut(self) -> None:
        if self._node:
            self._tell("the link to the head is cut; workers go on, and it is tried again")
        if self._leave_by is not None:  # nobody may be there any more who could say that nothing is left
            self._leave_by = min(self._leave_by, monotonic_s() + _ALONE_S)
        for session in self._sessions.values():
            session.cut()

    def _back(self) -> None:
        if not self._node:
            self._send(self._offer)  # the first answer was lost with the link
            return
        tokens = [session.token for session in self._sessions.values()]
        self._send(c.Again(self._node, list(self._sessions), tokens))
        self._send(self._offer)
        if self._leave_by is not None:
            self._ask_to_leave(self._leave_by - _GRACE_S - monotonic_s())

    def _joined(self, node: int) -> None:
        if node == self._node:
            self._tell("the link to the head is back")
        elif self._node:
            self._tell("the head had given this host up: what it had here is ended, and it joined anew")
            for number in list(self._sessions):
                self._end(number)
        self._node = node

    # ---- what the head says ----

    def _receive(self, data: bytes) -> None:
        if not self._link.take(data):
            return
        try:
            carried = unpack_carry(data)
            if carried is not None:
                session = self._sessions.get(carried[0])
                if session is not None:
                    session.carried(*carried[2:])
                return
            message = c.decode(data)
            if type(message) is c.Begin:
                self._begin(message)
            elif type(message) is c.End:
                self._end(message.session)
            elif type(message) is c.Joined:
                self._joined(message.node)
            elif type(message) is c.Down or type(message) is c.Leave:
                self._told_to_end = True
            elif type(message) is not c.Ping:
                self._obey(message)
        except ProtocolError as error:
            self._tell(f"dropped a message of the head: {error}")

    def _obey(self, message: c.ClusterMessage) -> None:
        session = self._sessions.get(message.session)  # type: ignore[union-attr]  # all that is left has one
        if session is not None:
            session.obey(message)

    def _begin(self, begin: c.Begin) -> None:
        if begin.session in self._sessions:
            return
        try:
            session = self._part(begin)
        except (ScalepoolError, OSError, ValueError, TypeError) as error:
            self._tell(f"a session cannot have workers here: {error}")
            session = RefusedSession(begin, self._link.send, f"no session can be begun there: {error}")
        self._sessions[begin.session] = session
        for fd in session.filenos():
            self._peer.watch(fd)

    def _part(self, begin: c.Begin) -> SessionPart:
        """Return a session's part on this host."""
        session = NodeSession(begin, self._link.send, self._tell, self._site)
        session.lend(self.gpus)
        return session

    def _end(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is None:
            return
        for fd in session.filenos():
            self._peer.unwatch(fd)
        # Workers that do not want to end are waited for some seconds, and others' workers have things to say meanwhile.
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        thread = threading.Thread(target=session.close, name="scalepool-session-end")
        thread.start()
        self._ending.append(thread)
