"""What a workload is: a few figures, sizes, and for each candidate a function that measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scalepool.bench.run import Run

__all__ = ["ANY_PEER", "Adapter", "Better", "Metric", "Target", "Workload", "on"]

Better = Literal["lower", "higher"]
Adapter = Callable[["Run"], None]

ANY_PEER = "any peer"
"""In `Target.against`: whichever peer was best."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a workload.

    Parameters
    ----------
    name
        Short; unique in its workload.
    unit
        Such as ``us`` or ``tasks/s``; empty for a plain ratio.
    better
        Which way is good.
    what
        What the figure is, as part of a sentence; empty where the workload's own sentence says it.
    """

    name: str
    unit: str
    better: Better = "lower"
    what: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What scalepool wants to reach on one machine.

    Parameters
    ----------
    metric
        Name of the figure.
    bound
        The value to reach; with ``against`` the ratio of our value to theirs.
    ours
        The candidate that has to.
    against
        Peers, the best of which is the measure; `ANY_PEER` for all; empty for an absolute bound.
    """

    metric: str
    bound: float
    ours: str = "scalepool"
    against: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that people do with a pool, and how each candidate does it.

    Parameters
    ----------
    name
        Short, as typed by the user.
    what
        What is measured, in one sentence without a full stop.
    metrics
        The figures that a run delivers, the main one first.
    adapters
        For each candidate's name the function that does it: warms up, measures, checks, records.
    full, quick
        Sizes of a full and of a quick run. One whose name ends in ``_bytes`` is cut to an eighth of the free memory.
    fewer
        Divides ``tasks`` for candidates that would take minutes; rates and times per task stay comparable.
    targets
        What we want to reach.
    needs
        Modules without which no candidate can do it.
    watch_memory
        Whether memory is sampled while it runs: not where that disturbs what is measured.
    one_core
        Whether the whole run is pinned to a single core.
    """

    name: str
    what: str
    metrics: tuple[Metric, ...]
    adapters: Mapping[str, Adapter]
    full: Mapping[str, int]
    quick: Mapping[str, int]
    fewer: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    needs: tuple[str, ...] = ()
    watch_memory: bool = False
    one_core: bool = False

    def __post_init__(self) -> None:
        names = {metric.name for metric in self.metrics}
        unknown = [target.metric for target in self.targets if target.metric not in names]
        if unknown or not names or self.full.keys() != self.quick.keys():
            raise ValueError(f"workload {self.name!r} does not fit together: {unknown}")

    def metric(self, name: str) -> Metric:
        """Return a metric by name; KeyError when there is none."""
        return {metric.name: metric for metric in self.metrics}[name]

    def sizes(self, candidate: str, *, quick: bool, free_bytes: int) -> dict[str, int]:
        """Return the sizes of a run.

        Parameters
        ----------
        candidate
            Who runs it.
        quick
            Whether small sizes are wanted.
        free_bytes
            Memory that is free on this machine.
        """
        sizes = dict(self.quick if quick else self.full)
        for name, size in sizes.items():
            if name.endswith("_bytes"):
                sizes[name] = min(size, max(1 << 20, free_bytes // 8))
        if "tasks" in sizes:
            sizes["tasks"] = max(1, sizes["tasks"] // self.fewer.get(candidate, 1))
        return sizes


def on(names: tuple[str, ...], adapter: Adapter) -> dict[str, Adapter]:
    """Say that all these candidates do it by the same code."""
    return dict.fromkeys(names, adapter)
