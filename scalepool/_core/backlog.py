"""What tasks that nobody runs wait for: values, resources, their turn. For people who ask; nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool._core.state import HubState
    from scalepool._core.task import Task

__all__ = ["Held", "backlog"]

_MAKERS_MAX: Final = 3


class Held(NamedTuple):
    """A task that nobody runs.

    Attributes
    ----------
    task
        Its number.
    actor
        The class of the actor whose method it calls; empty: it is none of an actor.
    reason
        What it waits for, as a text; empty: for values, see ``makers``.
    makers
        Tasks that make values which it needs, a few of them.
    is_kept
        Whether its results are values, so that who submitted it has a name for it.
    """

    task: int
    actor: str
    reason: str
    makers: tuple[int, ...] = ()
    is_kept: bool = True


def backlog(state: HubState) -> Iterator[Held]:
    """Yield the tasks that are in no worker, in the order in which they came.

    May be called from any thread, since it reads each thing once; what changes meanwhile may be missing.
    """
    reasons: dict[int, str] = {}
    for task in list(state.tasks.values()):
        if task.state is TaskState.WAITING and isinstance(task, KeptTask):
            yield Held(task.id, _actor_of(task), "", _makers(state, task))
        elif task.state is TaskState.QUEUED:
            group = task.group
            if group.id not in reasons:
                reasons[group.id] = _reason(task)
            yield Held(task.id, _actor_of(task), reasons[group.id], (), isinstance(task, KeptTask))


def _actor_of(task: Task) -> str:
    actor = task.group.actor
    return "" if actor is None else actor.label.decode("utf-8", "replace")


def _reason(task: Task) -> str:
    """Say what the queued tasks of a group wait for."""
    group = task.group
    actor = group.actor
    if actor is not None and actor.worker is not None:
        return "earlier calls of the actor"
    if group.books is not None and not group.books.has_room(group.demand):
        return f"resources: {group.books.shortage(group.demand)}"
    if actor is not None:
        return "the actor's process to start"
    busy = len(group.workers)
    if group.starting and not busy:
        return "a worker to start"
    return f"a free worker; {busy} {'is' if busy == 1 else 'are'} busy"


def _makers(state: HubState, task: KeptTask) -> tuple[int, ...]:
    """Return some of the tasks whose values are not there yet."""
    found: dict[int, None] = {}
    for need in task.needs:
        record = state.values.get(need)
        if record is not None and record.status == PENDING and record.maker is not None:
            found[record.maker.id] = None
            if len(found) == _MAKERS_MAX:
                break
    return tuple(found)
