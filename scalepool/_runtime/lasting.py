"""A link to the head that comes back: who has it introduces himself again, and says what he is in.

libzmq connects again by itself, at first after a tenth of a second, then every two. What is said meanwhile is dropped
here: conversations keep it (`scalepool._runtime.talks`), and the rest is said anew when the link is back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.clock import monotonic_s
from scalepool._wire import cluster as c
from scalepool._wire.handshake import decode_introduction, differences, encode_introduction, is_introduction
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._net.curve import Peer
    from scalepool._wire.handshake import Introduction

__all__ = ["LastingLink"]


class LastingLink:
    """One side of a link to a head.

    Parameters
    ----------
    peer
        The link, which stands and is introduced.
    own
        What to say of ourselves.
    patience_s
        How long it may be cut before it is given up.

    Attributes
    ----------
    peer
        As given.
    ready
        Whether it stands.
    trouble
        Why it was given up; empty: it was not.
    on_cut, on_back
        Called when it is cut, or another one, and when that is introduced.
    """

    __slots__ = ("_cut_at", "_links", "_own", "_patience_s", "on_back", "on_cut", "peer", "ready", "trouble")

    def __init__(self, peer: Peer, own: Introduction, patience_s: float) -> None:
        self.peer = peer
        self._own = encode_introduction(own), own
        self._patience_s = patience_s
        self._links = 1  # the one that whoever has made it has introduced himself on
        self._cut_at = 0.0
        self.ready = True
        self.trouble = ""
        self.on_cut: Callable[[], object] = bool
        self.on_back: Callable[[], object] = bool

    def look(self) -> None:
        """Find out whether it still stands; call it often, and after each wait."""
        peer = self.peer
        if self.ready:
            if not peer.connected or peer.links != self._links:
                self._cut()
        elif monotonic_s() >= self._cut_at + self._patience_s and not self.trouble:
            self.trouble = (
                f"it was cut, or the head has ended, and it did not come back within {self._patience_s:g} seconds"
            )
        if peer.connected and peer.links != self._links:
            self._links = peer.links
            peer.send(self._own[0])

    def send(self, data: bytes) -> None:
        """Send to the head, if the link stands."""
        if self.ready and not self.peer.closed:
            self.peer.send(data)

    def take(self, data: bytes) -> bool:
        """Return whether a message is for others, not about the link itself."""
        if is_introduction(data):
            self._introduced(data)
            return False
        if not self.ready:
            # What had come before the link was cut counts, but for what is about the way that is gone.
            return data[:1] not in _OF_WAYS
        if data == _STRANGER:
            self.peer.look()  # it may be about a newer link than the one that we know of
            if self.peer.links == self._links:
                self._cut()
                self.peer.send(self._own[0])
            self.look()
            return False
        return True

    def _cut(self) -> None:
        self.ready = False
        self._cut_at = monotonic_s()
        self.on_cut()

    def _introduced(self, data: bytes) -> None:
        self.peer.look()
        if self.ready or self.peer.links != self._links:
            return  # it was answered before, or the link that it came by is gone
        try:
            head = decode_introduction(data)
        except ProtocolError as error:
            self.trouble = f"what is there now speaks another language: {error}"
            return
        table = differences([("here", self._own[1]), (f"head ({head.host})", head)])
        if table:
            self.trouble = f"the head was started again with other versions; install the same on both sides:\n{table}"
            return
        self.ready = True
        self.on_back()


_STRANGER: Final = c.encode(c.Stranger())
_OF_WAYS: Final = (_STRANGER[:1], c.encode(c.Renew(0, 0))[:1], c.encode(c.Resume(0, 0, 0))[:1])
