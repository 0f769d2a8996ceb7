"""The keys of a cluster, and the file that holds them.

Whoever holds a secret key runs code as the user: the file is its owner's alone. One pair is the head's; drivers and
node agents have a pair each, so that neither can pass for the other. Secrets appear in no repr and no message.
"""

from __future__ import annotations

import json
import os
import stat

# Where hashlib has it from; that would load OpenSSL.
from _blake2 import blake2b
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import zmq

from scalepool._base.tuples import NamedTuple
from scalepool._net.certificates import Certificate, make_certificate
from scalepool.errors import KeyFileError

__all__ = [
    "AGENT", "DRIVER", "HEAD", "KEY_FILE_VARIABLE", "ROLES", "ClusterKeys", "KeyPair", "key_file", "keys_text",
    "read_keys", "steward_word", "usual_key_file", "write_keys",
]  # fmt: skip

HEAD: Final = "head"
AGENT: Final = "agent"
DRIVER: Final = "driver"
ROLES: Final = (AGENT, DRIVER)
"""Who may knock at a head; what a peer may do follows from it."""

KEY_FILE_VARIABLE: Final = "SCALEPOOL_KEY_FILE"
_FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 1 << 16
_Z85_LENGTH: Final = 40


_NONE: Final[Mapping[str, Certificate]] = MappingProxyType({})


class KeyPair(NamedTuple):
    """A CURVE key pair in Z85; ``secret`` is empty where only the public half is known."""

    public: bytes
    secret: bytes = b""

    def __repr__(self) -> str:
        return f"<KeyPair {self.public.decode('ascii', 'replace')}{', with its secret' if self.secret else ''}>"

    @classmethod
    def generate(cls) -> KeyPair:
        """Return a new pair."""
        return cls(*zmq.curve_keypair())


class ClusterKeys(NamedTuple):
    """All that is known here of a cluster's keys.

    Attributes
    ----------
    cluster
        A random name: what says that yesterday's cluster on the same port is another one.
    pairs
        By role: ``"head"``, ``"agent"``, ``"driver"``.
    certificates
        By role, of those that exchange large data; empty where the keys were made without ``cryptography``.
    """

    cluster: str
    pairs: Mapping[str, KeyPair]
    certificates: Mapping[str, Certificate] = _NONE

    def __repr__(self) -> str:
        known = ", ".join(role for role, pair in self.pairs.items() if pair.secret)
        return f"<ClusterKeys of {self.cluster}: {known or 'no secrets'}>"

    @classmethod
    def generate(cls) -> ClusterKeys:
        """Return the keys of a new cluster."""
        name = os.urandom(8).hex()
        made = {role: make_certificate(f"scalepool {name} {role}") for role in ROLES}
        return cls(
            name,
            {role: KeyPair.generate() for role in (HEAD, *ROLES)},
            {role: one for role, one in made.items() if one is not None},
        )

    def only_for(self, role: str) -> ClusterKeys:
        """Return what ``role`` needs to know: its own pair and certificate, and the public parts of the others'."""
        return ClusterKeys(
            self.cluster,
            {HEAD: KeyPair(self.pairs[HEAD].public), role: self.pairs[role]},
            {of: one if of == role else Certificate(one.public) for of, one in self.certificates.items()},
        )

    def roles_by_key(self) -> dict[bytes, str]:
        """Return who may knock at the head: role by public key."""
        return {pair.public: role for role, pair in self.pairs.items() if role in ROLES}


def steward_word(keys: ClusterKeys) -> bytes:
    """Return what shows a head that the steward of detached actors is its own: who lacks its secret cannot know it."""
    secret = keys.pairs[HEAD].secret
    return blake2b(b"steward of detached actors", key=secret, digest_size=32).hexdigest().encode() if secret else b""


def usual_key_file() -> str:
    """Return where a user's keys are unless something else is said: in a folder of his own."""
    return os.path.join(os.path.expanduser("~"), ".scalepool", "keys.json")  # noqa: PTH111, PTH118 - pathlib is heavy


