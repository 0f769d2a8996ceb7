"""The connections of a head's peers, beside libzmq: whom nothing came from for too long, and how each ended.

libzmq has heartbeats, but its asking end aborts the process where the number of unheard messages is bounded: while it
does not read from a connection whose other end goes away, the next question hits an assertion (4.3.5). A head bounds
them, so only its peers ask, and the head sees by the kernel when something last came. That also does not depend on how
busy this process is.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CAN_TELL", "Connections"]

_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
CAN_TELL: Final = _TCP_INFO is not None
"""Whether this system says when something last came."""
_ESTABLISHED: Final = 1
"""As a state of TCP."""
_LAST_DATA: Final = slice(52, 56)
"""Where Linux's ``struct tcp_info`` says how many milliseconds ago something came."""
_LATE: Final = 3
"""After so many intervals without a look this process itself had stopped, and what it sees says nothing of others."""


class Connections:
    """Those that are held, by the routing ids of the peers at their other ends.

    Parameters
    ----------
    interval_s
        How often each peer sends something.
    timeout_s
        A connection that nothing has come from for so long is ended.
    """

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_ms = timeout_s * 1000
        self._held: dict[bytes, socket.socket] = {}
        """Tell how they ended even when libzmq has let go of them."""
        self._silent: set[bytes] = set()
        self._looked_at_s = float("-inf")

    def __contains__(self, routing: bytes) -> bool:
        return routing in self._held

    def hold(self, routing: bytes, fd: int) -> None:
        """Watch a connection from now on; ``fd`` stays its owner's."""
        with contextlib.suppress(OSError, ValueError):  # it has ended, or there are no descriptors left
            self._held[routing] = socket.socket(fileno=os.dup(fd))

    def look(self, now_s: float) -> None:
        """End those that have been silent for too long, if it is time to look again."""
        since_s = now_s - self._looked_at_s
        if since_s < self._interval_s:
            return
        self._looked_at_s = now_s
        if since_s > _LATE * self._interval_s:
            return
        for routing, connection in self._held.items():
            if routing not in self._silent and self._is_silent(connection):
                self._silent.add(routing)
                with contextlib.suppress(OSError):  # it ended just now
                    connection.shutdown(socket.SHUT_RDWR)

    def _is_silent(self, connection: socket.socket) -> bool:
        if _TCP_INFO is None:
            return False
        info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA.stop)
        if info[0] != _ESTABLISHED or int.from_bytes(info[_LAST_DATA], "little") <= self._timeout_ms:
            return False
        try:
            connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:  # it ended just now
            return False
        return False  # it has said more than could be heard so far

    def fell_silent(self, routing: bytes) -> bool:
        """Whether a peer that is gone was given up as nothing came from it, and has not closed its connection."""
        with contextlib.suppress(KeyError, OSError), self._held.pop(routing) as connection:
            if routing in self._silent:
                self._silent.discard(routing)
                return True
            if _TCP_INFO is not None:
                return connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] == _ESTABLISHED
        return False

    def hold_only(self, known: Collection[bytes]) -> None:
        """Let go of all others."""
        for routing in [routing for routing in self._held if routing not in known]:
            self._held.pop(routing).close()
            self._silent.discard(routing)
