"""``scalepool worker``: this host joins a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import click

from scalepool._base.memory import memory_bytes
from scalepool._base.sizes import size_bytes
from scalepool._runtime.agent import Agent
from scalepool._wire import cluster as c
from scalepool.cli.clusters import address_of, cluster_file, errors_told, key_option, keys_of, stopping, tell
from scalepool.cli.daemons import detach
from scalepool.config import cpu_count

__all__ = ["worker"]

_MEMORY_SHARE = 0.7


@click.command(short_help="Join a cluster with this host.")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@click.option("--cpus", metavar="N", default="auto", show_default=True, help="How many workers to have room for.")
@click.option(
    "--memory",
    metavar="SIZE",
    default="auto",
    show_default=True,
    help="Memory for tasks that ask for some, as 16GB; auto: 70 %.",
)
@key_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds to try to reach the head at first: it may come up later than this host.",
)
@click.option(
    "--reconnect",
    "reconnect_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    envvar="SCALEPOOL_RECONNECT_S",
    show_envvar=True,
    help="Seconds to try to reach it again when the link is cut, or the head started anew; inf: for ever.",
)
@click.option(
    "--daemon", is_flag=True, help="Go on in the background; what it says is put into ~/.scalepool/worker.log."
)
def worker(
    cluster: str | None, cpus: str, memory: str, key_file: str | None, timeout_s: float, reconnect_s: float,
    daemon: bool,
) -> None:  # fmt: skip
    """Join a cluster with this host, and serve until Ctrl-C, SIGTERM or the end of the cluster.

    ADDRESS is what 'scalepool head' has printed, FILE its cluster file; default $SCALEPOOL_ADDRESS, else
    ~/.scalepool/cluster.json. Worker processes are started here when programs use the cluster, and end with this one.
    This host needs no address that others can reach. When the link to the head is cut, or the head is started again,
    workers go on, and the link is tried again.

    Exit code: 0 when it was told to end; 1 when the head cannot be reached, or not again, or does not let us in.
    """
    slots = _slots(cpus)
    offered = _memory(memory)
    with errors_told():
        address, key_path = address_of(cluster, key_file)
        if daemon:
            log = cluster_file().with_name("worker.log")
            words = [address, "--cpus", str(slots), "--memory", str(offered), "--timeout", str(timeout_s)]
            files = [] if key_path is None else ["--key-file", str(Path(key_path).absolute())]
            said = detach(["worker", *words, *files, "--reconnect", str(reconnect_s)], log, "joined", timeout_s)
            click.echo(f"{said.rstrip()}\nIt runs in the background, and says more in {log}.")
            return
        offer = c.Offer(slots, offered, os.uname().nodename.encode())
        agent = Agent(address, keys_of(key_path), offer, tell, timeout_s=timeout_s, reconnect_s=reconnect_s)
    try:
        with stopping(agent):
            tell(f"joined {address} with room for {slots} workers")
            ended = agent.run()
    finally:
        agent.close()
    if not ended:
        raise click.ClickException(f"the link to the head at {address} was lost: {agent.trouble}")


def _slots(text: str) -> int:
    if text == "auto":
        return cpu_count().count
    if not text.isdecimal() or not 0 < int(text) <= 1 << 16:
        raise click.UsageError(f"--cpus is a number from 1 on, or auto, not {text!r}")
    return int(text)


def _memory(text: str) -> int:
    if text == "auto":
        return int(memory_bytes() * _MEMORY_SHARE)
    try:
        return size_bytes(text, "--memory")
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
