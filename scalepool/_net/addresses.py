"""Addresses of heads: ``tcp://host:port``."""

from __future__ import annotations

import errno
import os
from typing import Final
from urllib.parse import urlsplit

from scalepool.errors import SessionError

__all__ = ["is_loopback", "join_endpoint", "split_endpoint", "why_nobody_answers", "why_not_here"]

_REMEDIES: Final = {
    errno.EADDRINUSE: "something listens there already: end it, or take another port",
    errno.EADDRNOTAVAIL: "it is no address of this host",
    errno.EACCES: "only root may listen at ports below 1024: take another one",
}


def split_endpoint(address: str) -> tuple[str, int]:
    """Return host and port of ``tcp://host:port``; an IPv6 address stands in brackets, as in URLs.

    Raises
    ------
    SessionError
        When it is none.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not address.startswith("tcp://") or not host or port is None or parts.path or parts.query or parts.username:
        raise SessionError(f"{address!r} is no address of a cluster: it has the form tcp://host:port")
    return host, port


def join_endpoint(host: str, port: int) -> str:
    """Return the address of a host and port; the reverse of `split_endpoint`."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only processes of this host can reach an address."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def why_not_here(number: int | None) -> str:
    """Return why nobody can listen at an address, and what to do about it, by the error's number."""
    remedy = _REMEDIES.get(number or 0)
    return f"{os.strerror(number or 0)}; {remedy}" if remedy else os.strerror(number or 0)


def why_nobody_answers(address: str, timeout_s: float) -> str:
    """Return what is to be said of an address where nobody has answered; looks up the name in it."""
    import socket

    host, port = split_endpoint(address)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"the name of the host in {address!r} cannot be looked up: {error.strerror or error}"
    return f"nobody answers at {address} within {timeout_s:.3g} seconds; does the head run?"
