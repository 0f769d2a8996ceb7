"""What a link between the hub and its peers offers, whatever carries it, and how one is opened.

A channel is not thread-safe: its pump lets one thread at a time touch it. ``wake`` alone may be called from any thread.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HubChannel", "PeerChannel", "carrier", "open_hub_channel", "open_peer_channel"]

_CARRIERS = {"unix": "scalepool._net.unix", "ipc": "scalepool._net.zeromq"}
"""By the scheme of an address: the module whose ``Hub`` and ``Peer`` carry its messages, loaded when it is needed."""


class _Channel(Protocol):
    """What both ends share."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether something may be there."""

    def wake(self) -> None:
        """Make a running or the next ``poll`` return; from any thread."""


class HubChannel(_Channel, Protocol):
    """The hub's end: many peers behind one address."""

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) to ``take`` if a message is there; return whether one was."""

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one peer; False when it is gone. True says nothing about its arrival."""

    def close(self) -> None:
        """Close it; what was not delivered within a second is dropped."""


class PeerChannel(_Channel, Protocol):
    """A peer's end: one hub."""

    def receive_into(self, take: Callable[[bytes], None]) -> bool:
        """Hand a message to ``take`` if one is there; return whether one was."""

    def send(self, data: bytes) -> None:
        """Send to the hub. What it does not take at once goes out in ``poll`` or with the next ``send``."""

    @property
    def unsent_bytes(self) -> int:
        """How much of that it has not taken, as far as is known."""

    def flush_and_close(self) -> None:
        """Close after everything that was sent has left, or two seconds."""


def carrier(address: str) -> str:
    """Return the module that carries messages from and to ``address``: what to load before peers are forked."""
    return _split(address)[0]


def open_hub_channel(address: str, *, max_message_bytes: int) -> HubChannel:
    """Listen at ``address``.

    Parameters
    ----------
    address
        ``unix://PATH`` for a Unix socket, ``ipc://PATH`` for ZeroMQ's. There must be nothing at PATH, and its directory
        must be the user's own.
    max_message_bytes
        A peer that announces more is disconnected.

    Raises
    ------
    SessionError
        When the address is of no such form, something is at PATH, or PATH is too long.
    """
    module, path = _split(address)
    hub: HubChannel = importlib.import_module(module).Hub(path, max_message_bytes=max_message_bytes)
    return hub


def open_peer_channel(address: str, *, max_message_bytes: int) -> PeerChannel:
    """Connect to a hub that listens at ``address``; see `open_hub_channel`."""
    module, path = _split(address)
    peer: PeerChannel = importlib.import_module(module).Peer(path, max_message_bytes=max_message_bytes)
    return peer


def _split(address: str) -> tuple[str, str]:
    """Return the module for an address, and the path in it."""
    scheme, mark, path = address.partition("://")
    module = _CARRIERS.get(scheme)
    if not mark or module is None:
        raise SessionError(f"{address!r} is no address of a hub: it begins with none of {', '.join(_CARRIERS)}")
    return module, path
