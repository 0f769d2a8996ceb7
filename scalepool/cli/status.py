"""``scalepool status`` and ``scalepool down``: what a cluster does, and its end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from scalepool._wire import cluster as c
from scalepool.cli.clusters import count_of, errors_told, key_option, linked, wait_for
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from scalepool._net.curve import Peer

__all__ = ["down", "status"]

_TIMEOUT_S = 5.0
_LOOK_S = 0.5
_GIB = 1 << 30


@click.command(short_help="Say what a cluster has and does.")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.option("--expect", metavar="HOST", help="Exit code 1 unless this host has joined: for probes.")
@click.option("--wait", "hosts", type=click.IntRange(1), help="First wait until so many hosts have joined.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait for them.  [for ever]")
def status(
    cluster: str | None, key_file: str | None, as_json: bool, expect: str | None, hosts: int | None,
    timeout_s: float | None,
) -> None:  # fmt: skip
    """Say which hosts a cluster has, how many workers they run, and for whom; and which detached actors there are.

    The cluster is found as by 'scalepool worker'.

    Exit code: 0; 1 when the head cannot be reached or does not let us in, or hosts that are waited for or expected are
    not there.
    """
    with errors_told(), linked(cluster, key_file, _TIMEOUT_S) as peer:
        report = _wait_for_hosts(peer, hosts or 0, timeout_s)
    if expect is not None and expect not in {node["host"] for node in report["nodes"]}:
        raise click.ClickException(f"the host {expect} has not joined")
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report)


def _wait_for_hosts(peer: Peer, hosts: int, timeout_s: float | None) -> dict[str, Any]:
    """Return the head's report, once so many hosts have joined."""
    began = time.monotonic()
    while True:
        peer.send(c.encode(c.Ask()))
        answer = wait_for(peer, c.Report, _TIMEOUT_S)
        if answer is None:
            raise SessionError("the head does not answer")
        report: dict[str, Any] = json.loads(answer.text)
        joined = len(report["nodes"])
        if joined >= hosts:
            return report
        if timeout_s is not None and time.monotonic() >= began + timeout_s:
            raise SessionError(f"{joined} of {hosts} hosts have joined within {timeout_s:g} seconds")
        time.sleep(_LOOK_S)


def _show(report: dict[str, Any]) -> None:
    nodes, drivers = report["nodes"], report["drivers"]
    slots, workers = sum(node["slots"] for node in nodes), sum(node["workers"] for node in nodes)
    room = f"room for {count_of(slots, 'worker')}, {workers} running"
    click.echo(f"{count_of(len(nodes), 'host')} with {room}; {count_of(len(drivers), 'program')}")
    for node in nodes:
        click.echo(f"  host {node['node']}, {node['host']}: {_offer(node)}")
    for actor in report.get("detached", ()):
        name = "/".join(filter(None, (actor["namespace"], actor["name"]))) or "without a name"
        where = f"process {actor['pid']}" if actor["pid"] else "no process now"
        restarts = f", begun anew {count_of(actor['restarts'], 'time')}" if actor["restarts"] else ""
        click.echo(f"  detached actor {name} ({actor['class']}): {where}{restarts}")
    for driver in drivers:
        where = ", which is cut off" if driver["away"] else f" on {driver['host']}"
        click.echo(f"  program {driver['session']}{where}: {count_of(driver['workers'], 'worker')}")


def _offer(node: dict[str, Any]) -> str:
    parts = [f"{node['workers']} of {node['slots']} workers", f"{node['memory_bytes'] / _GIB:.1f} GiB for tasks"]
    if node["gpus"]:
        parts.append(count_of(node["gpus"], "GPU"))
    parts += [f"{amount:g} {name}" for name, amount in node["resources"].items()]
    parts += [f"{name}={value}" for name, value in node["labels"].items()]
    if node["away"]:
        parts.append("is cut off")
    if node["leaving"]:
        parts.append("leaves the cluster")
    return ", ".join(parts)


@click.command(short_help="End a cluster.")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@key_option
def down(cluster: str | None, key_file: str | None) -> None:
    """End a cluster: its head, the agents of its hosts, and all workers. Programs that use it get an error.

    The cluster is found as by 'scalepool worker'.

    Exit code: 0; 1 when the head cannot be reached or does not let us in, or goes on all the same.
    """
    with errors_told(), linked(cluster, key_file, _TIMEOUT_S) as peer:
        peer.send(c.encode(c.Down()))
        wait_for(peer, c.Report, _TIMEOUT_S)  # which never comes: the link ends
        if peer.connected:
            raise click.ClickException("the head has been told, but goes on")
    click.echo("The cluster is down.")
