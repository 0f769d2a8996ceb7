"""All rounds of a comparison with what is needed to judge them, and the JSON file that holds them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scalepool.bench.candidates import versions
from scalepool.bench.tree import free_bytes
from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool.bench.launch import Outcome
    from scalepool.bench.model import Workload
    from scalepool.bench.plan import Plan

__all__ = ["Cell", "Report", "ReportError", "Round", "describe_machine"]

FORMAT: Final = 1


class ReportError(ScalepoolError):
    """A file is no report of ``scalepool bench``, or one of a later version."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one run delivered; see `scalepool.bench.launch.Outcome`."""

    values: Mapping[str, float]
    tasks: int = 0
    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int = 0
    left_behind: int = 0

    @property
    def cpu_us_per_task(self) -> float | None:
        """CPU microseconds of all processes per task; ``None`` where that was not measured."""
        return self.cpu_s / self.tasks * 1e6 if self.cpu_s is not None and self.tasks else None


@dataclass(slots=True)
class Cell:
    """One candidate at one workload: its rounds, and what went wrong if something did."""

    workload: str
    candidate: str
    rounds: list[Round] = field(default_factory=list)
    problem: str | None = None

    def values(self, metric: str) -> list[float]:
        """Return the figures of all rounds."""
        return [one.values[metric] for one in self.rounds if metric in one.values]


@dataclass(slots=True)
class Report:
    """A comparison as far as it has come.

    Parameters
    ----------
    settings
        What was asked for: rounds, workers, quick.
    machine, versions
        Where it ran, and with which versions of everything.
    started_at
        ISO 8601, in UTC.
    cells
        The results.
    """

    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    started_at: str
    cells: list[Cell] = field(default_factory=list)

    @classmethod
    def begin(cls, plan: Plan) -> Report:
        """Return an empty report of this machine."""
        settings = {"rounds": plan.rounds, "workers": plan.workers, "quick": plan.quick, "timeout_s": plan.timeout_s}
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return cls(settings, describe_machine(), versions(), now)

    def cell(self, workload: str, candidate: str) -> Cell:
        """Return a cell, made if it is not there."""
        for cell in self.cells:
            if (cell.workload, cell.candidate) == (workload, candidate):
                return cell
        cell = Cell(workload, candidate)
        self.cells.append(cell)
        return cell

    def of(self, workload: str) -> list[Cell]:
        """Return the cells of one workload."""
        return [cell for cell in self.cells if cell.workload == workload]

    def add(self, workload: str, candidate: str, outcome: Outcome) -> None:
        """Take in how a run ended."""
        cell = self.cell(workload, candidate)
        if outcome.problem is not None:
            cell.problem = outcome.problem
            return
        cell.rounds.append(
            Round(
                outcome.values, outcome.tasks, outcome.wall_s, outcome.cpu_s, outcome.memory_bytes, outcome.left_behind
            )
        )

    def to_json(self, catalogue: Mapping[str, Workload]) -> str:
        """Return everything as JSON; ``workloads`` there explains the figures to whoever has no scalepool."""
        names = {cell.workload for cell in self.cells}
        told = {
            name: {"what": workload.what, "metrics": [asdict(metric) for metric in workload.metrics]}
            for name, workload in catalogue.items()
            if name in names
        }
        return json.dumps({"format": FORMAT, **asdict(self), "workloads": told}, indent=1)

    def save(self, path: Path, catalogue: Mapping[str, Workload]) -> None:
        """Write the file; the old one stays until the new one is complete."""
        part = path.with_name(path.name + ".part")
        part.write_text(self.to_json(catalogue) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file.

        Raises
        ------
        ReportError
            When it holds no report.
        OSError
            When it cannot be read.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ReportError(f"{path} has format {data['format']}, this version reads {FORMAT}")
            cells = [
                Cell(cell["workload"], cell["candidate"], [Round(**one) for one in cell["rounds"]], cell["problem"])
                for cell in data["cells"]
            ]
            return cls(data["settings"], data["machine"], data["versions"], data["started_at"], cells)
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path} is no report of scalepool bench: {type(error).__name__}: {error}") from error


def describe_machine() -> dict[str, Any]:
    """Return what a reader has to know of this machine; nothing that names it or its user."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "free_memory_mb": free_bytes() // 1_000_000,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build": "free-threaded" if not getattr(sys, "_is_gil_enabled", lambda: True)() else "default",
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
