"""``scalepool steward``: what a head starts for detached actors; nobody calls it by hand."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import click
import psutil

from scalepool._proc.outside import start_detached
from scalepool.cli.clusters import errors_told, key_option, keys_of, stopping, tell

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["start_steward", "steward"]

_RECONNECT_S: Final = 30.0


@click.command(hidden=True, short_help="Serve detached actors; started by the head.")
@click.argument("address")
@key_option
def steward(address: str, key_file: str | None) -> None:
    """Own the detached actors of the cluster at ADDRESS until it ends. The head starts this when it is needed.

    Exit code: 0 when the cluster has ended; 1 when it cannot be reached, or not again.
    """
    from scalepool._runtime.cluster_driver import ClusterSession
    from scalepool._runtime.session import shut_down, start
    from scalepool._runtime.steward import Steward

    with errors_told():
        keys = keys_of(key_file)
        session = start({"reconnect_s": _RECONNECT_S}, address)
        assert isinstance(session, ClusterSession)
        serving = Steward(session, address, keys, tell, reconnect_s=_RECONNECT_S)
    try:
        with stopping(serving):
            tell("serving detached actors")
            ended = serving.run()
    finally:
        serving.close()
        shut_down()
    if not ended:
        raise click.ClickException(f"the link to the head at {address} was lost: {serving.trouble}")


def start_steward(address: str, key_path: str, log: Path) -> str:
    """Start a steward in the background, unless there is one; return why that cannot be, or nothing.

    One that was started by an earlier head at this address comes back by itself, with its actors.
    """
    facts = log.with_suffix(".json")
    try:
        if _runs(facts, address):
            return ""
        log.touch(mode=0o600)
        command = [sys.executable, "-m", "scalepool", "steward", address, "--key-file", key_path]
        process = start_detached(command, log)
        facts.touch(mode=0o600)
        facts.write_text(json.dumps({"pid": process.pid, "address": address}))
    except OSError as error:
        return f"its process cannot be started: {error}"
    return ""


def _runs(facts: Path, address: str) -> bool:
    """Whether the steward that was started last is there, and belongs to a head at this address."""
    try:
        known = json.loads(facts.read_text())
        words = psutil.Process(known["pid"]).cmdline()
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return False
    return "steward" in words and address in words
