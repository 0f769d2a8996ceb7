"""An earlier report and this one: what has changed beyond the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from scalepool.bench.candidates import find
from scalepool.bench.summary import advantage, figures, overlap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool.bench.model import Workload
    from scalepool.bench.report import Report
    from scalepool.bench.summary import Figure, Spread

__all__ = ["Change", "compare", "differences"]

_SMALL: Final = 1.05
"""A change by less than this is none, however narrow the ranges."""
_SMALL_OF_FEW: Final = 1.25
"""The same where a range comes from fewer rounds than `_ENOUGH`, and so says little."""
_ENOUGH: Final = 3

Direction = Literal["better", "worse", "same"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one figure of one of our candidates.

    Attributes
    ----------
    old, new
        Its figures then and now.
    ratio
        New median / old median.
    old_lead, new_lead
        How many times better than the best peer, then and now; the same peers are taken for both. ``None`` without any.
    direction
        ``same`` unless its ranges do not overlap *and* its lead has moved the same way: a machine that is slower today
        is slower for everybody.
    """

    label: str
    candidate: str
    old: Spread
    new: Spread
    ratio: float
    old_lead: float | None
    new_lead: float | None
    direction: Direction


def compare(old: Report, new: Report, catalogue: Mapping[str, Workload]) -> list[Change]:
    """Compare all figures that both have."""
    before = {(figure.workload.name, figure.metric.name): figure for figure in figures(old, catalogue)}
    changes: list[Change] = []
    for figure in figures(new, catalogue):
        past = before.get((figure.workload.name, figure.metric.name))
        if past is not None:
            ours = [name for name in figure.spreads if name in past.spreads and find(name).kind == "ours"]
            changes.extend(_change(past, figure, name) for name in ours)
    return changes


def _change(past: Figure, figure: Figure, candidate: str) -> Change:
    metric = figure.metric
    old, new = past.spreads[candidate], figure.spreads[candidate]
    peers = [name for name in figure.spreads if name in past.spreads and find(name).kind == "peer"]
    old_lead, new_lead = _lead(past, candidate, peers), _lead(figure, candidate, peers)
    gain = advantage(new.median, old.median, metric.better)
    lead_gain = gain if old_lead is None or new_lead is None else advantage(new_lead, old_lead, "higher")
    direction: Direction = "same"
    small = _SMALL if min(old.rounds, new.rounds) >= _ENOUGH else _SMALL_OF_FEW
    if not overlap(old, new):
        if min(gain, lead_gain) > small:
            direction = "better"
        elif max(gain, lead_gain) < 1 / small:
            direction = "worse"
    return Change(
        figure.label, candidate, old, new, _ratio(new.median, old.median), old_lead, new_lead,
        direction,
    )  # fmt: skip


def _ratio(new: float, old: float) -> float:
    return advantage(new, old, "higher")


def _lead(figure: Figure, candidate: str, peers: list[str]) -> float | None:
    best = figure.best(peers)
    if best is None:
        return None
    return advantage(figure.spreads[candidate].median, figure.spreads[best].median, figure.metric.better)


def differences(old: Report, new: Report) -> list[str]:
    """Return in words what makes two reports hard to compare."""
    told = []
    for what, one, other in (
        *((name, old.settings.get(name), new.settings.get(name)) for name in ("workers", "quick")),
        *((name, old.machine.get(name), new.machine.get(name)) for name in ("cpu", "usable_cpus", "python")),
    ):
        if one != other:
            told.append(f"{what} was {one}, is {other}")
    return told