def key_file(given: str | None = None) -> str:
    """Return the path of the key file to use: as given, else as the environment says, else the usual one.

    Raises
    ------
    KeyFileError
        When nothing is said and there is nothing at the usual place.
    """
    path = given or os.environ.get(KEY_FILE_VARIABLE, "").strip()
    if path:
        return path
    usual = usual_key_file()
    if not os.path.lexists(usual):
        raise KeyFileError(
            f"no key file: make one with 'scalepool keys new', or copy that of the cluster to {usual!r} (or name it in "
            f"{KEY_FILE_VARIABLE})"
        )
    return usual


def keys_text(keys: ClusterKeys) -> str:
    """Return what a key file holds, for what brings it to another host in its own way. It holds secrets."""
    pairs = {
        role: {"public": pair.public.decode(), "secret": pair.secret.decode()} for role, pair in keys.pairs.items()
    }
    certificates = {role: {"public": one.public, "secret": one.secret} for role, one in keys.certificates.items()}
    fields = {"scalepool": _FORMAT, "cluster": keys.cluster, **pairs, "certificates": certificates}
    return json.dumps(fields, indent=1) + "\n"


def write_keys(path: str, keys: ClusterKeys) -> None:
    """Write a key file that nobody else can read.

    Raises
    ------
    KeyFileError
        When something is at ``path`` already, or it cannot be written.
    """
    text = keys_text(keys)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(f"refusing to replace the file {path!r}: keys that are in use would be lost") from None
    except OSError as error:
        raise KeyFileError(f"the key file {path!r} cannot be written: {error.strerror}") from None
    with open(fd, "w", encoding="ascii") as file:  # noqa: PTH123 - it is a descriptor
        file.write(text)
        file.flush()
        os.fsync(fd)


def read_keys(path: str) -> ClusterKeys:
    """Read a key file.

    Raises
    ------
    KeyFileError
        When it cannot be read, somebody else could read or change it, or it is no key file; says what to do.
    """
    data = _read_private(path)
    try:
        return _parse(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, zmq.ZMQError):
        raise KeyFileError(
            f"{path!r} is no key file of scalepool: make one with 'scalepool keys new', or copy the cluster's again"
        ) from None


def _read_private(path: str) -> bytes:
    try:
        # Without O_NONBLOCK a pipe of that name would make us wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(f"the key file {path!r} cannot be read: {error.strerror}") from None
    try:
        _check_private(path, os.fstat(fd))
        data = os.read(fd, _MAX_FILE_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_FILE_BYTES:
        raise KeyFileError(f"{path!r} is too large for a key file")
    return data


def _check_private(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"the key file {path!r} is no regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(f"the key file {path!r} belongs to user {status.st_uid}: copy it, so that it is yours")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"the key file {path!r} is open to other users (mode {mode:04o}): chmod 600 {path}")


def _parse(fields: Any) -> ClusterKeys:
    if fields["scalepool"] != _FORMAT:
        raise ValueError("another format")
    cluster = fields["cluster"]
    if not (isinstance(cluster, str) and 0 < len(cluster) <= 64 and cluster.isalnum()):
        raise ValueError("no name")
    pairs = {}
    for role in (HEAD, *ROLES):
        if role in fields:
            pair = KeyPair(fields[role]["public"].encode("ascii"), fields[role]["secret"].encode("ascii"))
            if len(pair.public) != _Z85_LENGTH or len(pair.secret) not in (0, _Z85_LENGTH):
                raise ValueError("no key")
            if pair.secret and zmq.curve_public(pair.secret) != pair.public:
                raise ValueError("the halves do not belong together")
            pairs[role] = pair
    if HEAD not in pairs:
        raise ValueError("no key of the head")
    return ClusterKeys(cluster, pairs, _certificates(fields.get("certificates", {})))


def _certificates(fields: Any) -> dict[str, Certificate]:
    """Return them; what is no certificate is noticed where one is used."""
    found = {}
    for role in ROLES:
        if role in fields:
            found[role] = one = Certificate(fields[role]["public"], fields[role]["secret"])
            if not all(isinstance(part, str) for part in one):
                raise ValueError("no certificate")
    return found
