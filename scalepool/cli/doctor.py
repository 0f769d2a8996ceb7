"""``scalepool doctor``: whether this machine is fit, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from scalepool.cli.checks import Finding, examine, of_leftovers, of_trial
from scalepool.cli.facts import gather, try_out
from scalepool.cli.leftovers import clean as remove
from scalepool.cli.leftovers import find

__all__ = ["doctor"]

_TRIAL_S = 60.0
_SIGNS = {"ok": ("ok", "green"), "hint": ("hint", "yellow"), "problem": ("PROBLEM", "red")}


@click.command(short_help="Check this machine, and say what to do.")
@click.option("--clean", is_flag=True, help="Remove what programs that were killed have left, and end its processes.")
@click.option("--no-trial", is_flag=True, help="Start no workers; only look.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, for programs.")
@click.pass_context
def doctor(ctx: click.Context, clean: bool, no_trial: bool, as_json: bool) -> None:
    """Check this machine: CPUs and memory that may be used, shared memory, limits, versions, the folder for temporary
    files, keys and address of a cluster, leftovers of programs that were killed; and run a few calls in two workers.

    Each finding that needs something says what to do.

    Exit code: 0 when all is well (hints included), 1 when there is a problem.
    """  # noqa: D205 - click prints it as it is
    findings = [*examine(gather()), *_about_clusters()]
    leftovers = find()
    if clean:
        remove(leftovers)
    findings.append(of_leftovers(leftovers, cleaned=clean))
    if not no_trial:
        explained = any(finding.level == "problem" for finding in findings)
        findings.append(of_trial(*try_out(_TRIAL_S), explained=explained))
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _show(findings, problems)
    ctx.exit(1 if problems else 0)


def _about_clusters() -> list[Finding]:
    try:
        from scalepool.cli.cluster_checks import look_for_cluster, of_cluster
    except ImportError:  # of pyzmq, which the findings about packages are about
        return []
    return list(of_cluster(look_for_cluster()))


def _show(findings: list[Finding], problems: int) -> None:
    for finding in findings:
        sign, colour = _SIGNS[finding.level]
        click.echo(f"{click.style(f'{sign:>7}', fg=colour)}  {finding.subject}: {finding.text}")
        if finding.remedy:
            click.echo(f"{'':>9}-> {finding.remedy}")
    counted = {0: "No problem.", 1: "1 problem."}.get(problems, f"{problems} problems.")
    click.echo(f"\n{counted}")
