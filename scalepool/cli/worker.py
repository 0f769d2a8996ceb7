"""``scalepool worker``: this host joins a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scalepool._base.amounts import named_units, resource_text
from scalepool._base.memory import memory_bytes
from scalepool._base.sizes import size_bytes
from scalepool._core.departure import Stay
from scalepool._core.placement import Rest
from scalepool._runtime.agent import Agent
from scalepool._runtime.devices import session_gpus
from scalepool._wire import cluster as c
from scalepool.cli.clusters import address_of, cluster_file, count_of, errors_told, key_option, keys_of, stopping, tell
from scalepool.cli.daemons import detach
from scalepool.config import cpu_count

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["worker"]

_MEMORY_SHARE = 0.7


@click.command(short_help="Join a cluster with this host.")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@click.option("--cpus", metavar="N", default="auto", show_default=True, help="How many workers to have room for.")
@click.option(
    "--gpus", metavar="N", default="auto", show_default=True, help="How many GPUs to offer; auto: those that are there."
)
@click.option(
    "--resources",
    metavar="NAME=N,...",
    default="",
    help="What else tasks may ask for by name, as license=2,disk=0.5.",
)
@click.option(
    "--labels", metavar="NAME=VALUE,...", default="", help="What tasks may ask that their host be, as zone=a,disk=ssd."
)
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
@click.option(
    "--idle-timeout",
    "idle_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Leave the cluster when nobody has had workers here for so long.",
)
@click.option(
    "--lifetime", "lifetime_s", type=click.FloatRange(0.1), metavar="SECONDS", help="Leave the cluster after so long."
)
@click.option(
    "--drain-timeout",
    "drain_s",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long what runs here may go on when this host is to leave.",
)
def worker(
    cluster: str | None,
    key_file: str | None,
    timeout_s: float,
    reconnect_s: float,
    daemon: bool,
    **options: Any,
) -> None:
    """Join a cluster with this host, and serve until Ctrl-C, SIGTERM or the end of the cluster.

    ADDRESS is what 'scalepool head' has printed, FILE its cluster file; default $SCALEPOOL_ADDRESS, else
    ~/.scalepool/cluster.json. Worker processes are started here when programs use the cluster, and end with this one.
    This host needs no address that others can reach. When the link to the head is cut, or the head is started again,
    workers go on, and the link is tried again.

    At Ctrl-C or SIGTERM it leaves the cluster: nothing new is begun here, and what runs is finished; a second one ends
    everything at once. The same happens by 'scalepool drain', or by itself with --idle-timeout and --lifetime.

    Exit code: 0 when it was told to end; 1 when the head cannot be reached, or not again, or does not let us in.
    """
    slots = _slots(options["cpus"])
    gpus = _gpus(options["gpus"])
    rest = Rest(len(gpus), _resources(options["resources"]), _labels(options["labels"]))
    offer = c.Offer(slots, _memory(options["memory"]), os.uname().nodename.encode(), rest.encode())
    with errors_told():
        address, key_path = address_of(cluster, key_file)
        if daemon:
            log = cluster_file().with_name("worker.log")
            said = detach(_words(address, key_path, timeout_s, reconnect_s, options), log, "joined", timeout_s)
            click.echo(f"{said.rstrip()}\nIt runs in the background, and says more in {log}.")
            return
        agent = Agent(address, keys_of(key_path), offer, tell, timeout_s=timeout_s, reconnect_s=reconnect_s)
    agent.gpus = gpus
    agent.stay(Stay(options["drain_s"], options["idle_s"], options["lifetime_s"]))
    try:
        with stopping(agent):
            tell(f"joined {address} with room for {count_of(slots, 'worker')}")
            ended = agent.run()
    finally:
        agent.close()
    if not ended:
        raise click.ClickException(f"the link to the head at {address} was lost: {agent.trouble}")


def _words(
    address: str, key_path: str | None, timeout_s: float, reconnect_s: float, options: Mapping[str, Any]
) -> list[str]:
    """Return the command line of the process in the background."""
    words = ["worker", address, "--timeout", str(timeout_s), "--reconnect", str(reconnect_s)]
    if key_path is not None:
        words += ["--key-file", str(Path(key_path).absolute())]
    names = {"idle_s": "idle-timeout", "lifetime_s": "lifetime", "drain_s": "drain-timeout"}
    for name, value in options.items():
        if value is not None:
            words += [f"--{names.get(name, name)}", str(value)]
    return words


def _slots(text: str) -> int:
    if text == "auto":
        return cpu_count().count
    if not text.isdecimal() or not 0 < int(text) <= 1 << 16:
        raise click.UsageError(f"--cpus is a number from 1 on, or auto, not {text!r}")
    return int(text)


def _gpus(text: str) -> list[str]:
    if text != "auto" and (not text.isdecimal() or int(text) > 1 << 10):
        raise click.UsageError(f"--gpus is a number, or auto, not {text!r}")
    try:
        return session_gpus(None if text == "auto" else int(text))
    except ValueError as error:
        raise click.UsageError(f"--gpus {text}: {error}") from None


def _resources(text: str) -> dict[str, int]:
    try:
        return named_units(json.loads(resource_text(text, "--resources") or "{}"), "--resources")
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None


def _labels(text: str) -> dict[str, str]:
    labels = dict[str, str]()
    for part in filter(None, text.split(",")):
        name, given, value = part.partition("=")
        if not (name.strip() and given and value.strip()):
            raise click.UsageError(f"--labels is like zone=a,disk=ssd, not {text!r}")
        labels[name.strip()] = value.strip()
    return labels


def _memory(text: str) -> int:
    if text == "auto":
        return int(memory_bytes() * _MEMORY_SHARE)
    try:
        return size_bytes(text, "--memory")
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
