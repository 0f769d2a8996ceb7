"""The catalogue: every row of the project's table of targets that concerns one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool.bench.workloads import (
    actors,
    arrays,
    calls,
    clusters,
    graphs,
    joblib_work,
    lengths,
    memory,
    objects,
    queues,
    starts,
    streams,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool.bench.model import Workload

__all__ = ["WORKLOADS"]

_ALL: tuple[Workload, ...] = (
    *calls.WORKLOADS,
    *streams.WORKLOADS,
    *lengths.WORKLOADS,
    *arrays.WORKLOADS,
    *objects.WORKLOADS,
    *memory.WORKLOADS,
    *starts.WORKLOADS,
    *waiting.WORKLOADS,
    *graphs.WORKLOADS,
    *actors.WORKLOADS,
    *queues.WORKLOADS,
    *joblib_work.WORKLOADS,
    *clusters.WORKLOADS,
)

WORKLOADS: Final[Mapping[str, Workload]] = {workload.name: workload for workload in _ALL}
