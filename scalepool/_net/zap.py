"""Who may come in: the ZAP handler of a head, a thread of its own that answers libzmq for each newcomer.

It knows the public keys that are allowed and denies everything else, whatever goes wrong. Should it ever end, libzmq
denies, too, since the head's socket enforces the domain; and `Doorkeeper.running` says so.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

from scalepool._base.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DOMAIN", "Doorkeeper", "verdict"]

DOMAIN: Final = b"scalepool"
"""Must not be empty: with an empty one libzmq lets everybody in past the handler."""
_ENDPOINT: Final = "inproc://zeromq.zap.01"
_STOP: Final = b"stop"
_TELL_EVERY_S: Final = 10.0


def verdict(request: Sequence[bytes], allowed: Mapping[bytes, str]) -> tuple[bytes, str | None]:
    """Decide on one request of ZAP 1.0.

    Parameters
    ----------
    request
        Its frames: version, request id, domain, address, routing id, mechanism, credentials.
    allowed
        Role by public key in Z85.

    Returns
    -------
    tuple
        The request id to answer to, and the role of the newcomer; ``None``: denied.
    """
    if len(request) != 7:
        return (request[1] if len(request) > 1 else b"1"), None
    version, request_id, domain, _address, _routing, mechanism, key = request
    if version != b"1.0" or domain != DOMAIN or mechanism != b"CURVE" or len(key) != 32:
        return request_id, None
    return request_id, allowed.get(z85.encode(key))


class Doorkeeper:
    """Answers ZAP requests of one context's sockets.

    Parameters
    ----------
    context
        The context; a handler serves all sockets of it.
    allowed
        Role by public key in Z85.

    Attributes
    ----------
    on_denied
        Called, in the handler's thread and at most every ten seconds, with (how many newcomers since the last time,
        the address of the last one).
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: Mapping[bytes, str]) -> None:
        self._allowed = dict(allowed)
        self.on_denied: Callable[[int, str], object] | None = None
        self._denied = 0
        self._told_at = float("-inf")
        self._questions = context.socket(zmq.REP)
        self._questions.linger = 0
        self._questions.bind(_ENDPOINT)
        self._stop_here = context.socket(zmq.PAIR)
        self._stop_here.bind("inproc://scalepool-doorkeeper")
        self._stop = context.socket(zmq.PAIR)
        self._stop.linger = 0
        self._stop.connect("inproc://scalepool-doorkeeper")
        self._thread = threading.Thread(target=self._serve, name="scalepool-doorkeeper", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether newcomers are still answered; when not, nobody gets in any more."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread and close its sockets."""
        if self._thread.is_alive():
            self._stop.send(_STOP)
            self._thread.join()
        self._stop.close()

    def _serve(self) -> None:
        try:
            while True:
                ready = dict(zmq.zmq_poll([(self._questions, zmq.POLLIN), (self._stop_here, zmq.POLLIN)], -1))
                if self._stop_here in ready:
                    return
                self._answer()
        finally:
            self._questions.close()
            self._stop_here.close()

    def _answer(self) -> None:
        try:
            request = self._questions.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:  # who asked is gone
            return
        role = None
        request_id = request[1] if len(request) > 1 else b""
        try:
            request_id, role = verdict(request, self._allowed)
        finally:
            # Whatever has happened, the answer is due: a REP socket that owes one hears nobody else.
            code, text, user = (b"200", b"OK", role.encode()) if role else (b"400", b"no key of this cluster", b"")
            self._questions.send_multipart([b"1.0", request_id, code, text, user, b""])
        if role is None:
            self._tell(request[3] if len(request) > 3 else b"")

    def _tell(self, address: bytes) -> None:
        if self.on_denied is None:
            return
        self._denied += 1
        now = monotonic_s()
        if now >= self._told_at + _TELL_EVERY_S:
            count, self._denied, self._told_at = self._denied, 0, now
            self.on_denied(count, address.decode("ascii", "replace"))
