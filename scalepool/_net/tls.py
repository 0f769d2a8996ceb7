"""Links between hosts that carry large data: TLS 1.3 over TCP, each side known by its certificate.

A certificate is accepted when it is, byte for byte, one of those in the cluster's key file: no authority, no name and
no date decides. Both sides have to show theirs, and there is no way to do without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, Final

from scalepool._net.keys import AGENT, DRIVER
from scalepool.errors import AuthenticationError, KeyFileError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._net.keys import ClusterKeys

__all__ = ["SecureLinks", "listen", "local_host"]

_BACKLOG: Final = 64
_WRONG: Final = (ssl.SSLError, ValueError)


class SecureLinks:
    """Makes links of one role of a cluster.

    Parameters
    ----------
    keys
        The cluster's.
    role
        Whose certificate to show: ``"agent"`` or ``"driver"``. A driver lets in agents only.

    Raises
    ------
    KeyFileError
        There are no certificates in these keys, or not what is needed of them.
    """

    def __init__(self, keys: ClusterKeys, role: str) -> None:
        own = keys.certificates.get(role)
        if own is None or not own.secret or AGENT not in keys.certificates:
            raise KeyFileError(f"these keys have no certificate for a {role}")
        guests = (AGENT,) if role == DRIVER else (AGENT, DRIVER)
        try:
            self._known = {of: ssl.PEM_cert_to_DER_cert(one.public) for of, one in keys.certificates.items()}
            self._guests = {self._known[of] for of in guests if of in self._known}
            chain = own.public, own.secret
            welcome = [keys.certificates[of].public for of in guests if of in self._known]
            self._server = _context(ssl.PROTOCOL_TLS_SERVER, chain, welcome)
            self._server.num_tickets = 0  # each link shows its certificates anew
            everybody = [one.public for one in keys.certificates.values()]
            self._client = _context(ssl.PROTOCOL_TLS_CLIENT, chain, everybody)
        except _WRONG as error:
            raise KeyFileError(f"a certificate in these keys is of no use: {error}") from None

    def accept(self, raw: socket.socket, timeout_s: float) -> ssl.SSLSocket:
        """Let a newcomer in who has the right certificate; ``raw`` is closed if not.

        Raises
        ------
        AuthenticationError
            It has not, or does not speak TLS.
        OSError
            The connection ended, or time was up.
        """
        return self._shake_hands(raw, timeout_s, self._server, self._guests)

    def connect(self, host: str, port: int, role: str, timeout_s: float) -> ssl.SSLSocket:
        """Connect to a process of that role.

        Raises
        ------
        AuthenticationError
            Who answers there is none.
        OSError
            Nobody answers within ``timeout_s`` seconds.
        """
        raw = socket.create_connection((host, port), timeout=timeout_s)
        return self._shake_hands(raw, timeout_s, self._client, {self._known.get(role, b"")})

    @staticmethod
    def _shake_hands(
        raw: socket.socket, timeout_s: float, context: ssl.SSLContext, allowed: set[bytes]
    ) -> ssl.SSLSocket:
        is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        link = raw
        try:
            raw.settimeout(timeout_s)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link = context.wrap_socket(raw, server_side=is_server, suppress_ragged_eofs=False)
            if link.getpeercert(binary_form=True) not in allowed:
                raise AuthenticationError("it has a certificate of this cluster, but of another role")
        except ssl.SSLError as error:
            link.close()
            raise AuthenticationError(f"it has no certificate of this cluster: {error.reason or error}") from None
        except BaseException:
            link.close()
            raise
        return link


def _context(protocol: int, chain: tuple[str, str], trusted: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # addresses of hosts change; who it is says the certificate itself
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata="".join(trusted))
    with _as_file(chain[0]) as public, _as_file(chain[1]) as secret:
        context.load_cert_chain(public, secret)
    return context


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Have a text where `ssl` wants a path, but on no disk."""
    reader, writer = os.pipe()
    try:
        with open(writer, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor; a pipe holds 64 KiB
            file.write(text)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


def listen(host: str, ports: Sequence[int]) -> socket.socket:
    """Return a socket that listens at the first of these ports that is free; 0 stands for any.

    Raises
    ------
    SessionError
        None is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    trouble: OSError | None = None
    for port in ports:
        one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
            one.listen(_BACKLOG)
        except OSError as error:
            one.close()
            trouble = error
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return one
    raise SessionError(f"cannot listen for large data at {host}: {trouble}")


def local_host(host: str, port: int) -> str:
    """Return this host's own address on the way to another one. Nothing is sent.

    Raises
    ------
    OSError
        There is no way.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        found: str = probe.getsockname()[0]
    return found
