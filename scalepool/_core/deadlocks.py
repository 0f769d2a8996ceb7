"""Waits that can never end: actors, and tasks, each of which waits for what cannot begin before the next one goes on.

An actor that waits in ``get`` for a call of another one takes no calls itself meanwhile. If that one waits for a call
of the first, neither ever goes on. Nothing outside can change that, short of a kill or a cancel, so it is an error: of
the waits of such a circle the one that began last is told so, and fails; the others go on.

Who waits for what is known from `Block` and, for the threads of an actor, from `Stall`. A wait is *stuck* if everything
that it waits for is: all of it, because the end of anything else may be an error that ends the wait. What is on its
way, or could be started by anybody, or has a time limit, or may be given up on (waits with a timeout) is not stuck. So
a circle that is found is one.

Nothing is done when a task waits. When an actor does, the hub looks some time later, and then again and again as long
as some actor waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.actor import ActorTask
from scalepool._core.commands import Send
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING
from scalepool._core.workers import Wait, WorkerState
from scalepool._wire import messages as m
from scalepool._wire.actors import Deadlock, Stall, Unstall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._core.actor import Actor
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["AGAIN_S", "LOOK_AFTER_S", "Stalls", "find_circle", "look_for_deadlocks", "note_wait"]

LOOK_AFTER_S: Final = 0.1
"""How long after an actor began to wait the hub looks for circles."""
AGAIN_S: Final = 1.0
"""How long after that it looks again, as long as some actor waits."""

_VALUE: Final = int(m.Status.VALUE)


def note_wait(state: HubState, worker: Worker) -> None:
    """``worker`` has begun to wait; have circles looked for soon if it is an actor."""
    if worker.is_actor:
        due = state.now + LOOK_AFTER_S
        if state.circles_at is None or state.circles_at > due:
            state.circles_at = due
            state.alarm(due)


class Stalls:
    """Takes in that a thread of an actor waits. All state is in HubState."""

    __slots__ = ("_state",)

    def __init__(self, state: HubState) -> None:
        self._state = state

    def stall(self, peer: int, message: Stall) -> None:
        """A thread of an actor waits, or its event loop."""
        worker = self._state.roster.known(peer)
        wait = Wait(message.wanted)
        wait.number, wait.task, wait.needed, wait.label = message.number, message.task, message.needed, message.label
        wait.is_whole = bool(message.whole)
        self._state.waits_begun += 1
        wait.began = self._state.waits_begun
        worker.stalls[message.number] = wait
        note_wait(self._state, worker)

    def unstall(self, peer: int, message: Unstall) -> None:
        """It goes on."""
        self._state.roster.known(peer).stalls.pop(message.number, None)


def look_for_deadlocks(state: HubState) -> None:
    """End the youngest wait of each circle, if it is time to look for some."""
    if state.circles_at is None:
        return
    if state.now < state.circles_at:
        state.alarm(state.circles_at)
        return
    state.circles_at = None
    if not any(worker.is_actor and (worker.waits or worker.stalls) for worker in state.roster.workers.values()):
        return
    while circle := find_circle(state):
        worker, wait = max(circle, key=lambda one: one[1].began)
        wait.is_given_up = True
        is_thread = wait.number in worker.stalls and worker.stalls[wait.number] is wait
        text = _text(state, circle, (worker, wait))
        state.out.command(Send(worker.id, Deadlock(wait.number, int(is_thread), text.encode())))
    state.circles_at = state.now + AGAIN_S
    state.alarm(state.circles_at)


Place = tuple["Worker", Wait]


def find_circle(state: HubState) -> list[Place]:
    """Return waits each of which waits for the next, and the last for the first; empty when there are none such."""
    stuck = {id(wait): (worker, wait) for worker, wait in _waits(state)}
    goes_on = True
    while goes_on:
        goes_on = False
        for key, (_, wait) in list(stuck.items()):
            if _may_end(state, wait, stuck):
                del stuck[key]
                goes_on = True
    path: dict[int, Place] = {}
    place = next(iter(stuck.values()), None)
    while place is not None and id(place[1]) not in path:
        path[id(place[1])] = place
        place = _blocker(state, place[1], stuck)
    if place is None:
        return []
    keys = list(path)
    return [path[key] for key in keys[keys.index(id(place[1])) :]]


def _waits(state: HubState) -> Iterator[Place]:
    """Yield the waits that only the end of what they wait for can end."""
    for worker in state.roster.workers.values():
        if worker.state is WorkerState.READY:
            for wait in (*worker.waits, *worker.stalls.values()):
                if wait.lends and not wait.is_given_up:
                    yield worker, wait


def _may_end(state: HubState, wait: Wait, stuck: dict[int, Place]) -> bool:
    """Whether a wait may end if those that are ``stuck`` do not."""
    tasks = state.tasks
    ended = [task for task in wait.wants if task not in tasks]
    if len(ended) >= abs(wait.needed or 1):
        return True
    if wait.needed < 0:  # an error ends it, and the news of one may be on its way
        for value in ended:
            record = state.values.get(value)
            if record is None or record.status != _VALUE:
                return True
    return any(
        _is_free(state, leaf, stuck) for task in wait.wants if task in tasks for leaf in _leaves(state, tasks[task])
    )


def _leaves(state: HubState, task: Task) -> Iterator[Task]:
    """Yield what has to end before ``task`` can begin, or could end it by an error; itself if it needs nothing."""
    todo, seen = [task], {task.id}
    while todo:
        one = todo.pop()
        makers: list[Task] = []
        if one.state is TaskState.WAITING and isinstance(one, KeptTask):
            makers = list(_makers(state, one)) or _ahead(one)
        if not makers:
            yield one
        for maker in makers:
            if maker.id not in seen:
                seen.add(maker.id)
                todo.append(maker)


def _makers(state: HubState, task: KeptTask) -> Iterator[Task]:
    for need in task.needs:
        record = state.values.get(need)
        if record is not None and record.status == PENDING and record.maker is not None:
            yield record.maker


def _ahead(task: KeptTask) -> list[Task]:
    """Return the call that holds up this one, which needs nothing itself."""
    if not isinstance(task, ActorTask) or task.group.actor is None:
        return []
    lane = task.group.actor.lanes.get(task.lane)
    return [lane[0]] if lane and lane[0] is not task else []


def _is_free(state: HubState, task: Task, stuck: dict[int, Place]) -> bool:
    """Whether a task may end that needs nothing any more."""
    return bool(task.terms.time_limit_s and task.state is TaskState.ASSIGNED) or not _holders(state, task, stuck)


def _holders(state: HubState, task: Task, stuck: dict[int, Place]) -> list[Place]:
    """Return the stuck waits without whose end ``task`` cannot end."""
    if task.state is TaskState.ASSIGNED:
        worker = state.roster.workers.get(task.worker)
        if worker is None or worker.state is not WorkerState.READY:
            return []
        own = [(worker, wait) for wait in _own_waits(worker, task.id) if id(wait) in stuck]
        if own:
            return own
    actor = task.group.actor
    if actor is None or task.group.failure is not None:
        return []
    return _blocking(actor, stuck)


def _own_waits(worker: Worker, task: int) -> Sequence[Wait]:
    """Return the waits of a task, and of those that run in its place meanwhile."""
    for at, wait in enumerate(worker.waits):
        if wait.task == task:
            return worker.waits[at:]
    return [wait for wait in worker.stalls.values() if wait.task == task]


def _blocking(actor: Actor, stuck: dict[int, Place]) -> list[Place]:
    """Return the stuck waits because of which an actor begins no further call, not even one that it has got already.

    What it had ended before it began to wait, it has said so.
    """
    worker = actor.worker
    if worker is None or worker.state is not WorkerState.READY:
        return []
    whole = [(worker, wait) for wait in worker.stalls.values() if wait.is_whole and id(wait) in stuck]
    if whole:
        return whole
    own = [(worker, wait) for wait in worker.waits if id(wait) in stuck]
    if own:
        return own
    threads = [(worker, wait) for wait in reversed(worker.stalls.values()) if id(wait) in stuck]
    return threads if len({wait.task for _, wait in threads}) >= actor.concurrency else []


def _blocker(state: HubState, wait: Wait, stuck: dict[int, Place]) -> Place | None:
    """Return a stuck wait that this one waits for."""
    for number in wait.wants:
        task = state.tasks.get(number)
        if task is not None:
            for leaf in _leaves(state, task):
                for holder in _holders(state, leaf, stuck):
                    return holder
    return None


def _text(state: HubState, circle: Sequence[Place], culprit: Place) -> str:
    """Return what the one who is told should read."""
    at = next(index for index, place in enumerate(circle) if place[1] is culprit[1])
    sentences = [_sentence(state, *place) for place in (*circle[at:], *circle[:at])]
    return (
        "this wait could never end: " + ", and ".join(sentences) + ". Give an actor max_concurrency, make its methods "
        "async and await the call, or pass the reference on instead of waiting for its value"
    )


def _sentence(state: HubState, worker: Worker, wait: Wait) -> str:
    waiter, _, awaited = wait.label.decode(errors="replace").partition("\n")
    process = f"process {worker.pid}"
    if worker.is_actor and (group := state.groups.get(-worker.key)) is not None and group.actor is not None:
        name = group.actor.name.decode(errors="replace").replace("\0", "/")
        process = (
            f"the actor {group.actor.label.decode(errors='replace')}" + (f" {name!r}" if name else "") + ", " + process
        )
    return f"{waiter or 'a task'} ({process}) waits for {awaited or 'another one'}"
