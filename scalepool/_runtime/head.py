"""The head of a cluster as a process: its one socket, and the switchboard behind it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.attendance import Attendance
from scalepool._core.stewardship import Stewardship
from scalepool._core.switchboard import Switchboard
from scalepool._net.curve import Heartbeats, Hub, role_of
from scalepool._net.keys import steward_word
from scalepool._runtime.joining import LINK_MESSAGE_BYTES, introduction
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._net.keys import ClusterKeys

__all__ = ["Head"]

_LOOK_S: Final = 0.25
"""How often to find out who is there..."""
_SOON_S: Final = 0.02
"""... and after how long when a connection has ended: libzmq tells of that a moment before it knows whose it was."""
_AT_ONCE: Final = 256
"""Messages between two looks at the clock."""
_PING: Final = c.encode(c.Ping())
_BEATS: Final = Heartbeats()


class Head:
    """Listens for drivers and agents, and brings them together.

    Parameters
    ----------
    host, port
        Where to listen; with port 0 the system chooses one.
    keys
        The cluster's, the head's own secret among them.
    tell
        Called with what a person may want to know.
    heartbeats
        Of all links; agents and drivers take them over.
    host_grace_s
        A host that is lost is waited for so long before its workers count as dead.

    Raises
    ------
    SessionError
        When it cannot listen there.
    """

    def __init__(
        self, host: str, port: int, keys: ClusterKeys, tell: Callable[[str], object], heartbeats: Heartbeats = _BEATS,
        host_grace_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._tell = tell
        # Those who come back from an earlier head have lower numbers.
        first = int(time.time() * 1000) << 16
        self.start_steward: Callable[[], str] | None = None
        """Starts the steward of detached actors; returns why that cannot be, or nothing."""
        self._stewardship = Stewardship(steward_word(keys))
        self._board = Switchboard(introduction(keys.cluster, heartbeats), first, host_grace_s, self._stewardship)
        self._attendance = Attendance()
        self._banned: set[bytes] = set()
        self._looked_at = 0.0
        self._look_by: float | None = None
        """When to look although it is not time for that."""
        self._stopped = False
        self._hub = Hub(
            host, port, keys, max_message_bytes=LINK_MESSAGE_BYTES, heartbeats=heartbeats, on_denied=self._denied
        )
        self._hub.on_noise = self._heard_noise
        self.address = self._hub.address

    def run(self) -> None:
        """Serve until ``stop`` is called, or somebody asks for the cluster's end.

        Raises
        ------
        SessionError
            When newcomers are no longer looked at, so that nobody could get in.
        """
        while not self._stopped and not self._board.down:
            arrived = self._hub.poll(_SOON_S if self._look_by is not None else _LOOK_S)
            if self._is_due(monotonic_s()):
                self._look()  # first: if this process was stopped meanwhile, nobody is gone for that
            for _ in range(_AT_ONCE if arrived else 0):
                if not self._hub.receive_into(self._receive):
                    break

    def _is_due(self, now: float) -> bool:
        """Whether to find out who is there: from time to time, and soon after somebody may have gone."""
        if self._hub.has_ended and self._look_by is None:
            self._look_by = now + _SOON_S
        # What is overdue does not wait for the other: only then it is seen that this process was stopped meanwhile.
        return now >= self._looked_at + _LOOK_S or (self._look_by is not None and now >= self._look_by)

    def stop(self) -> None:
        """End ``run``; from any thread, or a signal's handler."""
        self._stopped = True
        self._hub.wake()

    def close(self) -> None:
        """Close the socket. Agents and drivers notice."""
        self._hub.close()

    def _receive(self, link: bytes, data: bytes) -> None:
        if link in self._banned:
            return
        try:
            sends = self._board.receive(link, role_of(link), data)
        except ProtocolError as error:
            # It has a key of ours, so it is a bug or another version. It is gone for us, and hears so by silence.
            self._tell(f"a {role_of(link)} is no longer listened to: {error}")
            self._banned.add(link)
            sends = self._board.lose(link, "what it said made no sense")
        self._send(sends)

    def _send(self, sends: list[tuple[bytes, bytes]]) -> None:
        for link, data in sends:
            if not self._hub.send(link, data):
                self._lost(link)

    def _look(self) -> None:
        self._looked_at, self._hub.has_ended = monotonic_s(), False
        if self._look_by is not None and self._looked_at >= self._look_by:
            self._look_by = None
        if not self._hub.safe:
            raise SessionError("newcomers are no longer looked at, so nobody can get in: the head ends")
        if self._stewardship.is_wanted:
            self._stewardship.is_wanted = False
            start = self.start_steward
            self._stewardship.trouble = "this head was not told how" if start is None else start()
        self._send(self._board.tick(self._looked_at))
        self._tell_news()
        lost = [link for link in self._board.links if not self._hub.send(link, _PING)]
        # Drivers first: what nobody could be told of is not lost for good.
        for link in sorted(lost, key=role_of, reverse=True):
            self._lost(link)
        self._banned = {link for link in self._banned if self._hub.send(link, _PING)}
        self._hub.hold_only({*self._board.links, *self._banned})

    def _lost(self, link: bytes) -> None:
        silent = self._hub.fell_silent(link)
        self._send(self._board.lose(link, "the link to it was lost", silent=silent))

    def _tell_news(self) -> None:
        for line in self._attendance.look(self._board.report()):
            self._tell(line)

    def _denied(self, count: int, address: str) -> None:
        self._tell(f"{count} refused without a key of this cluster, the last from {address}")

    def _heard_noise(self, count: int, address: str) -> None:
        origin = f", the last from {address}" if address else ""
        self._tell(
            f"{count} connections ended without a word of this protocol{origin}: port scanners, or other programs"
        )
