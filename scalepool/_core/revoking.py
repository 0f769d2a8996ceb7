"""Tasks are taken back from a worker that does not answer.

A worker holds a few tasks ahead of the one that it runs. It gives them back when it is asked to, even in the middle of
a long task; but not when it was stopped (SIGSTOP, a debugger, a suspended container) or sits in code that lets no other
thread run. Then nobody else could run them, for as long as that lasts. So what has not begun is taken back without its
help, through the flight record that both sides see:

1. The hub writes the number of the revocation into the record, and sends the same number as a message, ``Revoke``.
2. A worker that begins a task writes that down in the record first and looks at the number afterwards. If it is not
   the one of the last message that the worker has taken in, the task is not run but given back.
3. A little later the hub looks which tasks the record says have begun or were finished. Each of the others will, when
   the worker gets to it, meet the number; so it is the hub's again, at once.

Either the hub sees that a task has begun, or the worker sees the number, or both (then the worker gives it back):
nothing runs twice, and nothing is lost. The worker is given nothing new until it has answered the message, behind which
there can be no old task on its way any more.

When: an answer on tasks that are to come back is overdue, or a worker that has tasks was silent for so long and its
record shows that it has not begun any. To be wrong about a worker that is merely slow costs two messages; whether
somebody is started in its place is another question (see ``doubts``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import Inspect, Revoke, Send
from scalepool._core.workers import WorkerState
from scalepool._wire import messages as m
from scalepool._wire.records import unpack_result
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.events import Inspected
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker

__all__ = ["PATIENCE_S", "SETTLE_S", "Revoking", "expect_answer"]

PATIENCE_S: Final = 0.3
"""How long a worker may owe an answer, or be silent with tasks that it may not have begun."""
SETTLE_S: Final = 0.005
"""Time between writing the number and looking what has begun: by then both processors have seen what the other wrote,
which takes them less than a microsecond."""
_ALIVE: Final = (WorkerState.READY, WorkerState.LEAVING)


def expect_answer(state: HubState, worker: Worker) -> None:
    """``worker`` was asked to give tasks back. An actor's calls can run nowhere else: they wait for it."""
    if worker.is_actor:
        return
    if worker.revocation.asked_at is None:
        worker.revocation.asked_at = state.now
    state.alarm(worker.revocation.asked_at + PATIENCE_S)


class Revoking:
    """Decides when tasks are taken back, and which. All state is in HubState."""

    __slots__ = ("_endings", "_settle", "_state")

    def __init__(self, state: HubState, endings: Endings, settle: Callable[[Worker], None]) -> None:
        self._state = state
        self._endings = endings
        self._settle = settle

    def look(self) -> None:
        """See who is overdue."""
        now, alarm = self._state.now, self._state.alarm
        for worker in self._state.roster.workers.values():
            if worker.state not in _ALIVE or not worker.held or worker.is_actor:
                worker.revocation.judge_at = None
                continue
            due = self._due(worker)
            if due is None:
                continue
            if now < due:
                alarm(due)
            elif worker.revocation.judge_at is not None:
                worker.revocation.judge_at = None
                self._state.out.command(Inspect(worker.id, worker.revocation.pending))
            elif worker.revocation.asked_at is not None:
                self._revoke(worker)
            else:
                worker.revocation.looked_at = now
                self._state.out.command(Inspect(worker.id))

    def _due(self, worker: Worker) -> float | None:
        if worker.revocation.pending:
            return worker.revocation.judge_at
        if worker.revocation.asked_at is not None:
            return worker.revocation.asked_at + PATIENCE_S
        return None if worker.revocation.looked_at >= worker.reported_at else worker.reported_at + PATIENCE_S

    def _revoke(self, worker: Worker) -> None:
        worker.revocation.count += 1
        worker.revocation.pending = worker.revocation.count
        worker.revocation.revoked_at, worker.revocation.is_stopped = self._state.now, False
        # A little later than needed: a difference of floats must not fall short of it.
        worker.revocation.judge_at = self._state.now + SETTLE_S + 1e-4
        self._state.alarm(worker.revocation.judge_at)
        self._state.out.command(Revoke(worker.id, worker.revocation.pending))
        self._state.out.command(Send(worker.id, m.Revoke(worker.revocation.pending)))

    def inspected(self, event: Inspected) -> None:
        """A flight record was looked into: take back what has not begun, or see that nothing has."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is None or worker.state not in _ALIVE or worker.is_actor:
            return
        if not event.revocation:
            silent = self._state.now >= max(worker.reported_at, worker.revocation.answered_at) + PATIENCE_S
            has_more = len(worker.held) > len(worker.held.keys() & set(worker.lost))
            if silent and has_more and not event.running and not worker.revocation.pending:
                self._revoke(worker)
            return
        if event.revocation != worker.revocation.pending:
            return
        worker.revocation.is_stopped = event.is_stopped
        finished = _finished(event.records)
        begun = {*event.running, *finished, *worker.lost}
        back = [task for task in worker.held.values() if task.id not in begun] if None not in finished else []
        for task in back:
            del worker.held[task.id]
            worker.revocation.taken.add(task.id)
        worker.assigned_total -= len(back)
        self._refuse(worker, [task for task in worker.held.values() if task.id in begun])
        self._endings.requeue(back)
        self._settle(worker)

    def given_back(self, worker: Worker, tasks: Sequence[int]) -> list[Task]:
        """Take these tasks off ``worker``, which gives them back, but for those that had been taken back before."""
        taken = worker.revocation.taken
        if taken:
            before = taken.intersection(tasks)
            taken -= before
            tasks = [task_id for task_id in tasks if task_id not in before]
        return [task for task_id in tasks if (task := worker.held.pop(task_id, None)) is not None]

    def _refuse(self, worker: Worker, begun: Iterable[Task]) -> None:
        """Tell the owners of tasks that cannot be cancelled any more; those to be stopped by force are looked for."""
        for task in begun:
            if task.cancelling and task.id not in worker.forced:
                task.cancelling = False
                self._state.out.command(Send(task.owner, m.CancelAnswer((task.id,))))

    def answered(self, worker: Worker, number: int) -> None:
        """``worker`` gave tasks back, and perhaps has taken in a revocation."""
        worker.revocation.asked_at = None
        worker.revocation.answered_at = self._state.now
        if self._state.has_cancels and any(task.cancelling for task in worker.held.values()):
            expect_answer(self._state, worker)  # on these
        if number and number == worker.revocation.pending:
            worker.revocation.pending = 0
            worker.revocation.judge_at = None


def _finished(records: Iterable[bytes]) -> list[int | None]:
    """Return the tasks of these results; ``None`` for one that cannot be read, as its worker has scribbled over it."""
    found: list[int | None] = []
    for record in records:
        try:
            found.append(unpack_result(record).task)
        except ProtocolError:
            found.append(None)
    return found
