"""What every part of a session on a host has, also one that could not be begun: its end of the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.talks import Talk
from scalepool._wire import cluster as c
from scalepool.config import Settings
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RefusedSession", "SessionPart"]

_SLACK_S: Final = 5.0
"""A driver that comes back in the last moment is told to the hosts after that at most."""


class SessionPart:
    """One session's part on this host.

    Parameters
    ----------
    begin
        What the head says of the session.
    send
        Sends to the head.

    Attributes
    ----------
    number, token
        The session's.
    """

    def __init__(self, begin: c.Begin, send: Callable[[bytes], object]) -> None:
        self.number = begin.session
        self.token = begin.token
        self._node = begin.node
        self._talk = Talk(begin.session, begin.node, send)
        self._conversation = self._talk.conversation
        self._send = self._talk.say
        self._patience_s = Settings().reconnect_s
        self._cut_at: float | None = None

    @property
    def worker_count(self) -> int:
        """How many there are here."""
        return 0

    def lend(self, gpus: Sequence[str]) -> None:
        """Let workers have these GPUs of the host, as CUDA is told of them."""

    def filenos(self) -> list[int]:
        """Return descriptors that are readable when there is something to do."""
        return []

    def work(self) -> None:
        """Pass on what workers say, and tell what became of processes; never wait."""

    def close(self) -> None:
        """End all workers, remove everything."""

    # ---- the link ----

    def cut(self) -> None:
        """The link to the head is cut."""
        if self._cut_at is None:
            self._cut_at = monotonic_s()
        self._conversation.cut()

    def is_forgotten(self, now: float) -> bool:
        """Whether its driver has not been heard of for too long since the link was cut."""
        return self._cut_at is not None and now >= self._cut_at + self._patience_s + _SLACK_S

    def obey(self, message: c.ClusterMessage) -> None:
        """Take in what comes for this session.

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        if type(message) is c.Said:
            data = self._talk.hear(message)
            if data is not None:
                self._take(c.decode(data))
        elif type(message) is c.Heard:
            self._conversation.known(message.heard)
        elif type(message) is c.Renew:
            self._talk.renew()
        elif type(message) is c.Resume:
            self._cut_at = None
            self._talk.resume(message.heard)

    def carried(self, number: int, heard: int, worker: int, data: bytes) -> None:
        """Take in something for a worker; ``number`` and ``heard`` as in `Said`.

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        if self._talk.takes(number, heard, len(data)):
            self._to_worker(worker, data)

    def _to_worker(self, worker: int, data: bytes) -> None:
        """Have a worker hear something; there is none."""

    def _take(self, message: c.ClusterMessage) -> None:
        raise ProtocolError(f"a driver sent a {type(message).__name__} message")


class RefusedSession(SessionPart):
    """One that could not be begun: whatever is ordered here is refused.

    Parameters
    ----------
    begin, send
        As of a `SessionPart`.
    reason
        Why.
    """

    def __init__(self, begin: c.Begin, send: Callable[[bytes], object], reason: str) -> None:
        super().__init__(begin, send)
        self._reason = reason

    def _take(self, message: c.ClusterMessage) -> None:
        if type(message) is c.Launch:
            self._send(c.Refused(self.number, message.worker, self._reason.encode()))
