"""When a new worker process may be ordered, and what it means that it may not.

Where processes have died before they were ready, one is tried at a time. A cluster without a host that stays, as the
only one is drained or lost, can start nothing: then what is queued waits for the next one to join. Nothing fails for
that; who waits for long is told, once for each group. Groups that ask for resources have their own word for it; see
``leasing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.commands import Note
from scalepool._core.leasing import WARN_AFTER_S

if TYPE_CHECKING:
    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["host_found", "may_order", "may_try"]


def may_try(state: HubState, group: Group) -> int:
    """How many workers may be starting at once."""
    trouble = state.trouble.get(group.key)
    if trouble is None:
        return group.cap
    if state.now < trouble.retry_at:
        state.alarm(trouble.retry_at)
        return 0
    return 1  # whether this sort of worker starts at all is in doubt: one try at a time


def may_order(state: HubState, group: Group, worker: Worker) -> bool:
    """Whether a new process can be ordered for ``group`` now; what it must hold from its start on is lent to it."""
    if state.hosts is not None and group.books is None and all(host.leaving for host in state.hosts.values()):
        _wait(state, group)
        return False
    return group.books is None or group.books.order(state, group, worker)


def host_found(state: HubState) -> None:
    """Be told that hosts have changed: where one stays nobody waits for that any longer."""
    if state.hosts and not all(host.leaving for host in state.hosts.values()):
        for group in state.groups.values():
            group.hostless_since = None


def _wait(state: HubState, group: Group) -> None:
    if not group.queued or group.warned:
        return
    if group.hostless_since is None:
        group.hostless_since = state.now
    due = group.hostless_since + WARN_AFTER_S
    if state.now < due:
        state.alarm(due + 1e-4)  # a difference of floats must not fall short of it
        return
    group.warned = True
    leaving = len(state.hosts or ())
    there = f"no host; {leaving} {'is' if leaving == 1 else 'are'} about to leave" if leaving else "no host"
    what = f"{group.queued} task{'s' if group.queued > 1 else ''} waited {WARN_AFTER_S:.0f} s for a host to join"
    state.out.command(Note(f"{what}: at least 1 slot needed, 0 available, as the cluster has {there}"))
