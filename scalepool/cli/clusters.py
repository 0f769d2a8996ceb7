"""What the verbs about clusters share: where one is, its keys, and how a process serves until it is told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from scalepool._net.addresses import split_endpoint
from scalepool._net.keys import AGENT, DRIVER, key_file, read_keys, usual_key_file
from scalepool._runtime.joining import join
from scalepool._wire import cluster as c
from scalepool.errors import ScalepoolError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._net.curve import Peer
    from scalepool._net.keys import ClusterKeys

__all__ = [
    "ADDRESS_VARIABLE", "address_of", "cluster_file", "count_of", "errors_told", "key_option", "keys_of", "linked",
    "read_file", "stopping", "tell", "wait_for", "write_file",
]  # fmt: skip

ADDRESS_VARIABLE: Final = "SCALEPOOL_ADDRESS"
key_option = click.option(
    "--key-file", metavar="FILE", help="The cluster's keys; default $SCALEPOOL_KEY_FILE, else ~/.scalepool/keys.json."
)


class _Stoppable(Protocol):
    def stop(self) -> None: ...


def tell(text: str) -> None:
    """Say something to who watches the process, with the time."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Turn our errors into a line on stderr and exit code 1."""
    try:
        yield
    except ScalepoolError as error:
        raise click.ClickException(str(error)) from None


def cluster_file() -> Path:
    """Return where a head writes down where it is, unless something else is said."""
    return Path(usual_key_file()).with_name("cluster.json")


def write_file(path: Path, facts: dict[str, Any]) -> None:
    """Write a cluster file that only its user can read; one that is there is replaced as a whole.

    Raises
    ------
    SessionError
        When it cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is a descriptor
            json.dump({"scalepool": 1, **facts}, file, indent=1)
            file.write("\n")
        new.replace(path)
    except OSError as error:
        raise SessionError(f"the cluster file {str(path)!r} cannot be written: {error.strerror}") from None


def read_file(path: Path) -> dict[str, Any]:
    """Return what a cluster file says.

    Raises
    ------
    SessionError
        When it cannot be read, or is none.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["scalepool"] != 1 or not isinstance(facts["address"], str):
            raise ValueError
    except OSError as error:
        raise SessionError(f"the cluster file {str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise SessionError(f"{str(path)!r} is no cluster file: a head writes it when it starts") from None
    return dict(facts)


def address_of(given: str | None, key_path: str | None) -> tuple[str, str | None]:
    """Return the address of a cluster, and the key file to use, from what is given: an address, a file, or nothing.

    Raises
    ------
    SessionError
        When there is nothing to be found, or it is no address.
    """
    given = given or os.environ.get(ADDRESS_VARIABLE, "").strip()
    if "://" in given:
        split_endpoint(given)
        return given, key_path
    path = Path(given) if given else cluster_file()
    if given and not path.exists():
        raise SessionError(f"there is no cluster file {given!r}; an address has the form tcp://host:port")
    if not given and not path.exists():
        raise SessionError(
            f"which cluster? Give the address that 'scalepool head' has printed, or its cluster file, or set "
            f"{ADDRESS_VARIABLE}"
        )
    facts = read_file(path)
    kept = facts.get("key_file")
    return facts["address"], key_path or (kept if isinstance(kept, str) and Path(kept).exists() else None)


def count_of(number: int, what: str) -> str:
    """Return a number of things, as ``2 hosts``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def keys_of(path: str | None) -> ClusterKeys:
    """Return the keys in the file that is given, or in the usual one."""
    return read_keys(key_file(path))


@contextlib.contextmanager
def stopping(what: _Stoppable) -> Iterator[None]:
    """Have SIGINT and SIGTERM stop it, meanwhile."""
    before = {number: signal.signal(number, lambda *_: what.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def linked(given: str | None, key_path: str | None, timeout_s: float) -> Iterator[Peer]:
    """Have a link to a head, as a driver has one; with a key file that is a host's only, as an agent."""
    address, key_path = address_of(given, key_path)
    keys = keys_of(key_path)
    peer = join(address, keys, DRIVER if DRIVER in keys.pairs else AGENT, timeout_s=timeout_s)
    try:
        yield peer
    finally:
        peer.flush_and_close()


def wait_for(peer: Peer, kind: type[c.ClusterMessage], timeout_s: float) -> Any:
    """Return the next message of a kind; ``None`` when the link ends or time is up."""
    deadline = time.monotonic() + timeout_s
    found: list[Any] = []

    def take(data: bytes) -> None:
        message = c.decode(data)
        if type(message) is kind:
            found.append(message)

    while not found and peer.connected and (left_s := deadline - time.monotonic()) > 0:
        if peer.poll(min(left_s, 0.5)):
            peer.receive_into(take)
    return found[0] if found else None
