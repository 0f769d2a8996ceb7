"""``scalepool bench``: options in, plan and report out; what is measured and shown is in `scalepool.bench`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scalepool.api import cpu_count
from scalepool.bench import table
from scalepool.bench.candidates import CANDIDATES, has_module
from scalepool.bench.compare import compare, differences
from scalepool.bench.plan import Plan, UnknownNameError, select
from scalepool.bench.plot import SUFFIXES, draw
from scalepool.bench.report import Report, ReportError
from scalepool.bench.runner import execute
from scalepool.bench.workloads import WORKLOADS
from scalepool.cli.root import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool.bench.plan import Slot

__all__ = ["bench"]


_FILE = click.Path(path_type=Path, dir_okay=False)
_OLD_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the user said; see the help texts below."""

    listed: bool
    only: str | None
    peers: str | None
    rounds: int | None
    workers: int | None
    quick: bool
    timeout: float
    json: Path | None
    compare: Path | None
    plot: Path | None
    shown: Path | None
    profile: bool

    def plan(self) -> Plan:
        """Return what is to be run."""
        ours = [one.name for one in CANDIDATES if one.kind == "ours"]
        others = [one.name for one in CANDIDATES if one.kind != "ours"]
        return Plan(
            workloads=_selected("--only", self.only, list(WORKLOADS)),
            candidates=(*ours, *_selected("--peers", self.peers, others)),
            rounds=self.rounds or (1 if self.quick else 5),
            workers=self.workers or cpu_count(),
            quick=self.quick,
            timeout_s=self.timeout,
        )


def _selected(option: str, patterns: str | None, names: list[str]) -> tuple[str, ...]:
    try:
        return select(patterns, names)
    except UnknownNameError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


@click.command(short_help="Compare scalepool with other pools on this machine.")
@click.option("--list", "listed", is_flag=True, help="Show workloads and candidates, and run nothing.")
@click.option("--only", metavar="NAME[,NAME...]", help="Only these workloads; patterns such as 'array-*' will do.")
@click.option("--peers", metavar="NAME[,NAME...]", help="Only these peers (scalepool always runs); patterns will do.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds, each in fresh interpreters.  [5; with --quick 1]")
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [the CPUs that may be used]")
@click.option("--quick", is_flag=True, help="Small sizes: minutes instead of an hour, and more noise.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds for one run.")
@click.option("--json", type=_FILE, help="Write all rounds, machine and versions to this file.")
@click.option("--compare", type=_OLD_FILE, help="Say what has changed since this file was written by --json.")
@click.option("--plot", type=_FILE, help="Draw a picture (.png or .svg): how far ahead of each peer.")
@click.option("--from", "shown", type=_OLD_FILE, help="Run nothing; show (compare, plot) a file written by --json.")
@click.option("--profile", is_flag=True, help="Say where the microseconds of a task of ours go, and run nothing else.")
@click.pass_context
def bench(ctx: click.Context, /, **given: Any) -> None:
    """Compare scalepool with multiprocessing.Pool, ProcessPoolExecutor, loky, joblib and, where installed, mpire, Dask
    and Ray, on this machine.

    Each run has a fresh interpreter, candidates take turns, results are checked. Close other programs first: ratios
    within one report are what counts, and they too are better on a quiet machine.
    """  # noqa: D205 - click prints it as it is
    options = _Options(**given)
    console = _console()
    if options.listed:
        console.print(table.listing(WORKLOADS))
    elif options.profile:
        ctx.exit(_profile(options, console))
    else:
        ctx.exit(_compare_pools(options, console))


def _console() -> Console:
    # A file or pipe has no width: the tables are made for this one. COLUMNS is heeded in any case.
    console = Console(soft_wrap=False, highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console.width = table.WIDTH
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a locale without our few signs shall not cost the results
    return console


def _compare_pools(options: _Options, console: Console) -> int:
    _check_files(options)
    earlier = _load(options.compare)
    report = _load(options.shown)
    code = 0
    if report is None:
        plan = options.plan()
        report = Report.begin(plan)
        console.print(table.head(report))
        code = _run(plan, report, console)
        if options.json is not None:
            report.save(options.json, WORKLOADS)
    else:
        console.print(table.head(report))
        for workload in WORKLOADS:
            if report.of(workload):
                console.print(table.block(report, WORKLOADS, workload))
    console.print(table.targets_line(report, WORKLOADS))
    if earlier is not None:
        console.print(table.changes_table(compare(earlier, report, WORKLOADS), differences(earlier, report)))
    if options.plot is not None:
        draw(report, WORKLOADS, options.plot)
    return code


def _check_files(options: _Options) -> None:
    """Find out now what would else cost the results of an hour."""
    if options.plot is not None:
        if options.plot.suffix not in SUFFIXES:
            raise click.BadParameter(f"the name has to end in {' or '.join(SUFFIXES)}", param_hint="--plot")
        if not has_module("matplotlib"):
            raise click.UsageError("--plot needs matplotlib: pip install 'scalepool[bench]'")
    for option, path in (("--json", options.json), ("--plot", options.plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint=option)
    if options.shown is not None and options.json is not None:
        raise click.UsageError("--from runs nothing, so there is nothing for --json to write")


def _load(path: Path | None) -> Report | None:
    if path is None:
        return None
    try:
        return Report.load(path)
    except (ReportError, OSError) as error:
        raise click.UsageError(str(error)) from error


def _run(plan: Plan, report: Report, console: Console) -> int:
    """Run it all, show each workload when it is done; return the exit code. After Ctrl-C what there is is shown."""
    slots = list(plan.slots(WORKLOADS))
    # One console for both where it is a terminal, else the bar would draw over the tables.
    screen = console if console.is_terminal else Console(stderr=True)
    columns = (TextColumn("{task.description:<52}"), BarColumn(18), MofNCompleteColumn(), TimeRemainingColumn())
    shown: set[str] = set()
    # It is drawn between runs only: ten times a second would be measured as well.
    options: dict[str, Any] = {"transient": True, "auto_refresh": False, "disable": not screen.is_terminal}
    with Progress(*columns, console=screen, **options) as progress:
        listener = _Watcher(progress, len(slots), lambda name: _show(report, name, console, shown))
        try:
            execute(plan, WORKLOADS, report, listener)
        except KeyboardInterrupt:
            code = INTERRUPTED
        else:
            code = 0
    for name in plan.workloads:
        if name not in shown and any(cell.rounds or cell.problem for cell in report.of(name)):
            _show(report, name, console, shown)
    if code:
        console.print("\nInterrupted: this is what there is.", style="yellow")
    return code


def _show(report: Report, workload: str, console: Console, shown: set[str]) -> None:
    shown.add(workload)
    console.print(table.block(report, WORKLOADS, workload))


class _Watcher:
    """Moves the progress bar, and has each workload shown when it is done."""

    def __init__(self, progress: Progress, total: int, finished: Callable[[str], None]) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)
        self.finished = finished

    def begin(self, slot: Slot) -> None:
        """Name the run."""
        text = f"{slot.workload}: {slot.candidate}, round {slot.round + 1}"
        self._progress.update(self._task, description=text, refresh=True)

    def end(self, slot: Slot) -> None:
        """Count it."""
        self._progress.advance(self._task)


def _profile(options: _Options, console: Console) -> int:
    from scalepool.bench.profile.measure import ProfileError, measure
    from scalepool.bench.profile.view import view

    try:
        profile = measure(options.workers or cpu_count(), quick=options.quick, timeout_s=options.timeout)
    except ProfileError as error:
        raise click.ClickException(str(error)) from error
    console.print(view(profile))
    return 0
