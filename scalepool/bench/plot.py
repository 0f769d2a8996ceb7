"""A report as a picture: how many times ahead of each peer scalepool is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool.bench.candidates import CANDIDATES
from scalepool.bench.summary import figures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scalepool.bench.model import Workload
    from scalepool.bench.report import Report
    from scalepool.bench.summary import Figure

__all__ = ["SUFFIXES", "draw", "points"]

SUFFIXES: Final = (".png", ".svg")
_MARKERS: Final = "os^Dv*P<>Xhp"


def points(report: Report, catalogue: Mapping[str, Workload]) -> tuple[list[str], dict[str, list[tuple[int, float]]]]:
    """Return the labels of the rows, and for each peer the points (row, times that scalepool is ahead)."""
    rows: list[str] = []
    found: dict[str, list[tuple[int, float]]] = {}
    for figure in figures(report, catalogue):
        leads = _leads(figure)
        if not leads:
            continue
        for name, times in leads.items():
            found.setdefault(name, []).append((len(rows), times))
        rows.append(figure.label)
    return rows, found


def _leads(figure: Figure) -> dict[str, float]:
    leads = {}
    for candidate in CANDIDATES:
        times = figure.ahead_of(candidate.name) if candidate.kind == "peer" else None
        if times is not None and 0 < times < float("inf"):
            leads[candidate.name] = times
    return leads


def draw(report: Report, catalogue: Mapping[str, Workload], path: Path) -> None:
    """Write the picture; the suffix of ``path``, one of `SUFFIXES`, is its format.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    from matplotlib.figure import Figure as Picture

    rows, found = points(report, catalogue)
    picture = Picture(figsize=(10, 1.8 + 0.3 * len(rows)), layout="constrained")
    axes: Any = picture.subplots()
    axes.axvline(1.0, color="black", linewidth=1)
    for (name, there), marker in zip(found.items(), _MARKERS, strict=False):
        axes.scatter([times for _, times in there], [row for row, _ in there], label=name, marker=marker, s=36)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=True, axis="both", linewidth=0.4, alpha=0.6)
    axes.set_xlabel("how many times ahead scalepool is (left of 1: behind)")
    settings, machine = report.settings, report.machine
    quick = ", quick sizes" if settings["quick"] else ""
    axes.set_title(f"{settings['workers']} workers, {machine['usable_cpus']} CPUs, {machine['python']}{quick}")
    if found:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    picture.savefig(path, dpi=120)
