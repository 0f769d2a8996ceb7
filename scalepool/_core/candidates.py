"""Who may be given tasks of a group now, and how many each: idle workers first, then those that hold too little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core import credit
from scalepool._core.helping import slots_for
from scalepool._core.sharing import is_beyond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["candidates_for"]


def candidates_for(state: HubState, group: Group) -> list[tuple[Worker, int]]:
    """Return the workers that may be given tasks of a group that is no actor's, each with how many."""
    mean_s = group.ready[0].function.mean_s if group.ready else None
    now = state.now
    found: list[tuple[Worker, int]] = []
    if state.roster.has_idle(group.key) and (free := slots_for(state, group)):
        books = group.books
        rooms = None if books is None or state.hosts is None else books.rooms(group, now)
        for worker in _idle(state, group):
            if rooms is not None and rooms.get(worker.host, 0) <= 0:
                continue
            if books is not None and group.gpus:
                free = 1
                if not books.is_usable(worker, group):
                    continue
            if rooms is not None:
                rooms[worker.host] -= 1
            if room := worker.room(mean_s):
                found.append((worker, room))
                if len(found) == free:
                    break
    if group.workers:
        # One that sits in a long task gets nothing: that would only be recalled again.
        patience_s = credit.STALE_S + (mean_s or 0.0)
        held_up = group.parent is None and is_beyond(state)
        for worker in () if held_up else _working(group, credit.enough(mean_s)):
            if (not worker.held or now - worker.reported_at < patience_s) and (room := worker.room(mean_s)):
                found.append((worker, room))
    return found


def _idle(state: HubState, group: Group) -> Sequence[Worker]:
    """Return the workers that do nothing and could run tasks of ``group``, the best for its next one first."""
    idle = state.roster.idle_of(group.key)
    if state.copies and group.queued:
        from scalepool._core.locality import nearest_first  # there is a cluster

        return nearest_first(state, group, idle)
    return idle


def _working(group: Group, full: int) -> list[Worker]:
    """Return the workers that may go on with tasks of ``group``, and hold fewer than ``full``."""
    # One in a wait gets only what that wait is for (Dispatcher.serve_in_place): it would return anything else.
    workers = group.workers.values()
    working = [one for one in workers if one.group is group and len(one.held) < full and not one.waits]
    if group.books is not None:
        working = group.books.going_on(group, working)
    if len(group.workers) > group.cap and group.active() > group.cap:
        # A task that had lent its slot goes on. Somebody has to stop after what it holds: who is first through with it.
        return []
    return working
