"""Scalepool and those it is compared with: names, and whether they are here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

__all__ = ["CANDIDATES", "Candidate", "find", "missing", "versions"]

Kind = Literal["ours", "peer", "reference"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do a workload.

    Parameters
    ----------
    name
        As shown and typed.
    kind
        ``ours``; ``peer``: something we want to be ahead of; ``reference``: shown beside, such as doing it serially.
    what
        A few words.
    module
        What has to be importable.
    distribution
        What pip installs; empty for what comes with Python or with scalepool.
    """

    name: str
    kind: Kind
    what: str
    module: str = ""
    distribution: str = ""


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("scalepool", "ours", "scalepool.multiprocessing.Pool; in joblib workloads the joblib backend"),
    Candidate("scalepool.Executor", "ours", "scalepool.concurrent.futures.ProcessPoolExecutor"),
    Candidate("multiprocessing.Pool", "peer", "the standard library's, with its default start method"),
    Candidate("ProcessPoolExecutor", "peer", "the standard library's"),
    Candidate("loky", "peer", "loky's reusable executor", "loky", "loky"),
    Candidate("joblib", "peer", "joblib.Parallel with its default backend, loky", "joblib", "joblib"),
    Candidate("joblib-multiprocessing", "peer", "joblib.Parallel, backend multiprocessing", "joblib", "joblib"),
    Candidate("mpire", "peer", "mpire.WorkerPool", "mpire", "mpire"),
    Candidate("dask", "peer", "dask.distributed, LocalCluster of processes", "distributed", "distributed"),
    Candidate("ray", "peer", "Ray on one machine; its multiprocessing.Pool for maps", "ray", "ray"),
    Candidate("shared_memory", "peer", "multiprocessing.shared_memory"),
    Candidate("joblib-threading", "reference", "joblib.Parallel, backend threading", "joblib", "joblib"),
    Candidate("serial", "reference", "a loop in one process"),
)

_BY_NAME = {candidate.name: candidate for candidate in CANDIDATES}


def find(name: str) -> Candidate:
    """Return a candidate by its name; KeyError when there is none."""
    return _BY_NAME[name]


def missing(name: str) -> str | None:
    """Return why a candidate cannot run here; ``None`` when it can."""
    candidate = _BY_NAME[name]
    if candidate.name == "loky" and has_module("joblib"):
        return None  # joblib brings one along, see drivers.loky
    if candidate.module and not has_module(candidate.module):
        return "not installed"
    return None


def has_module(name: str) -> bool:
    """Whether a top-level module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: somebody put None or a module without a spec into sys.modules
        return False


def versions() -> dict[str, str]:
    """Return the installed versions of all that a report may name."""
    names = ("scalepool", "numpy", "scikit-learn", "pyzmq", *(one.distribution for one in CANDIDATES))
    found: dict[str, str] = {}
    for name in filter(None, names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
