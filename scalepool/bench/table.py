"""A report as text: one block per figure, in a hundred columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from scalepool.bench.candidates import CANDIDATES, find, missing
from scalepool.bench.summary import figures, overlap, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import RenderableType

    from scalepool.bench.compare import Change
    from scalepool.bench.model import Workload
    from scalepool.bench.report import Report
    from scalepool.bench.summary import Figure, Verdict

__all__ = ["WIDTH", "block", "changes_table", "head", "listing", "number", "targets_line"]

WIDTH: Final = 100
_COLUMNS: Final = (
    ("", 27, "left"), ("median", 9, "right"), ("range", 20, "left"), ("scalepool is", 15, "right"),
    ("CPU us/task", 11, "right"), ("MB", 7, "right"),
)  # fmt: skip
_MARKS: Final[Mapping[bool | None, tuple[str, str]]] = {
    True: ("met", "green"), False: ("missed", "red"), None: ("not measured", "dim"),
}  # fmt: skip


def number(value: float) -> str:
    """Return a number with three digits that count; whole with commas from 100, in millions from 1,000,000 on."""
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - the test for NaN
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.2f}M"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == int(value):
        return f"{value:.0f}"
    digits = 2 if abs(value) < 0.1 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.{digits}g}"


def head(report: Report) -> Text:
    """Return what the figures are figures of."""
    machine, settings = report.machine, report.settings
    return Text(
        f"{settings['workers']} workers, {settings['rounds']} round(s) of fresh interpreters taking turns"
        f"{', quick sizes (targets are for full ones)' if settings['quick'] else ''}\n"
        f"{machine['cpu']}, {machine['usable_cpus']} of {machine['cpus']} CPUs, load {machine['load']} at the start, "
        f"{machine['system']}, {machine['python']}\n"
        "~ ranges overlap, so it may be chance; CPU and MB: all processes together",
        style="dim",
    )


def block(report: Report, catalogue: Mapping[str, Workload], workload: str) -> RenderableType:
    """Return the figures of one workload."""
    parts: list[RenderableType] = [Text()]
    for index, figure in enumerate(figures(report, catalogue, only=workload)):
        if index == 0:
            parts.append(Text.assemble((workload, "bold"), f"  {figure.workload.what}"))
        parts.extend(_figure(figure, first=index == 0))
    return Group(*parts)


def _figure(figure: Figure, *, first: bool) -> Iterable[RenderableType]:
    metric = figure.metric
    words = ", ".join(filter(None, [metric.what, metric.unit, f"{metric.better} is better"]))
    yield Text(f"  {words}", style="italic")
    if figure.spreads:
        yield _grid(figure, usage=first)
    if first:
        yield from _problems(figure)
    for verdict in verdicts(figure):
        yield _target(verdict)


def _grid(figure: Figure, *, usage: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for title, width, side in _COLUMNS if usage else _COLUMNS[:4]:
        table.add_column(title, width=width, justify="right" if side == "right" else "left", no_wrap=True)
    best_peer = figure.best_peer
    for name, found in figure.spreads.items():
        cell = figure.cells[name]
        cpu_us = [one.cpu_us_per_task for one in cell.rounds if one.cpu_us_per_task is not None] if usage else []
        memory = [one.memory_bytes / 1e6 for one in cell.rounds if one.memory_bytes] if usage else []
        kind = find(name).kind
        used = (number(_middle(cpu_us)) if cpu_us else "", number(_middle(memory)) if memory else "")
        table.add_row(
            f"    {name}",
            number(found.median),
            f"({number(found.low)} - {number(found.high)})" if found.rounds > 1 else "",
            _lead(figure, name),
            *(used if usage else ()),
            style="bold" if name == best_peer else "cyan" if kind == "ours" else "dim" if kind == "reference" else "",
        )
    return table


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _lead(figure: Figure, other: str) -> str:
    times = figure.ahead_of(other)
    if times is None or other == figure.ours:
        return ""
    chance = "~" if overlap(figure.spreads[str(figure.ours)], figure.spreads[other]) else ""
    word = "ahead" if times >= 1 else "behind"
    factor = times if times >= 1 else (1 / times if times else float("inf"))
    return f"{chance}{_factor(factor)}x {word}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 10 else number(value)


def _problems(figure: Figure) -> Iterable[Text]:
    """Yield a line for each reason why there are no figures, or fewer, with those whom it concerns."""
    reasons: dict[str, list[str]] = {}
    for name, cell in figure.cells.items():
        if cell.problem is not None:
            when = f"after {len(cell.rounds)} round(s)" if cell.rounds else "n/a"
            reasons.setdefault(f"{when}: {cell.problem}", []).append(name)
    for reason, names in reasons.items():
        line = Text(f"    {', '.join(names):<23} {reason}", style="dim")
        line.truncate(WIDTH, overflow="ellipsis")
        yield line


def _target(verdict: Verdict) -> Text:
    word, style = _MARKS[verdict.met]
    value = "" if verdict.value is None else f"{number(verdict.value)}, "
    return Text.assemble(f"    target {verdict.text}: {value}", (word, style))


def targets_line(report: Report, catalogue: Mapping[str, Workload]) -> Text:
    """Return how many targets are met, and which are missed."""
    judged = [(figure, verdict) for figure in figures(report, catalogue) for verdict in verdicts(figure)]
    met = sum(verdict.met is True for _, verdict in judged)
    missed = [
        f"{figure.label} ({verdict.text}: {number(verdict.value or 0)})"
        for figure, verdict in judged
        if verdict.met is False
    ]
    unknown = sum(verdict.met is None for _, verdict in judged)
    text = Text(f"\nTargets: {met} met, {len(missed)} missed, {unknown} not measured.")
    for line in missed:
        text.append(f"\n  missed: {line}", style="red")
    return text


def listing(catalogue: Mapping[str, Workload]) -> RenderableType:
    """Return what there is to run, and against whom."""
    workloads = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    workloads.add_column("workload", no_wrap=True, style="bold")
    workloads.add_column("measures")
    for workload in catalogue.values():
        units = ", ".join(dict.fromkeys(metric.unit for metric in workload.metrics if metric.unit))
        workloads.add_row(workload.name, workload.what + (f" [{units}]" if units else ""))
    peers = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    peers.add_column("candidate", no_wrap=True, style="bold")
    peers.add_column("what it is")
    peers.add_column("here", no_wrap=True)
    for candidate in CANDIDATES:
        absent = missing(candidate.name)
        peers.add_row(candidate.name, candidate.what, Text(absent, "red") if absent else Text("yes", "green"))
    return Group(workloads, Text(""), peers)


def changes_table(changes: list[Change], notes: list[str]) -> RenderableType:
    """Return what has changed since an earlier report."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("", "was", "is", "is/was", "x best peer: was", "is", ""):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    words = {"better": Text("better", "green"), "worse": Text("worse", "red"), "same": Text("within noise", "dim")}
    for change in changes:
        own = "" if change.candidate == "scalepool" else f" ({change.candidate.partition('.')[2]})"
        table.add_row(
            f"{change.label}{own}",
            number(change.old.median), number(change.new.median), f"{change.ratio:.2f}",
            "" if change.old_lead is None else _factor(change.old_lead),
            "" if change.new_lead is None else _factor(change.new_lead),
            words[change.direction],
        )  # fmt: skip
    worse = [change.label for change in changes if change.direction == "worse"]
    verdict = f"Worse beyond the noise: {', '.join(worse)}." if worse else "Nothing got worse beyond the noise."
    told = [Text(f"Not the same conditions: {note}.", "yellow") for note in notes]
    return Group(Text("\nSince the earlier report", "bold"), *told, table, Text(verdict, "red" if worse else "green"))
