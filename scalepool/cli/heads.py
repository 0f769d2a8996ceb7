"""The head that ``scalepool up`` brings hosts to: the one that runs, or a new one in the background."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._net.addresses import is_loopback, join_endpoint, split_endpoint
from scalepool._net.keys import AGENT, ClusterKeys, key_file, keys_text, read_keys, usual_key_file, write_keys
from scalepool._wire import cluster as c
from scalepool.cli.clusters import ADDRESS_VARIABLE, address_of, cluster_file, linked, read_file, wait_for
from scalepool.cli.daemons import detach
from scalepool.errors import KeyFileError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "GREETING_ENDS", "FoundHead", "address_towards", "agent_key_file", "find_head", "head_log", "runs", "start_head",
]  # fmt: skip

GREETING_ENDS: Final = "To use it in a program:"
"""The last line of a head's greeting begins so: by then it serves, and the cluster file is written."""
_ANSWER_S: Final = 5.0
_ANY: Final = ("0.0.0.0", "::")


class FoundHead(NamedTuple):
    """A head, its keys, and whether it has been started for this."""

    address: str
    keys: ClusterKeys
    started: bool = False

    def agent_keys_text(self) -> str:
        """Return the key file that a host needs: with a host's secret, and no other."""
        return keys_text(self.keys.only_for(AGENT))

    @property
    def is_for_this_host_only(self) -> bool:
        """Whether other hosts cannot come there."""
        return is_loopback(split_endpoint(self.address)[0])

    def check_reach(self, names: list[str]) -> None:
        """Raise SessionError where one of these hosts cannot come to a head that is for this host only."""
        others = [name for name in names if not is_loopback(name)]
        if others:
            raise SessionError(
                f"the head at {self.address} listens for this host only, so {others[0]} cannot join: end it with "
                "'scalepool down' and try again, or name another one with --head"
            )


def find_head(
    given: str | None, port: int, key_path: str | None, usual_bind: Callable[[], str], *, dry_run: bool
) -> FoundHead:
    """Return the head that is meant, started when there is none.

    Parameters
    ----------
    given
        ``tcp://host:port`` of one that runs, an address of this host to start one at, or None: that of
        SCALEPOOL_ADDRESS, else of the cluster file, else a new one.
    port
        For a new one.
    key_path
        Its key file, if it is not the usual one.
    usual_bind
        Says where a new one should listen.
    dry_run
        Neither start nor ask one.

    Raises
    ------
    SessionError
        When the one that is meant does not answer, or a new one cannot be started.
    """
    file = cluster_file()
    if (given or "").startswith("tcp://") or (given is None and os.environ.get(ADDRESS_VARIABLE, "").strip()):
        address, path = address_of(given, key_path)
        keys = read_keys(key_file(path))
        if not dry_run:
            _ask(address, path)
        return FoundHead(address, keys)
    if file.exists():
        address, path = address_of(str(file), key_path)
        if dry_run or runs(address, path):
            if given is not None and given != split_endpoint(address)[0]:
                raise SessionError(
                    f"a head runs at {address} already: end it with 'scalepool down', or leave --head out"
                )
            return FoundHead(address, read_keys(key_file(path)))
    bind = given or usual_bind()
    if dry_run:
        host = os.uname().nodename if bind in _ANY else bind
        return FoundHead(join_endpoint(host, port), _keys_there(key_path) or ClusterKeys("CLUSTER", {}))
    return _start(bind, port, key_path, file)


def runs(address: str, key_path: str | None) -> bool:
    """Whether a head answers there."""
    try:
        _ask(address, key_path)
    except SessionError:
        return False
    return True


def _ask(address: str, key_path: str | None) -> None:
    with linked(address, key_path, _ANSWER_S) as peer:
        peer.send(c.encode(c.Ask()))
        if wait_for(peer, c.Report, _ANSWER_S) is None:
            raise SessionError(f"the head at {address} does not answer")


def _keys_there(key_path: str | None) -> ClusterKeys | None:
    with contextlib.suppress(KeyFileError):
        return read_keys(key_file(key_path))
    return None


def start_head(options: Sequence[str], key_path: str, file: Path) -> str:
    """Start a head in the background, which writes ``file``; return its greeting. Its log is next to that file.

    Raises
    ------
    SessionError
        When it does not start; with its last words.
    """
    files = ["--key-file", key_path, "--cluster-file", str(file.absolute())]
    return detach(["head", *options, *files], head_log(file), GREETING_ENDS)


def head_log(file: Path) -> Path:
    """Return where a head in the background puts what it says, by its cluster file."""
    return file.with_name("head.log").absolute()


def _start(bind: str, port: int, key_path: str | None, file: Path) -> FoundHead:
    path = _made_keys(key_path)
    start_head(["--bind", bind, "--port", str(port)], path, file)
    return FoundHead(read_file(file)["address"], read_keys(path), started=True)


def _made_keys(given: str | None) -> str:
    """Return the path of the keys of a new head; they are made where nothing is said and none are there."""
    try:
        path = key_file(given)
    except KeyFileError:
        path = usual_key_file()
        Path(path).parent.mkdir(mode=0o700, exist_ok=True)
        write_keys(path, ClusterKeys.generate())
    read_keys(path)
    return str(Path(path).absolute())


def agent_key_file(keys: ClusterKeys) -> Path:
    """Return a file with what a host needs of the keys, for hosts that share this home folder; made if need be.

    Raises
    ------
    KeyFileError
        When it cannot be written.
    """
    path = Path(usual_key_file()).with_name(f"agent-{keys.cluster}.json")
    theirs = keys.only_for(AGENT)
    with contextlib.suppress(KeyFileError):
        if read_keys(str(path)) == theirs:
            return path
    path.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_keys(str(path), theirs)
    return path


def address_towards(name: str) -> str:
    """Return the address of this host that packets to another one come from.

    Raises
    ------
    SessionError
        When that cannot be told, as the name means nothing here (but, say, to ssh).
    """
    try:
        found = socket.getaddrinfo(name, 9, type=socket.SOCK_DGRAM)
    except OSError:
        found = []
    for family, kind, protocol, _, where in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as sender:
            sender.connect(where)  # sends nothing
            return str(sender.getsockname()[0])
    raise SessionError(f"which address of this host {name} can reach is not known: name it with --head ADDRESS")
