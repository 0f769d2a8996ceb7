"""``scalepool head``: the process that hosts and programs come to."""

from __future__ import annotations

import gc
import os
import shlex
from functools import partial
from pathlib import Path

import click
import psutil

from scalepool._net.addresses import is_loopback, join_endpoint, split_endpoint
from scalepool._net.curve import Heartbeats
from scalepool._net.keys import ClusterKeys, key_file, read_keys, usual_key_file, write_keys
from scalepool._runtime.head import Head
from scalepool.cli.clusters import (
    ADDRESS_VARIABLE,
    cluster_file,
    errors_told,
    key_option,
    read_file,
    stopping,
    tell,
    write_file,
)
from scalepool.cli.heads import GREETING_ENDS, head_log, runs, start_head
from scalepool.cli.steward import start_steward
from scalepool.errors import KeyFileError, SessionError

__all__ = ["head"]

_PORT = 7877


@click.command(short_help="Start the head of a cluster.")
@click.option(
    "--bind",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; 0.0.0.0 or :: for all.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="0: any that is free.")
@key_option
@click.option(
    "--cluster-file",
    "file",
    metavar="FILE",
    help="Where to write down how to come here; default ~/.scalepool/cluster.json.",
)
@click.option(
    "--heartbeat-interval-s",
    type=click.FloatRange(0.02, 600.0),
    default=Heartbeats().interval_s,
    show_default=True,
    envvar="SCALEPOOL_HEARTBEAT_INTERVAL_S",
    show_envvar=True,
    help="Seconds between two signs of life on each link; hosts and programs take it over.",
)
@click.option(
    "--heartbeat-timeout-s",
    type=click.FloatRange(0.1, 3600.0),
    default=Heartbeats().timeout_s,
    show_default=True,
    envvar="SCALEPOOL_HEARTBEAT_TIMEOUT_S",
    show_envvar=True,
    help="Seconds of silence after which a host, a program or the head counts as lost. More where links are slow.",
)
@click.option(
    "--host-grace-s",
    type=click.FloatRange(0.0),
    default=0.0,
    show_default=True,
    envvar="SCALEPOOL_HOST_GRACE_S",
    show_envvar=True,
    help="Seconds to wait for a host that is lost before its workers count as dead: it may come back with them.",
)
@click.option(
    "--daemon", is_flag=True, help="Go on in the background; what it says is in head.log, next to the cluster file."
)
def head(
    bind: str, port: int, key_file: str | None, file: str | None, heartbeat_interval_s: float,
    heartbeat_timeout_s: float, host_grace_s: float, daemon: bool,
) -> None:  # fmt: skip
    """Start the head of a cluster, and serve until Ctrl-C, SIGTERM or 'scalepool down'.

    Hosts join with the line that it prints, and programs use the cluster with its address. The head runs no tasks.

    At an address that other hosts can reach, it only starts with keys that you have made: scalepool keys new. Else it
    makes them itself, in ~/.scalepool/keys.json.

    Exit code: 0 when it was told to end; 1 when it cannot start, or had to give up.
    """
    if heartbeat_timeout_s <= heartbeat_interval_s:
        raise click.UsageError("--heartbeat-timeout-s must be longer than --heartbeat-interval-s")
    where = Path(file) if file else cluster_file()
    with errors_told():
        path, keys = _keys(bind, key_file)
        if daemon:
            times_s = {
                "--heartbeat-interval-s": heartbeat_interval_s, "--heartbeat-timeout-s": heartbeat_timeout_s,
                "--host-grace-s": host_grace_s,
            }  # fmt: skip
            _detach(where, path, ["--bind", bind, "--port", str(port)], times_s)
            return
        serving = Head(bind, port, keys, tell, Heartbeats(heartbeat_interval_s, heartbeat_timeout_s), host_grace_s)
        try:
            with stopping(serving):
                address = _reachable(serving.address)
                log = where.with_name("steward.log").absolute()
                serving.start_steward = partial(start_steward, _from_here(serving.address), path, log)
                write_file(where, {"address": address, "cluster": keys.cluster, "key_file": path, "pid": os.getpid()})
                _greet(address, keys.cluster, path, where)
                try:
                    gc.freeze()  # what is loaded is not looked through again and again: 10 ms in which nobody is served
                    serving.run()
                finally:
                    _take_back(where)
        finally:
            serving.close()


def _detach(where: Path, key_path: str, arguments: list[str], times_s: dict[str, float]) -> None:
    """Start a head in the background, unless the one that has written the cluster file runs."""
    if where.exists():
        facts = read_file(where)
        pid = facts.get("pid")
        if isinstance(pid, int) and psutil.pid_exists(pid) and runs(facts["address"], key_path):
            raise SessionError(
                f"a head runs at {facts['address']} already, as process {pid}: end it with 'scalepool down', or give "
                "another --cluster-file and --port"
            )
    options = [word for name, time_s in times_s.items() for word in (name, str(time_s))]
    click.echo(start_head([*arguments, *options], key_path, where).rstrip())
    down = "scalepool down" if where == cluster_file() else shlex.join(["scalepool", "down", str(where)])
    click.echo(f"It runs in the background, and says more in {head_log(where)}; '{down}' ends it.")


def _keys(bind: str, given: str | None) -> tuple[str, ClusterKeys]:
    """Return the path of the keys, and the keys; they are made where only this host can come."""
    try:
        path = key_file(given)
    except KeyFileError as error:
        if not is_loopback(bind):
            raise SessionError(f"refusing to listen at {bind}, where others can come, without keys: {error}") from None
        path = usual_key_file()
        Path(path).parent.mkdir(mode=0o700, exist_ok=True)
        write_keys(path, ClusterKeys.generate())
    return str(Path(path).absolute()), read_keys(path)


def _reachable(address: str) -> str:
    """Return the address to tell others: by the host's name where it listens at all of its addresses."""
    host, port = split_endpoint(address)
    return join_endpoint(os.uname().nodename, port) if host in ("0.0.0.0", "::") else address


def _from_here(address: str) -> str:
    """Return the address for a process on this host."""
    host, port = split_endpoint(address)
    return join_endpoint({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


def _greet(address: str, cluster: str, keys: str, file: Path) -> None:
    host, _ = split_endpoint(address)
    click.echo(f"The head of cluster {cluster} is at {address}; how to come here is in {file}.")
    click.echo(f"To join a host:         scalepool worker {address} --key-file {keys}")
    if is_loopback(host):
        click.echo("Only this host can come here; --bind ADDRESS lets others.")
    click.echo(f"{GREETING_ENDS} scalepool.init({address!r}), or {ADDRESS_VARIABLE}={address}")


def _take_back(file: Path) -> None:
    """Remove the cluster file, if it is still ours."""
    try:
        if read_file(file).get("pid") == os.getpid():
            file.unlink(missing_ok=True)
    except SessionError:
        return  # somebody has removed or changed it
