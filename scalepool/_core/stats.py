"""Snapshots of the hub for people and tests, and the invariants that must hold between events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalepool._core.task import TaskState
from scalepool._core.workers import WorkerState

if TYPE_CHECKING:
    from scalepool._core.state import HubState

__all__ = ["GroupStatistics", "HubStatistics", "group_statistics", "hub_statistics", "violations"]


@dataclass(frozen=True, slots=True)
class HubStatistics:
    """Counts over the whole session."""

    queued: int
    assigned: int
    groups: int
    workers: int
    idle: int
    objects: int


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """Counts of one group; ``workers`` are (id, pid) of those that serve it or that it may use."""

    cap: int
    queued: int
    assigned: int
    active: int
    failed: bool
    workers: tuple[tuple[int, int], ...]


def hub_statistics(state: HubState) -> HubStatistics:
    """Return a snapshot of ``state``."""
    return HubStatistics(
        queued=sum(group.queued for group in state.groups.values()),
        assigned=sum(group.assigned for group in state.groups.values()),
        groups=len(state.groups),
        workers=len(state.roster.workers),
        idle=len(state.roster.all_idle()),
        objects=len(state.objects),
    )


def group_statistics(state: HubState, group_id: int) -> GroupStatistics | None:
    """Return a snapshot of one group."""
    group = state.groups.get(group_id)
    if group is None:
        return None
    ready = [w for w in state.roster.of_key(group.key) if w.state is WorkerState.READY]
    ready.sort(key=lambda worker: worker.runs_for(group), reverse=True)
    return GroupStatistics(
        cap=group.cap,
        queued=group.queued,
        assigned=group.assigned,
        active=group.active(),
        failed=group.failure is not None,
        workers=tuple((worker.id, worker.pid) for worker in ready[: group.cap]),
    )


def violations(state: HubState) -> list[str]:
    """Return one sentence for each invariant that does not hold."""
    return [*_task_violations(state), *_group_violations(state), *_worker_violations(state)]


def _task_violations(state: HubState) -> list[str]:
    found = []
    for task in state.tasks.values():
        if task.state is TaskState.ENDED:
            found.append(f"{task} has ended but is in the run table")
        if task.group.id not in state.groups:
            found.append(f"{task} belongs to a group that is gone")
        if task.state is TaskState.ASSIGNED:
            worker = state.roster.workers.get(task.worker)
            if worker is None or task.id not in worker.held:
                found.append(f"{task} is assigned to a worker that does not hold it")
    return found


def _group_violations(state: HubState) -> list[str]:
    found = []
    for group in state.groups.values():
        mine = [task for task in state.tasks.values() if task.group is group]
        queued = sum(task.state is TaskState.QUEUED for task in mine)
        if queued != group.queued or len(mine) - queued != group.assigned:
            found.append(f"{group} counts wrongly: {queued} queued, {len(mine) - queued} assigned")
        if group.queued and group.id not in state.ready:
            found.append(f"{group} has queued tasks but is not among the ready ones")
        if group.starting < 0:
            found.append(f"{group} has {group.starting} workers starting")
        for worker in group.workers.values():
            if worker.id not in state.roster.workers:
                found.append(f"{group} is served by a worker that is gone")
    return found


def _worker_violations(state: HubState) -> list[str]:
    found = []
    for worker in state.roster.workers.values():
        for task in worker.held.values():
            if state.tasks.get(task.id) is not task or task.worker != worker.id:
                found.append(f"{worker} holds {task}, which is not its own")
        if worker.max_tasks and worker.assigned_total > worker.max_tasks:
            found.append(f"{worker} was given {worker.assigned_total} tasks of at most {worker.max_tasks}")
    for worker in state.roster.all_idle():
        if worker.held or worker.state is not WorkerState.READY:
            found.append(f"{worker} is listed as idle")
    return found
