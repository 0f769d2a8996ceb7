"""Certificates for links that carry large data: one per role, signed by itself, trusted because it is in the key file.

They are made together with a cluster's other keys, by the package ``cryptography``, which only that needs: who has a
key file needs Python's own ``ssl`` and nothing else. Without the package there are none, and large data takes the
link to the head.
"""

from __future__ import annotations

import datetime

from scalepool._base.tuples import NamedTuple

__all__ = ["Certificate", "make_certificate"]

# Keys are valid until their owner makes others, and clocks of hosts differ: neither end may depend on a clock.
_BEGIN = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)  # what RFC 5280 writes for "never"


class Certificate(NamedTuple):
    """A certificate and its secret key, both as PEM; ``secret`` is empty where only the certificate is known."""

    public: str
    secret: str = ""

    def __repr__(self) -> str:
        return f"<Certificate{', with its secret' if self.secret else ''}>"


def make_certificate(name: str) -> Certificate | None:
    """Return a new certificate with its key (ECDSA on P-256); ``None`` where ``cryptography`` is not installed."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        return None
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)  # it vouches for nobody else
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(made.public_bytes(serialization.Encoding.PEM).decode(), secret.decode())
