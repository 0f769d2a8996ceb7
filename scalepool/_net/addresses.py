"""Addresses of heads: ``tcp://host:port``."""

from __future__ import annotations

from urllib.parse import urlsplit

from scalepool.errors import SessionError

__all__ = ["is_loopback", "join_endpoint", "split_endpoint"]


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
