"""Time limits of tasks, and tasks that are to be stopped although they run.

The hub does not know when a task of a batch starts: workers report in batches, and a task that holds the interpreter
keeps its worker from reporting at all. The worker's flight record knows. So while a worker holds tasks that have a
limit, the hub looks into its record every so often, and a task that is found in it again and again, at the same item of
its input, for as long as its limit is condemned: its worker is killed, and when it is gone the task ends as what it was
condemned to. A limit is never cut short; it may be stretched by the time between two looks, a sixteenth of the limit
and a quarter of a second at most. A task without a limit costs nothing here.

A task that is to be stopped by force is looked for in the same way. Where it has not started, the worker gives it back,
as with any cancelling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import Inspect, Send
from scalepool._core.workers import WorkerState
from scalepool._wire.messages import CancelAnswer, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scalepool._core.endings import Endings
    from scalepool._core.events import Inspected
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["CONDEMNED_GRACE_S", "FORCED_LOOK_S", "Deadlines", "look_interval_s", "watch"]

CONDEMNED_GRACE_S: Final = 0.5
"""Time that a condemned task has to tidy up, from the signal that it may handle to the one that it cannot."""
FORCED_LOOK_S: Final = 0.02
"""Time between two looks for a task that is to be stopped."""
_SHORTEST_LOOK_S: Final = 0.01
_LONGEST_LOOK_S: Final = 0.25


def look_interval_s(limit_s: float) -> float:
    """Return the time between two looks at a worker whose tasks have this limit."""
    return min(max(limit_s / 16, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)


def watch(state: HubState, worker: Worker, tasks: Iterable[Task]) -> None:
    """Have ``worker`` looked at soon if one of these tasks, which it has just got, has a limit."""
    limits = [task.terms.time_limit_s for task in tasks if task.terms.time_limit_s]
    if limits:
        due = state.now + look_interval_s(min(limits))
        worker.look_at = due if worker.look_at is None else min(worker.look_at, due)
        state.alarm(worker.look_at)


class Deadlines:
    """Watches what has a limit, and condemns it. All state is in HubState."""

    __slots__ = ("_endings", "_state")

    def __init__(self, state: HubState, endings: Endings) -> None:
        self._state = state
        self._endings = endings

    def stop(self, worker: Worker, tasks: Iterable[int]) -> None:
        """Stop these tasks of ``worker``, whether or not they have started."""
        worker.forced.update(tasks)
        self._look(worker)

    def look(self) -> None:
        """Have those looked at for whom it is time."""
        for worker in self._state.roster.workers.values():
            if worker.look_at is None:
                continue
            if self._state.now < worker.look_at:
                self._state.alarm(worker.look_at)
            else:
                worker.look_at = None
                self._look(worker)

    def inspected(self, event: Inspected) -> None:
        """Compare with what was seen before."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is None or worker.state is WorkerState.KILLED:
            return
        now = self._state.now
        seen: dict[int, tuple[int, float]] = {}
        for task_id, item in zip(event.running, event.items, strict=True):
            task = worker.held.get(task_id)
            if task is None:
                continue
            if task_id in worker.forced:
                worker.forced.discard(task_id)
                if task_id != event.running[0]:
                    self._refuse(task)  # it runs in place: to stop it would be to stop the one that waits for it
                    continue
                self.condemn(worker, task, Status.CANCELLED)
                return
            if not task.terms.time_limit_s:
                continue
            before, since = worker.seen.get(task_id, (-1, now))
            seen[task_id] = (item, since if before == item else now)
            if now - seen[task_id][1] >= task.terms.time_limit_s:
                self.condemn(worker, task, Status.TIMED_OUT, item)
                return
        worker.seen = seen

    def condemn(self, worker: Worker, task: Task, status: Status, item: int = 0) -> None:
        """Kill ``worker`` because of ``task``, which then ends as ``status``."""
        worker.condemned[task.id] = (status, item)
        task.cancelling = False
        worker.look_at = None
        worker.forced.clear()
        self._endings.kill(worker, force=False, grace_s=CONDEMNED_GRACE_S)

    def _look(self, worker: Worker) -> None:
        if worker.state is WorkerState.KILLED:
            return
        worker.forced.intersection_update(worker.held)
        limits = [task.terms.time_limit_s for task in worker.held.values() if task.terms.time_limit_s]
        if not limits and not worker.forced:
            worker.seen = {}
            return
        self._state.out.command(Inspect(worker.id))
        interval_s = min(map(look_interval_s, limits), default=FORCED_LOOK_S)
        if worker.forced:
            interval_s = min(interval_s, FORCED_LOOK_S)
        ends = [
            since + worker.held[task].terms.time_limit_s
            for task, (_, since) in worker.seen.items()
            if task in worker.held
        ]
        # A little later than needed: a sum of floats must not fall short of what it is compared with.
        worker.look_at = min([self._state.now + interval_s, *(end + 1e-4 for end in ends if end > self._state.now)])
        self._state.alarm(worker.look_at)

    def _refuse(self, task: Task) -> None:
        task.cancelling = False
        self._state.out.command(Send(task.owner, CancelAnswer((task.id,))))
