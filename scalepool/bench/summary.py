"""From rounds to statements: medians, ranges, who is ahead by how much, which targets are met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalepool.bench.candidates import find
from scalepool.bench.model import ANY_PEER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scalepool.bench.model import Better, Metric, Target, Workload
    from scalepool.bench.report import Cell, Report

__all__ = ["Figure", "Spread", "Verdict", "advantage", "figures", "overlap", "spread", "verdicts"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of some rounds."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Return median and range; ``None`` of nothing."""
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


def overlap(one: Spread, other: Spread) -> bool:
    """Whether the ranges have a point in common: then a difference may be chance."""
    return one.low <= other.high and other.low <= one.high


def advantage(ours: float, theirs: float, better: Better) -> float:
    """Return how many times better ``ours`` is: 2.0 is twice as good, 0.5 half as good."""
    good, bad = (ours, theirs) if better == "higher" else (theirs, ours)
    if bad == 0:
        return 1.0 if good == 0 else float("inf")
    return good / bad


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one workload, by all candidates.

    Attributes
    ----------
    spreads
        Of those that have figures, in the workload's order.
    cells
        Of all of them.
    """

    workload: Workload
    metric: Metric
    spreads: Mapping[str, Spread]
    cells: Mapping[str, Cell]

    @property
    def label(self) -> str:
        """The workload's name, with the metric's where there are several."""
        name = self.workload.name
        return name if len(self.workload.metrics) == 1 else f"{name} {self.metric.name}"

    @property
    def ours(self) -> str | None:
        """The candidate of ours that the others are compared with."""
        return next((name for name in self.spreads if find(name).kind == "ours"), None)

    @property
    def best_peer(self) -> str | None:
        """The peer with the best median."""
        return self.best(name for name in self.spreads if find(name).kind == "peer")

    def best(self, names: Iterable[str]) -> str | None:
        """Return which of ``names`` has the best median."""
        there = [name for name in names if name in self.spreads]
        sign = 1 if self.metric.better == "lower" else -1
        return min(there, key=lambda name: sign * self.spreads[name].median, default=None)

    def ahead_of(self, other: str) -> float | None:
        """Return how many times better scalepool is than ``other``."""
        if self.ours is None or other not in self.spreads:
            return None
        return advantage(self.spreads[self.ours].median, self.spreads[other].median, self.metric.better)


def figures(report: Report, catalogue: Mapping[str, Workload], only: str | None = None) -> list[Figure]:
    """Return all figures of a report, or those of one workload, in the catalogue's order."""
    found = []
    for name, workload in catalogue.items():
        cells = {cell.candidate: cell for cell in report.of(name) if cell.candidate in workload.adapters}
        if not cells or only not in (None, name):
            continue
        ordered = {candidate: cells[candidate] for candidate in workload.adapters if candidate in cells}
        for metric in workload.metrics:
            spreads = {candidate: spread(cell.values(metric.name)) for candidate, cell in ordered.items()}
            there = {candidate: one for candidate, one in spreads.items() if one is not None}
            found.append(Figure(workload, metric, there, ordered))
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what became of it.

    Attributes
    ----------
    text
        The target in words.
    value
        What was reached, in the target's own terms; ``None`` where somebody's figures are missing.
    met
        Whether that is enough; ``None`` as above.
    """

    text: str
    value: float | None
    met: bool | None


def verdicts(figure: Figure) -> list[Verdict]:
    """Judge the targets of a figure."""
    targets = [target for target in figure.workload.targets if target.metric == figure.metric.name]
    return [_judge(figure, target) for target in targets]


def _judge(figure: Figure, target: Target) -> Verdict:
    metric = figure.metric
    sign = "≤" if metric.better == "lower" else "≥"
    ours = figure.spreads.get(target.ours)
    who = "" if target.ours == "scalepool" else f"{target.ours}: "
    if not target.against:
        text = f"{who}{sign} {target.bound:g} {metric.unit}".rstrip()
        return _verdict(text, ours.median if ours else None, target.bound, metric.better)
    if ANY_PEER in target.against:
        best = figure.best_peer
        text = f"{who}{sign} {target.bound:g}x the best peer"
    else:
        best = figure.best(target.against)
        text = f"{who}{sign} {target.bound:g}x {' and '.join(target.against)}"
    if ours is None or best is None or not figure.spreads[best].median:
        return Verdict(text, None, None)
    return _verdict(text, ours.median / figure.spreads[best].median, target.bound, metric.better)


def _verdict(text: str, value: float | None, bound: float, better: Better) -> Verdict:
    if value is None:
        return Verdict(text, None, None)
    return Verdict(text, value, value <= bound if better == "lower" else value >= bound)
