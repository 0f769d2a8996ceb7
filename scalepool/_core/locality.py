"""Which of several workers that are free a task goes to: one on a host that has its large arguments already.

It decides between workers that would get a task now, and about nothing else: no task waits for a better place, the
order of tasks stays, and one that does nothing comes before one that works. Without a cluster nobody asks here.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from scalepool._core import credit
from scalepool._core.task import KeptTask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["LARGE_BYTES", "nearest_first", "shares"]

LARGE_BYTES: Final = 1 << 20
"""Smaller objects are brought in less time than it would be worth to queue for."""
_MOST_OBJECTS: Final = 64
"""Of a task's arguments those beyond are not looked at: bounds what a task costs."""
_MOST_HOSTS: Final = 32
"""What more hosts have decides nothing: it is near to most, and comes from many."""


def nearest_first(state: HubState, group: Group, workers: Sequence[Worker]) -> Sequence[Worker]:
    """Return workers sorted by how much of the large arguments of the group's next task their hosts have."""
    there = _bytes_by_host(state, group.first()) if len(workers) > 1 else {}
    return sorted(workers, key=lambda worker: -there.get(worker.host, 0)) if there else workers


def shares(state: HubState, group: Group, candidates: Iterable[tuple[Worker, int]]) -> Iterator[tuple[Worker, int]]:
    """Yield who gets how many of a group's next tasks; the caller gives them before it asks for the next.

    Tasks with large arguments are given one by one, each to the nearest.

    Parameters
    ----------
    candidates
        Workers, and how many tasks each may be given.
    """
    idle, working = _Free(), _Free()
    for worker, room in candidates:
        (working if worker.held else idle).add(worker, room)
    while group.queued and (idle or working):
        free = idle or working
        there = _bytes_by_host(state, group.first())
        worker, room = free.take(there)
        if there:
            yield worker, 1
            if room > 1:
                working.add(worker, room - 1)
        else:
            yield worker, credit.share(group.queued, len(idle) + len(working) + 1, room)


class _Free:
    """Workers with room, which are found by their hosts, too."""

    __slots__ = ("_by_host", "_workers")

    def __init__(self) -> None:
        self._workers: dict[int, tuple[Worker, int]] = {}
        self._by_host: dict[int, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, worker: Worker, room: int) -> None:
        self._workers[worker.id] = worker, room
        self._by_host.setdefault(worker.host, {})[worker.id] = None

    def take(self, there: Mapping[int, int]) -> tuple[Worker, int]:
        """Take out the first one on the host with most of it; the first of all, where nobody's has any."""
        host = max((host for host in there if self._by_host.get(host)), key=there.__getitem__, default=None)
        found = self._workers.pop(next(iter(self._workers if host is None else self._by_host[host])))
        del self._by_host[found[0].host][found[0].id]
        return found


def _bytes_by_host(state: HubState, task: Task) -> dict[int, int]:
    """Return how much of the large arguments of a task each host has."""
    found: dict[int, int] = {}
    for object_id in islice(_objects_of(state, task), _MOST_OBJECTS):
        hosts: Collection[int] = state.copies.get(object_id, ())
        size_bytes = state.objects.size_bytes(object_id) if hosts else 0
        if size_bytes >= LARGE_BYTES and len(hosts) <= _MOST_HOSTS:
            for host in hosts:
                found[host] = found.get(host, 0) + size_bytes
    return found


def _objects_of(state: HubState, task: Task) -> Iterator[int]:
    yield from task.references
    if isinstance(task, KeptTask):
        for need in task.needs:
            record = state.values.get(need)
            if record is not None:
                yield from record.objects
