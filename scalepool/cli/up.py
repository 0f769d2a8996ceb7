"""``scalepool up``: workers on hosts that ssh or a batch system can reach."""

from __future__ import annotations

import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scalepool._proc.outside import run_program
from scalepool.cli import jobs, remote, targets
from scalepool.cli.clusters import errors_told, key_option
from scalepool.cli.heads import FoundHead, address_towards, agent_key_file, find_head
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["up"]

_PORT = 7877
_AT_ONCE = 32
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the user said; see the help texts below."""

    target: str
    head: str | None
    port: int
    key_file: str | None
    python: str | None
    env: tuple[str, ...]
    worker_args: str
    sync: Path | None
    hostfile: Path | None
    ssh: str
    timeout: float
    prologue: Path | None
    template: Path | None
    dry_run: bool
    json: bool

    @property
    def environment(self) -> dict[str, str]:
        return targets.variables(self.env)

    @property
    def arguments(self) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.worker_args))
        except ValueError as error:
            raise targets.TargetError(f"--worker-args: {error}") from None


@click.command(short_help="Start workers on other hosts, by ssh or a batch system.")
@click.argument("target")
@click.option(
    "--head",
    metavar="ADDRESS",
    help="tcp://host:port of the head to join; or the address of this host at which to start one.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="Of a head started here.")
@key_option
@click.option("--python", metavar="PATH", help="The hosts' interpreter.  [the same path as here; by ssh, else python3]")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set in the workers' environment; may be repeated.")
@click.option(
    "--worker-args", metavar="TEXT", default="", help="More options for 'scalepool worker', as '--memory 8GB'."
)
@click.option(
    "--sync", type=_FOLDER, help="ssh: copy this folder to the hosts; workers start in it and import from it."
)
@click.option("--hostfile", type=_FILE, help="ssh: more hosts, one in a line, as host or user@host:4.")
@click.option("--ssh", default="ssh", show_default=True, metavar="COMMAND", help="As 'ssh -F FILE -p 2222'.")
@click.option("--timeout", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds for each host.")
@click.option("--prologue", type=_FILE, help="Batch systems: lines of shell that come before the worker is started.")
@click.option("--template", type=_FILE, help="Batch systems: a job script with holes, instead of ours.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, and run nothing.")
@click.option("--json", is_flag=True, help="Print what has happened as JSON, for programs.")
@click.pass_context
def up(ctx: click.Context, /, **given: Any) -> None:
    """Start workers on other hosts; start a head here, too, where none runs.

    \b
    TARGET is one of
      ssh://user@h1,h2:4                       by the system's ssh; h2 has room for 4 workers, h1 for one per CPU
      slurm://partition?nodes=4&time=1:00:00   by sbatch; also pbs://queue?... (qsub) and lsf://queue?... (bsub)

    The head is that of --head, else of $SCALEPOOL_ADDRESS, else of ~/.scalepool/cluster.json if it answers, else a new
    one that runs in the background (log: ~/.scalepool/head.log). Programs use the cluster with its address.
    'scalepool down' ends it all.

    ssh must work without a password: it is never asked for one. Hosts get what they need of the key file.

    Options behind the ? of a batch target: nodes, time, account, cpus, mem, gpus, name, log. All others are given to
    the batch system as they are, as qos=low (slurm). Nodes need a key file that they share with this host, as in a
    common home folder.

    Exit code: 0 when all hosts have joined, or the jobs are submitted; 1 when not all, or none; 2 for a wrong use.
    """  # noqa: D301 - click's mark of a paragraph that stays as it is
    options = _Options(**given)
    with errors_told():
        try:
            ctx.exit(_start(options))
        except targets.TargetError as error:
            raise click.UsageError(str(error)) from None


def _start(options: _Options) -> int:
    scheme, separator, rest = options.target.partition("://")
    if separator and scheme == "ssh":
        named = targets.hosts(rest) if rest else ()
        more = targets.hosts_in_lines(options.hostfile.read_text("utf-8")) if options.hostfile else ()
        return _by_ssh(options, targets.distinct([*named, *more]))
    if separator and scheme in targets.BATCH_SYSTEMS:
        return _by_batch(options, targets.batch(scheme, rest))
    known = ", ".join(f"{name}://" for name in ("ssh", *targets.BATCH_SYSTEMS))
    raise targets.TargetError(f"{options.target!r} is no target: it begins with one of {known}")


def _tell_head(head: FoundHead, options: _Options) -> None:
    if not options.json:
        click.echo(
            f"The head of cluster {head.keys.cluster} {'is started' if head.started else 'is'} at {head.address}."
        )


# ---- ssh ----


def _by_ssh(options: _Options, hosts: Sequence[targets.Host]) -> int:
    ssh = shlex.split(options.ssh)
    environment, arguments = options.environment, options.arguments
    copy = remote.archive(options.sync) if options.sync else None
    head = find_head(
        options.head,
        options.port,
        options.key_file,
        lambda: address_towards(_real_name(ssh, hosts[0])),
        dry_run=options.dry_run,
    )
    if options.head is None and head.is_for_this_host_only:
        head.check_reach([_real_name(ssh, host) for host in hosts])
    pythons = (options.python,) if options.python else (sys.executable, "python3")
    keys = remote.HIDDEN_KEYS if options.dry_run else head.agent_keys_text()
    plan = remote.Plan(
        head.address, head.keys.cluster, keys, pythons, environment, arguments, copy.name if copy else ""
    )
    if options.dry_run:
        return _show(ssh, hosts, plan, copy, options.timeout)
    _tell_head(head, options)
    with ThreadPoolExecutor(min(_AT_ONCE, len(hosts)), "scalepool-ssh") as threads:
        futures = [threads.submit(_join, ssh, host, plan, copy, options.timeout) for host in hosts]
        ends = []
        for host, future in zip(hosts, futures, strict=True):
            joined, words = future.result()
            ends.append({"host": host.name, "joined": joined, "message": words})
            if not options.json:
                click.echo(f"{host.name}: {'' if joined else 'failed: '}{words}", err=not joined)
    if options.json:
        click.echo(json.dumps({"address": head.address, "started": head.started, "hosts": ends}, indent=2))
    elif head.started:
        click.echo(f"To use it: SCALEPOOL_ADDRESS={head.address}. To end it: scalepool down.")
    return 0 if all(end["joined"] for end in ends) else 1


def _real_name(ssh: Sequence[str], host: targets.Host) -> str:
    """Return the name or address that ssh's configuration gives a host."""
    found = run_program([*ssh, "-G", host.login], timeout_s=10.0)
    named = [line.split(None, 1)[1] for line in found.out.splitlines() if line.startswith("hostname ")]
    return named[0].strip() if found.code == 0 and named else host.name


