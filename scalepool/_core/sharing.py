"""How a session keeps to its share of a cluster while other programs want workers, too.

The share limits how many workers are at work at once for what the driver itself has submitted. What a task waits for
is never held up, nor is anything stopped: workers beyond the share are through when they have done what they hold. Then
they go, after a moment, so that the hosts are not full of processes that only wait.

A tree that makes no progress for `STARVED_S` seconds may have one worker beyond the share: its tasks may wait for each
other in a way that nobody sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.groups import STARVED_S
from scalepool._core.workers import WorkerState

if TYPE_CHECKING:
    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["SPARE_S", "is_beyond", "room", "spare", "wanted"]

SPARE_S: Final = 1.0
"""How long a worker beyond the share may be idle."""


def wanted(state: HubState) -> int:
    """How many workers the session could have at work now."""
    count = _at_work(state)
    for group in state.ready.values():
        if group.actor is None:
            count += min(group.queued, max(0, group.cap - group.active()))
    return count


def room(state: HubState, group: Group) -> int:
    """How many more workers the share lets ``group`` have at work."""
    left = state.share - _at_work(state)
    if left <= 0 and state.now - group.root.moved_at >= STARVED_S:
        return 1
    return max(0, left)


def is_beyond(state: HubState) -> bool:
    """Whether somebody has to stop after what he holds."""
    return bool(state.share) and _at_work(state) > state.share


def spare(state: HubState) -> list[Worker]:
    """Return idle workers that are beyond the share, from the hosts with most; asks to be asked again."""
    if not state.share:
        return []
    there = [worker for worker in state.roster.workers.values() if not worker.is_actor and _stays(worker)]
    over = len(there) - state.share
    if over <= 0:
        return []
    per_host: dict[int, int] = {}
    for worker in there:
        per_host[worker.host] = per_host.get(worker.host, 0) + 1
    idle = []
    for worker in state.roster.all_idle():
        if state.now >= worker.idle_since + SPARE_S:
            idle.append(worker)
        else:
            state.alarm(worker.idle_since + SPARE_S)
    found: list[Worker] = []
    while idle and len(found) < over:
        worker = max(idle, key=lambda one: per_host[one.host])
        idle.remove(worker)
        per_host[worker.host] -= 1
        found.append(worker)
    return found


def _at_work(state: HubState) -> int:
    return sum(not worker.is_actor and len(worker.held) > len(worker.waits) for worker in state.roster.workers.values())


def _stays(worker: Worker) -> bool:
    return worker.state in (WorkerState.STARTING, WorkerState.READY)
