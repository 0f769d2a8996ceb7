"""``scalepool stack``: what each worker does now."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from scalepool.cli.look import Look, look
from scalepool.cli.processes import Session, sessions

if TYPE_CHECKING:
    from scalepool.cli.processes import Seen

__all__ = ["stack"]


@click.command(short_help="Show what each worker does now.")
@click.argument("pid", type=click.IntRange(1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.option("--signal", "by_signal", is_flag=True, help="Look also into C code that lets no Python code run.")
@click.pass_context
def stack(ctx: click.Context, pid: int | None, as_json: bool, by_signal: bool) -> None:
    """Show what each worker does now: its task, for how long, and where in your code it is.

    PID is the process of your program, or one of its workers. Without it all of your programs that use scalepool are
    shown.

    The program and its workers go on undisturbed, and it does not matter whether the program itself hangs. A worker in
    C code that lets no other Python code run cannot answer; with --signal it is interrupted and shows its stack, but a
    sleep or a system call of that code may then end early.

    Exit code: 0 when something was shown, 1 when nothing runs, 2 when PID is none of these.
    """
    found = sessions()
    if pid is not None:
        found = _of(found, pid)
        if not found:
            raise click.BadParameter(f"process {pid} is neither a program that runs scalepool now nor a worker of one")
    looks = _look_at_all(found, by_signal)
    if as_json:
        click.echo(json.dumps([_plain(session, seen) for session, seen in looks], indent=2))
    elif not looks:
        click.echo("None of your programs runs scalepool now.")
    else:
        click.echo("\n\n".join("\n".join(_lines(session, seen)) for session, seen in looks))
    if not looks:
        ctx.exit(1)


def _look_at_all(found: list[Session], by_signal: bool) -> list[tuple[Session, list[Look]]]:
    pids = [worker.pid for session in found for worker in session.workers]
    seen = {one.pid: one for one in look(pids, by_signal=by_signal)}
    return [(session, [seen[worker.pid] for worker in session.workers]) for session in found]


def _of(found: list[Session], pid: int) -> list[Session]:
    chosen = []
    for session in found:
        if pid in {one.pid for one in _heads(session)}:
            chosen.append(session)
        elif (worker := next((one for one in session.workers if one.pid == pid), None)) is not None:
            chosen.append(Session(session.driver, session.zygotes, (worker,)))
    return chosen


def _heads(session: Session) -> list[Seen]:
    return [*([session.driver] if session.driver is not None else []), *session.zygotes]


def _plain(session: Session, looks: list[Look]) -> dict[str, Any]:
    driver = None if session.driver is None else {"pid": session.driver.pid, "command": session.driver.command}
    return {"driver": driver, "workers": [asdict(one) for one in looks]}


def _lines(session: Session, looks: list[Look]) -> list[str]:
    driver = session.driver
    count = "1 worker" if len(looks) == 1 else f"{len(looks)} workers"
    lines = [f"process {driver.pid}, {count}: {driver.command}" if driver else f"{count} of a program that has ended"]
    for one in looks:
        lines.append("")
        lines.append(f"  worker {one.pid}  {_summary(one)}")
        lines.extend(f"    {frame.file}:{frame.line}  {frame.function}" for frame in one.stack)
    return lines


def _summary(one: Look) -> str:
    if one.state == "idle":
        return "idle"
    text = one.task or ("a function written in C" if one.state == "running" else "")
    if one.running_s is not None:
        text += f", for {_duration(one.running_s)}"
    elif one.state == "running":
        text += ", begun just now"
    return f"{text}; {one.note}" if text and one.note else text or one.note


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
