"""``scalepool drain``: a host leaves its cluster when what runs there has ended."""

from __future__ import annotations

import json
import time

import click

from scalepool._wire import cluster as c
from scalepool.cli.clusters import errors_told, key_option, linked, wait_for

__all__ = ["drain"]

_ANSWER_S = 5.0
_LOOK_S = 0.2
_MARGIN_S = 15.0


@click.command(short_help="Have a host leave a cluster.")
@click.argument("node", metavar="NODE")
@click.argument("cluster", required=False, metavar="[ADDRESS|FILE]")
@key_option
@click.option(
    "--timeout-s",
    "limit_s",
    type=click.FloatRange(0, 1e6),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long what runs there may go on.",
)
@click.option("--no-wait", is_flag=True, help="Return when the host is told, not when it has left.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, for programs.")
def drain(node: str, cluster: str | None, key_file: str | None, limit_s: float, no_wait: bool, as_json: bool) -> None:
    """Have a host leave a cluster, and wait until it has.

    NODE is a host's name or number, as 'scalepool status' shows them; the cluster is found as by 'scalepool worker'.
    Nothing new is begun there. What runs is finished, but for what takes longer than the timeout: that is ended, and
    tried again elsewhere where its max_retries allows. Actors are made anew elsewhere where their max_restarts allows.

    Exit code: 0 when it has left (with --no-wait: is told to); 1 when there is no such host, the head cannot be
    reached or does not let us in, or the host is still there long after its time.
    """
    number = int(node) if node.isdecimal() else 0
    with errors_told(), linked(cluster, key_file, _ANSWER_S) as peer:
        peer.send(c.encode(c.Drain(number, b"" if number else node.encode(), int(limit_s * 1000))))
        answer = wait_for(peer, c.Drained, _ANSWER_S)
        if answer is None:
            raise click.ClickException("the head does not answer")
        text = answer.text.decode("utf-8", "replace")
        has_left = False
        deadline = time.monotonic() + limit_s + _MARGIN_S
        while answer.node and not no_wait and not has_left and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            peer.send(c.encode(c.Ask()))
            report = wait_for(peer, c.Report, _ANSWER_S)
            if report is None:
                raise click.ClickException("the head does not answer any more")
            has_left = all(one["node"] != answer.node for one in json.loads(report.text)["nodes"])
    if as_json:
        click.echo(json.dumps({"node": answer.node or None, "left": has_left, "text": text}))
    elif answer.node:
        click.echo(f"host {node} has left the cluster" if has_left else text)
    if not answer.node:
        raise click.ClickException(text)
    if not has_left and not no_wait:
        raise click.ClickException(f"host {node} is still there")
