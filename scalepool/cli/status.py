"""``scalepool status`` and ``scalepool down``: what a cluster does, and its end."""

from __future__ import annotations

import json

import click

from scalepool._wire import cluster as c
from scalepool.cli.clusters import errors_told, key_option, linked, wait_for

__all__ = ["down", "status"]

_TIMEOUT_S = 5.0
_GIB = 1 << 30


@click.command(short_help="Say what a cluster has and does.")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
def status(cluster: str | None, key_file: str | None, as_json: bool) -> None:
    """Say which hosts a cluster has, how many workers they run, and for whom.

    The cluster is found as by 'scalepool worker'.

    Exit code: 0; 1 when the head cannot be reached or does not let us in.
    """
    with errors_told(), linked(cluster, key_file, _TIMEOUT_S) as peer:
        peer.send(c.encode(c.Ask()))
        answer = wait_for(peer, c.Report, _TIMEOUT_S)
    if answer is None:
        raise click.ClickException("the head does not answer")
    report = json.loads(answer.text)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    nodes, drivers = report["nodes"], report["drivers"]
    slots, workers = sum(node["slots"] for node in nodes), sum(node["workers"] for node in nodes)
    room = f"room for {_count(slots, 'worker')}, {workers} running"
    click.echo(f"{_count(len(nodes), 'host')} with {room}; {_count(len(drivers), 'program')}")
    for node in nodes:
        memory = node["memory_bytes"] / _GIB
        click.echo(f"  host {node['host']}: {node['workers']} of {node['slots']} workers, {memory:.1f} GiB for tasks")
    for driver in drivers:
        click.echo(f"  program {driver['session']} on {driver['host']}: {_count(driver['workers'], 'worker')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


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
