"""Snapshots of the hub for people and tests, and the invariants that must hold between events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalepool._base.tuples import NamedTuple
from scalepool._core.actor import ActorTask
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING
from scalepool._core.workers import WorkerState
from scalepool._wire.messages import DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scalepool._core.state import HubState

__all__ = ["GroupStatistics", "HubStatistics", "detached_actors", "group_statistics", "hub_statistics", "violations"]


class HubStatistics(NamedTuple):
    """Counts over the whole session; ``object_bytes`` are those of objects in memory."""

    queued: int
    assigned: int
    groups: int
    workers: int
    idle: int
    objects: int
    object_bytes: int = 0
    spilled: int = 0


class GroupStatistics(NamedTuple):
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
        object_bytes=state.objects.memory_bytes,
        spilled=sum(record.spilled for _, record in state.objects.items()),
    )


def detached_actors(state: HubState) -> list[tuple[int, int, int]]:
    """Return the detached actors that live: number, process (0: none now), and how often they began anew."""
    actors = [group.actor for group in list(state.groups.values()) if group.actor is not None and not group.failure]
    return [
        (actor.group.id, 0 if (worker := actor.worker) is None else worker.pid, actor.restarts)
        for actor in actors
        if actor.detached
    ]


def group_statistics(state: HubState, group_id: int) -> GroupStatistics | None:
    """Return a snapshot of one group."""
    group = state.groups.get(group_id)
    if group is None:
        return None
    ready = [w for w in state.roster.of_key(group.key) if w.state is WorkerState.READY]
    # Those that serve it now, then those that worked last: of workers that are shared, its own most likely.
    ready.sort(key=lambda worker: (worker.runs_for(group), worker.reported_at), reverse=True)
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
    checks = (
        _task_violations,
        _group_violations,
        _tree_violations,
        _worker_violations,
        _idle_violations,
        _leaks,
        _value_violations,
        _recipe_violations,
        _actor_violations,
        _lease_violations,
    )
    return [sentence for check in checks for sentence in check(state)]


def _lease_violations(state: HubState) -> Iterator[str]:
    if state.books is not None:
        from scalepool._core.accounts import lease_violations

        yield from lease_violations(state, state.books)


def _task_violations(state: HubState) -> Iterator[str]:
    for task in state.tasks.values():
        if task.state is TaskState.ENDED:
            yield f"{task} has ended but is in the run table"
        if task.group.id not in state.groups:
            yield f"{task} belongs to a group that is gone"
        if task.state is TaskState.ASSIGNED:
            worker = state.roster.workers.get(task.worker)
            if worker is None or task.id not in worker.held:
                yield f"{task} is assigned to a worker that does not hold it"


def _group_violations(state: HubState) -> Iterator[str]:
    starting = Counter(worker.started_for.id for worker in state.roster.workers.values() if worker.started_for)
    queued = Counter(task.group.id for task in state.tasks.values() if task.state is TaskState.QUEUED)
    assigned = Counter(task.group.id for task in state.tasks.values() if task.state is TaskState.ASSIGNED)
    waiting = Counter(task.group.id for task in state.tasks.values() if task.state is TaskState.WAITING)
    for group in state.groups.values():
        counts = (queued[group.id], assigned[group.id], waiting[group.id])
        if counts != (group.queued, group.assigned, group.waiting):
            yield f"{group} counts wrongly: {counts} are queued, assigned, waiting"
        if bool(group.queued) != (group.id in state.ready):
            yield f"{group} is among the ready ones, or is not, and should be the other"
        if group.starting != starting[group.id]:
            yield f"{group} counts {group.starting} workers starting, not {starting[group.id]}"
        if group.closing is not None and not group.unfinished and not group.private:
            yield f"{group} should have been closed"


def _tree_violations(state: HubState) -> Iterator[str]:
    for group in state.groups.values():
        if any(state.groups.get(child) is not found for child, found in group.children.items()):
            yield f"{group} has a child that is gone"
        if group.owner != DRIVER and group.owner not in state.roster.workers:
            yield f"{group} is open although its owner is gone"
        for worker in group.workers.values():
            if state.roster.workers.get(worker.id) is not worker:
                yield f"{group} is served by a worker that is gone"
            elif worker.group is not group and all(wait.group is not group for wait in worker.waits):
                yield f"{group} is served by {worker}, which does not know of it"


def _worker_violations(state: HubState) -> Iterator[str]:
    for worker in state.roster.workers.values():
        for task in worker.held.values():
            if state.tasks.get(task.id) is not task or task.worker != worker.id:
                yield f"{worker} holds {task}, which is not its own"
        if worker.max_tasks and worker.assigned_total > worker.max_tasks:
            yield f"{worker} was given {worker.assigned_total} tasks of at most {worker.max_tasks}"
        if worker.key < 0 and -worker.key not in state.groups:
            yield f"{worker} outlives the group that it is private to"
        for group in (worker.group, *(wait.group for wait in worker.waits)):
            if group is not None and group.workers.get(worker.id) is not worker:
                yield f"{worker} serves {group}, which does not know of it"


def _idle_violations(state: HubState) -> Iterator[str]:
    idle = {worker.id for worker in state.roster.all_idle()}
    for worker in state.roster.workers.values():
        free = not (worker.held or worker.waits or worker.group or worker.revocation.pending)
        if (worker.id in idle) > (worker.state is WorkerState.READY and free):
            yield f"{worker} is listed as idle"
        if worker.state is WorkerState.READY and free and worker.id not in idle and not worker.is_actor:
            yield f"{worker} is free, but not listed as idle"


def _templates(state: HubState) -> Iterator[KeptTask]:
    """Tasks that have ended and may have to make their actors again."""
    for group in state.groups.values():
        if group.actor is not None and group.actor.template is not None:
            yield group.actor.template


def _actor_violations(state: HubState) -> Iterator[str]:
    for name, owner in state.names.items():
        if owner not in state.groups:
            yield f"the name {name!r} is that of an actor which is gone"
    for group in state.groups.values():
        if (actor := group.actor) is None:
            continue
        own = [worker for worker in state.roster.workers.values() if worker.key == group.key]
        staying = [worker for worker in own if worker.state in (WorkerState.STARTING, WorkerState.READY)]
        if len(staying) > 1 or (staying and staying[0] is not actor.worker):
            yield f"{actor} has {staying}, of which it knows {actor.worker}"
        if group.failure is None and group.closing is None and group.id not in state.values:
            yield f"{actor} is there, and nobody has a handle"
        named = state.names.get(actor.name) == group.id
        if group.failure is not None and (group.unfinished or actor.template is not None or named):
            yield f"{actor} is dead, and has {group.unfinished} calls or something else"


def _references(state: HubState) -> Counter[int]:
    """Count by whom each object and value is kept alive."""
    pins = Counter(one for task in (*state.tasks.values(), *_templates(state)) for one in task.references)
    for group in state.groups.values():
        pins.update(group.references)
    for value in state.values.records():
        pins.update(value.references)
    for recipe in state.values.recipes_by_task.values():
        pins.update(recipe.references)
    return pins


def _leaks(state: HubState) -> Iterator[str]:
    in_memory = sum(record.place[2] for _, record in state.objects.items() if not record.spilled)
    if in_memory != state.objects.memory_bytes:
        yield f"{state.objects.memory_bytes} bytes of objects are counted, not {in_memory}"
    moving = sum(record.place[2] for _, record in state.objects.items() if record.moving)
    if moving != state.objects.moving_bytes:
        yield f"{state.objects.moving_bytes} bytes of objects are counted as on their way to the disk, not {moving}"
    pins = _references(state)
    pins.update(one for worker in state.roster.workers.values() for one in worker.guarded)
    pins.update(one for value in state.values.records() for one in value.objects)
    for object_id, record in state.objects.items():
        if record.pins != pins[object_id]:
            yield f"object {object_id} counts {record.pins} that carry it, not {pins[object_id]}"
        if not record.pins and not record.holders:
            yield f"object {object_id} is kept for nobody"
        if gone := [peer for peer in record.holders if peer != DRIVER and peer not in state.roster.workers]:
            yield f"object {object_id} is held by {gone}, who are gone"
    for peer in state.functions:
        if peer != DRIVER and peer not in state.roster.workers:
            yield f"functions of peer {peer} are kept, which is gone"
    keys = {group.key for group in state.groups.values()}
    for key in state.trouble:
        if key not in keys:
            yield f"launch failures of key {key} are kept, and no group has it"


def _expected(task: KeptTask, *, is_ready: bool) -> tuple[TaskState, ...]:
    if not is_ready:
        return TaskState.WAITING, TaskState.ASSIGNED
    if isinstance(task, ActorTask) and task.group.actor is not None and task.lane in task.group.actor.lanes:
        return TaskState.WAITING, TaskState.QUEUED, TaskState.ASSIGNED
    return TaskState.QUEUED, TaskState.ASSIGNED


def _recipe_violations(state: HubState) -> Iterator[str]:
    recipes = state.values.recipes_by_task.values()
    users = Counter(used for recipe in recipes for used in recipe.uses)
    for recipe in recipes:
        alive = sum(value in state.values for value in recipe.values)
        is_idle = not (alive or users[recipe] or any(number in state.tasks for number in recipe.runs))
        if (recipe.alive, recipe.users) != (alive, users[recipe]) or is_idle:
            yield f"{recipe} has {alive} values and {users[recipe]} users"


def _status_violations(state: HubState, making: Mapping[int, int]) -> Iterator[str]:
    for value_id, value in state.values.items():
        # Of a task that runs again only those of its values are pending that were lost.
        is_other = value.status != PENDING and making.get(value_id, 0) > 1
        if not is_other and (value.status == PENDING) != (value_id in making):
            yield f"value {value_id} is {value} although its task says otherwise"
        if value.status != PENDING and (value.dependents or value.wanted):
            yield f"value {value_id} is there, and somebody still waits for it"


def _value_violations(state: HubState) -> Iterator[str]:
    kept = [task for task in state.tasks.values() if isinstance(task, KeptTask)]
    pins = _references(state)
    for task in kept:
        pins.update(task.needs)
        pending = [need for need in task.needs if (found := state.values.get(need)) and found.status == PENDING]
        if len(pending) != task.unmet or task.state not in _expected(task, is_ready=not pending):
            yield f"{task} waits for {task.unmet} values, and should wait for {pending}"
    for template in _templates(state):
        pins.update(template.needs)
    pins.update(group.id for group in state.groups.values() if group.actor is not None and group.actor.detached)
    borrowed = sum(peer != DRIVER for value in state.values.records() for peer in value.holders)
    if borrowed != state.values.borrowed:
        yield f"{state.values.borrowed} holds of workers are counted, not {borrowed}"
    making = {value: task.attempt for task in kept for value in task.values}
    for recipe in state.values.recipes_by_task.values():
        if recipe.items is not None and any(number in state.tasks for number in recipe.runs):
            making.update((value, 2) for lost in recipe.items.lost.values() for value in lost)
    yield from _status_violations(state, making)
    for value_id, value in state.values.items():
        if value.pins != pins[value_id]:
            yield f"value {value_id} counts {value.pins} pins, not {pins[value_id]}"
        if not value.pins and not value.holders and not state.values.busy(value_id):
            yield f"value {value_id} is kept for nobody"
        if gone := [peer for peer in value.holders if peer != DRIVER and peer not in state.roster.workers]:
            yield f"value {value_id} is held by {gone}, who are gone"
