"""Reports made of numbers, for the tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalepool.bench.model import ANY_PEER, Metric, Target, Workload, on
from scalepool.bench.report import Cell, Report, Round

CANDIDATES = ("scalepool", "scalepool.Executor", "multiprocessing.Pool", "ray", "serial")
SIZES = {"tasks": 1}

CATALOGUE = {
    workload.name: workload
    for workload in (
        Workload(
            "latency", "one call", (Metric("p50", "us"), Metric("p99", "us", what="tail")),
            on(CANDIDATES, lambda run: None), SIZES, SIZES,
            targets=(Target("p50", 0.9, against=("multiprocessing.Pool",)), Target("p50", 100.0)),
        ),
        Workload(
            "rate", "many calls", (Metric("rate", "tasks/s", "higher"),),
            on(CANDIDATES, lambda run: None), SIZES, SIZES,
            targets=(
                Target("rate", 2.0, against=(ANY_PEER,)),
                Target("rate", 8.0, ours="scalepool.Executor", against=("ray",)),
            ),
        ),
    )
}  # fmt: skip

Values = Mapping[str, Mapping[str, Sequence[float]]]


def report(values: Values, problems: Mapping[tuple[str, str], str] | None = None, **settings: object) -> Report:
    """Return a report: ``values[workload][candidate]`` are the main metric's figures by round."""
    cells = []
    for workload, candidates in values.items():
        metric = CATALOGUE[workload].metrics[0].name
        for candidate, figures in candidates.items():
            rounds = [
                Round({metric: one}, tasks=10, wall_s=1.0, cpu_s=0.001, memory_bytes=30_000_000) for one in figures
            ]
            cells.append(Cell(workload, candidate, rounds))
    for (workload, candidate), problem in (problems or {}).items():
        cells.append(Cell(workload, candidate, [], problem))
    machine = {"cpu": "Some CPU", "cpus": 4, "usable_cpus": 2, "system": "Linux", "python": "CPython 3.11", "load": 0.1}
    return Report({"rounds": 3, "workers": 2, "quick": False} | settings, machine, {}, "2025-01-01T00:00:00", cells)
