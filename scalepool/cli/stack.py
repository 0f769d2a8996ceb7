"""``scalepool stack``: what each worker does now."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from scalepool.cli.look import Look, look
from scalepool.cli.processes import Session, sessions
from scalepool.cli.waiting import Overview, ask_drivers

if TYPE_CHECKING:
    from scalepool.cli.look import Call, Frame
    from scalepool.cli.processes import Seen

__all__ = ["stack"]


@click.command(short_help="Show what each worker does now.")
@click.argument("pid", type=click.IntRange(1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.option("--signal", "by_signal", is_flag=True, help="Look also into C code that lets no Python code run.")
@click.pass_context
def stack(ctx: click.Context, pid: int | None, as_json: bool, by_signal: bool) -> None:
    """Show what each worker does now: its task, for how long, and where in your code it is; of actors all calls that
    they run; and what tasks wait for that nobody runs.

    PID is the process of your program, or one of its workers. Without it all of your programs that use scalepool are
    shown.

    The program and its workers go on undisturbed, and it does not matter whether the program itself hangs. A worker in
    C code that lets no other Python code run cannot answer; with --signal it is interrupted and shows its stack, but a
    sleep or a system call of that code may then end early.

    Workers on the hosts of a cluster are listed by host; what they do is shown by this command there.

    Exit code: 0 when something was shown, 1 when nothing runs, 2 when PID is none of these.
    """  # noqa: D205 - click prints it as it is
    found = sessions()
    if pid is not None:
        found = _of(found, pid)
        if not found:
            raise click.BadParameter(f"process {pid} is neither a program that runs scalepool now nor a worker of one")
    looks = _look_at_all(found, by_signal)
    if as_json:
        click.echo(json.dumps([_plain(*one) for one in looks], indent=2))
    elif not looks:
        click.echo("None of your programs runs scalepool now.")
    else:
        click.echo("\n\n".join("\n".join(_lines(*one)) for one in looks))
    if not looks:
        ctx.exit(1)


def _look_at_all(found: list[Session], by_signal: bool) -> list[tuple[Session, list[Look], Overview]]:
    pids = [worker.pid for session in found for worker in session.workers]
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(ask_drivers, [one.driver.pid for one in found if one.driver is not None and one.is_whole])
        seen = {one.pid: one for one in look(pids, by_signal=by_signal)}
        told = asked.result()
    return [
        (session, [seen[worker.pid] for worker in session.workers], told.get(_pid_of(session), Overview()))
        for session in found
    ]


def _pid_of(session: Session) -> int:
    return 0 if session.driver is None else session.driver.pid


def _of(found: list[Session], pid: int) -> list[Session]:
    chosen = []
    for session in found:
        if pid in {one.pid for one in _heads(session)}:
            chosen.append(session)
        elif (worker := next((one for one in session.workers if one.pid == pid), None)) is not None:
            chosen.append(Session(session.driver, session.zygotes, (worker,), is_whole=False))
    return chosen


def _heads(session: Session) -> list[Seen]:
    return [*([session.driver] if session.driver is not None else []), *session.zygotes]


def _plain(session: Session, looks: list[Look], overview: Overview) -> dict[str, Any]:
    driver = None if session.driver is None else {"pid": session.driver.pid, "command": session.driver.command}
    return {"driver": driver, "workers": [asdict(one) for one in looks], **asdict(overview)}


def _lines(session: Session, looks: list[Look], overview: Overview) -> list[str]:
    driver = session.driver
    far = sum(map(len, overview.hosts.values()))
    count = _counted(len(looks) + far, "worker")
    lines = [f"process {driver.pid}, {count}: {driver.command}" if driver else f"{count} of a program that has ended"]
    if overview.note:
        lines.extend(["", f"  {overview.note}"])
    if overview.waiting:
        lines.append("")
    for waiting in overview.waiting:
        wait = "waits" if waiting.count == 1 else "wait"
        lines.append(f"  {waiting.name}: {_counted(waiting.count, 'task')} {wait} for {waiting.reason}")
    if overview.more:
        lines.append(f"  and {_counted(overview.more, 'task')} more")
    for host, pids in overview.hosts.items():
        lines.extend(["", f"  on {host}: {_counted(len(pids), 'worker')} (process {', '.join(map(str, pids))})"])
        lines.append("    what they do is shown there: scalepool stack")
    for one in looks:
        lines.append("")
        lines.append(f"  worker {one.pid}  {_summary(one)}")
        lines.extend(_frames(one.stack, "    "))
        for call in one.calls:
            lines.append(f"    {_call(call)}")
            lines.extend(_frames(call.stack, "      "))
    return lines


def _frames(stack: tuple[Frame, ...], indent: str) -> list[str]:
    return [f"{indent}{frame.file}:{frame.line}  {frame.function}" for frame in stack]


def _summary(one: Look) -> str:
    actor = f"actor {one.actor_class}" if one.actor_class else ""
    actor += f" {one.actor_name!r}" if one.actor_name else ""
    waiting = f"{one.waiting} more {'wait' if one.waiting > 1 else 'waits'} here" if one.waiting else ""
    parts = [actor, _doing(one), one.note, waiting]
    return "; ".join(filter(None, parts))


def _doing(one: Look) -> str:
    if one.state == "idle":
        return "idle"
    if one.calls:
        count = sum(call.count for call in one.calls) + one.calls_left_out
        text = "1 call" if count == 1 else f"{count} calls" if count else "busy outside of its calls"
        return text + (f", {one.calls_left_out} of them not shown" if one.calls_left_out else "")
    text = one.task or ("a function written in C" if one.state == "running" else "")
    if one.running_s is not None:
        return f"{text}, for {_duration(one.running_s)}"
    return text + (", begun just now" if one.state == "running" else "")


def _call(call: Call) -> str:
    text = call.name or "a method"
    if call.running_s is not None:
        text += f", for {_duration(call.running_s)}"
    return text + (f", {call.count} calls at the same place" if call.count > 1 else "")


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