def _join(
    ssh: Sequence[str], host: targets.Host, plan: remote.Plan, copy: remote.Copy | None, timeout_s: float
) -> tuple[bool, str]:
    if copy is not None:
        copied = run_program(
            remote.copy_command(ssh, host, copy, timeout_s=timeout_s), feed=copy.data, timeout_s=timeout_s
        )
        if copied.code != 0:
            return False, copied.words or f"the folder could not be copied (exit code {copied.code})"
    command = remote.ssh_command(ssh, host, timeout_s=timeout_s)
    done = run_program(command, feed=remote.script(plan, host).encode(), timeout_s=timeout_s)
    if done.code == 0:
        return True, done.out.strip().rpartition("\n")[2]
    return False, done.words or f"{ssh[0]} ended with exit code {done.code}"


def _show(
    ssh: Sequence[str], hosts: Sequence[targets.Host], plan: remote.Plan, copy: remote.Copy | None, timeout_s: float
) -> int:
    for host in hosts:
        if copy is not None:
            command = shlex.join(remote.copy_command(ssh, host, copy, timeout_s=timeout_s))
            click.echo(f"# {host.name}: a tar archive of {len(copy.data)} bytes, fed to\n{command}\n")
        command = shlex.join(remote.ssh_command(ssh, host, timeout_s=timeout_s))
        click.echo(f"{command} <<'END'\n{remote.script(plan, host)}END\n")
    return 0


# ---- batch systems ----


def _by_batch(options: _Options, wanted: targets.Batch) -> int:
    system = jobs.SYSTEMS[wanted.system]
    text = options.template.read_text("utf-8") if options.template else jobs.template(wanted.system)
    environment, arguments = options.environment, options.arguments
    head = find_head(options.head, options.port, options.key_file, lambda: "0.0.0.0", dry_run=options.dry_run)
    if options.head is None and head.is_for_this_host_only:
        head.check_reach([f"a node of {wanted.system}"])
    folder = Path.home() / ".scalepool"
    keys = folder / f"agent-{head.keys.cluster}.json" if options.dry_run else agent_key_file(head.keys)
    command = [options.python or sys.executable, "-m", "scalepool", "worker", head.address]
    filled = jobs.script(text, wanted, {
        "address": head.address,
        "command": shlex.join([*command, "--key-file", str(keys), *arguments]),
        "environment": jobs.exports(environment),
        "log": f"{folder / 'logs'}/{system.log}",
        "prologue": options.prologue.read_text("utf-8").rstrip("\n") if options.prologue else "",
    })  # fmt: skip
    if options.dry_run:
        click.echo(filled, nl=False)
        return 0
    _tell_head(head, options)
    return _submit(options, wanted, _written(folder, wanted.system, head.keys.cluster, filled), head)


def _written(folder: Path, system: str, cluster: str, text: str) -> Path:
    path = folder / f"{system}-{cluster}.sh"
    try:
        (folder / "logs").mkdir(mode=0o700, exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o700)
    except OSError as error:
        raise SessionError(f"the job script cannot be written: {error}") from None
    return path


def _submit(options: _Options, wanted: targets.Batch, path: Path, head: FoundHead) -> int:
    system = jobs.SYSTEMS[wanted.system]
    command = [*system.submit, *(() if system.fed else (str(path),))]
    found: list[str] = []
    problem = ""
    for _ in range(1 if system.per_job else wanted.nodes):
        done = run_program(command, feed=path if system.fed else b"", timeout_s=options.timeout)
        if done.code != 0:
            problem = done.words or f"{command[0]} ended with exit code {done.code}"
            break
        found.append(jobs.job_id(wanted.system, done.out) or done.out.strip())
    if options.json:
        outcome = {"address": head.address, "started": head.started, "script": str(path), "jobs": found}
        click.echo(json.dumps({**outcome, "message": problem}, indent=2))
    elif found:
        click.echo(f"Submitted {path} as {' '.join(found)}; hosts join when it runs ('scalepool status').")
        click.echo(
            f"To use it: SCALEPOOL_ADDRESS={head.address}. To end it: scalepool down; {system.cancel} {found[0]}"
        )
    if problem and not options.json:
        click.echo(f"{command[0]} failed: {problem}", err=True)
    return 1 if problem else 0
