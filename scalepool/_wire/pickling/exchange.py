"""The two memories of this process: what it sent and what it received.

Unpickling calls plain functions that can be given no context, so there is one exchange per process, replaced as a
whole when the process becomes a worker or opens a new session.
"""

from __future__ import annotations

from scalepool._wire.pickling.ledger import Definitions, GlobalsLedger
from scalepool._wire.pickling.namespaces import Namespaces

__all__ = ["Exchange", "current", "install", "sender_number"]


class Exchange:
    """Memory of what travelled by value between this process and the others.

    Parameters
    ----------
    sender
        A number that no other process of the session uses (its peer id); becomes part of every token and id.
    """

    __slots__ = ("definitions", "ledger", "namespaces")

    def __init__(self, sender: int) -> None:
        self.ledger = GlobalsLedger(sender)
        self.definitions = Definitions(self.ledger)
        self.namespaces = Namespaces(self.ledger)

    @property
    def sender(self) -> int:
        """The number given at construction."""
        return self.ledger.sender

    def __repr__(self) -> str:
        return f"<Exchange sender={self.sender}>"


def sender_number(session_token: bytes, peer: int) -> int:
    """Return a number for a peer that no peer of another session has: what an old session sent must match nothing."""
    return int.from_bytes(session_token[:4], "big") << 24 | peer


_exchange = Exchange(0)


def current() -> Exchange:
    """Return the exchange of this process."""
    return _exchange


def install(exchange: Exchange) -> Exchange:
    """Make this the exchange of the process and return the one it replaces."""
    global _exchange
    previous, _exchange = _exchange, exchange
    return previous
