"""What workers report of the tasks that they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._core.commands import Send
from scalepool._core.deadlocks import note_wait
from scalepool._core.endings import Autopsy
from scalepool._core.following import note_led
from scalepool._core.revoking import Revoking
from scalepool._core.streams import LOST_AFTER_S, close_stream, is_short, salvage
from scalepool._core.workers import WorkerState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import (
    MISSING,
    PARTS,
    YIELDED,
    unpack_missing,
    unpack_parts,
    unpack_result,
    unpack_stream_end,
)
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.functions import FunctionRecord
    from scalepool._core.state import HubState
    from scalepool._core.task import Task
    from scalepool._core.workers import Worker
    from scalepool._wire.records import Part, ResultRecord

__all__ = ["LOST_AFTER_S", "Reports", "report_handlers"]

_VALUE: Final = int(Status.VALUE)


class Reports:
    """Takes in what workers send about their tasks. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_state", "revoking")

    def __init__(self, state: HubState, dispatcher: Dispatcher, endings: Endings) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings
        self.revoking = Revoking(state, endings, self.settle)

    def done(self, peer: int, message: m.Done) -> None:
        """Finished tasks."""
        worker = self._state.roster.known(peer)
        if len(message.objects) % 4:
            raise ProtocolError(f"worker {peer} described objects by {len(message.objects)} numbers, not four for each")
        results = [unpack_result(record) for record in message.records]
        objects = self._state.objects
        if message.objects:
            objects.add(peer, message.objects, held=False)
        if message.held:
            objects.hold(peer, message.held)
        if worker.revocation.abandoned:
            ended = [result.task for result in results]
            self._endings.free(worker.gave_up(ended, objects, message.held))
        self.take_results(worker, results, message.objects)
        if message.objects:
            self._endings.free(objects.sweep(message.objects[::4]))

    def salvaged(self, worker: Worker, results: Sequence[ResultRecord], objects: m.Ints) -> None:
        """Results that ``worker`` had logged when it died, and the objects in them that could be saved."""
        self._state.objects.add(worker.id, objects, held=False)
        yields = [result for result in results if result.status == YIELDED]
        if yields:  # before the ends of these streams
            salvage(self._state, self._endings.keeping, worker, yields)
            results = [result for result in results if result.status != YIELDED]
        self.take_results(worker, results, objects)
        self._endings.free(self._state.objects.sweep(objects[::4]))

    def take_results(self, worker: Worker, results: Iterable[ResultRecord], objects: m.Ints) -> None:
        """Results of ``worker``, as messages brought them or its flight record kept them."""
        state = self._state
        worker.reported_at = state.now
        finish, held = self._endings.finish, worker.held
        function: FunctionRecord | None = None
        at = calls = total_micros = 0
        for task_id, attempt, status, count, micros, payload in results:
            worker.received += 1
            mine: m.Ints = ()
            parts: Sequence[Part] = unpack_parts(payload) if status == PARTS else ()
            number = sum(part.objects for part in parts) if parts else count
            if number:
                mine = objects[at * 4 : (at + number) * 4 : 4]
                at += number
                if len(mine) != number or any(object_id not in state.objects for object_id in mine):
                    self._note_lost(worker, task_id)
                    continue
                state.objects.pin(mine)
            task = held.get(task_id)
            if task is None or task.attempt != attempt:
                self._endings.free(state.objects.unpin(mine))  # late, or cancelled meanwhile
                continue
            is_whole = task.returns >= 0 and status != MISSING
            whole = payload if is_whole else self._whole(worker, task, status, payload, mine)
            if whole is None:
                continue
            if task.function is not function:
                if function is not None:
                    function.note_durations(total_micros * 1e-6, calls)
                function, calls, total_micros = task.function, 0, 0
            calls += 1
            total_micros += micros
            finish(task, _VALUE if parts else status, micros, whole, mine, parts)
        if function is not None:
            function.note_durations(total_micros * 1e-6, calls)
        if state.out.keeps and held:
            note_led(state, (next(reversed(held.values())),))
        self.settle(worker)

    def _whole(self, worker: Worker, task: Task, status: int, payload: bytes, mine: m.Ints) -> bytes | None:
        """Return how a stream has ended; ``None`` where it has not, or a task has not begun: for lack of some value."""
        if status == MISSING:
            self._not_begun(worker, task, payload)
            return None
        sent, whole = unpack_stream_end(payload)
        if not is_short(self._state.streams[task.id], sent):
            return whole
        self._endings.free(self._state.objects.unpin(mine))
        self._note_lost(worker, task.id)
        return None

    def _not_begun(self, worker: Worker, task: Task, payload: bytes) -> None:
        """A task could not read what it needs: it waits until that has been made again."""
        value, object_id = unpack_missing(payload)
        self._endings.keeping.lineage.unreadable(value, (object_id,))
        if worker.held.pop(task.id, None) is not None:
            self._endings.requeue((task,))

    def _note_lost(self, worker: Worker, task_id: int) -> None:
        # The objects were in the memory of a worker that is dead or dying, or nobody can open them. The task did run:
        # it counts as started. Mostly the worker's end is reported next, and says why it died.
        worker.lost.append(task_id)
        worker.lost_at = self._state.now
        self._state.alarm(worker.lost_at + LOST_AFTER_S)

    def judge_lost(self) -> None:
        """Judge tasks whose results were lost although their workers live on."""
        for worker in list(self._state.roster.workers.values()):
            if not worker.lost:
                continue
            due = worker.lost_at + LOST_AFTER_S
            if self._state.now < due:
                self._state.alarm(due)
                continue
            lost, worker.lost = worker.lost, []
            tasks = [task for task_id in lost if (task := worker.held.pop(task_id, None)) is not None]
            for task in tasks:
                if task.returns < 0:  # it may wait for its reader
                    close_stream(self._state, worker, task.id)
            reason = "its result could not be read: the shared memory that it was in is gone"
            self._endings.judge(tasks, Autopsy(worker.pid, None, dict.fromkeys(lost, 0), reason))
            self.settle(worker)

    def settle(self, worker: Worker) -> None:
        """Decide where a worker stands after tasks left it."""
        if worker.state is WorkerState.LEAVING and not worker.held:
            self._endings.dismiss(worker)
        self._dispatcher.detach(worker)
        if worker.waits:
            self._dispatcher.serve_in_place(worker)

    def returned(self, peer: int, message: m.Returned) -> None:
        """Tasks come back unstarted: because of a recall, a wait, or a wish to cancel them."""
        worker = self._state.roster.known(peer)
        worker.recalled = False
        self.revoking.answered(worker, message.revocation)
        back = self.revoking.given_back(worker, message.tasks)
        worker.assigned_total -= len(back)
        if worker.state is WorkerState.LEAVING and not (worker.used_up or worker.worn) and worker.force_at is None:
            worker.state = WorkerState.READY
        self._endings.free(worker.gave_up(message.tasks, self._state.objects, ()))
        self._endings.requeue(back)
        self._refuse(worker, message.kept)
        self.settle(worker)

    def _refuse(self, worker: Worker, kept: m.Ints) -> None:
        """Tell the owners of tasks that could not be cancelled."""
        for task_id in kept:
            task = worker.held.get(task_id)
            if self._state.out.keeps and (task is None or task.returns < 0):
                close_stream(self._state, worker, task_id)
            elif task is not None and task.cancelling and task_id not in worker.forced:
                task.cancelling = False
                self._state.out.command(Send(task.owner, m.CancelAnswer((task_id,))))

    def block(self, peer: int, message: m.Block) -> None:
        """A task waits for others."""
        worker = self._state.roster.known(peer)
        wait = self._dispatcher.begin_wait(worker, message.wanted)
        wait.task, wait.needed, wait.label, wait.number = message.task, message.needed, message.label, worker.blocks
        self._state.waits_begun = wait.began = self._state.waits_begun + 1
        note_wait(self._state, worker)

    def unblock(self, peer: int, _: m.Unblock) -> None:
        """The task that began to wait last goes on."""
        self._dispatcher.end_wait(self._state.roster.known(peer))

    def sync(self, peer: int, _: m.Sync) -> None:
        """The worker's log is full: say how much of it may be overwritten."""
        received = self._state.roster.known(peer).received
        self._state.out.command(Send(peer, m.Run(received, (), (), (), (), (), (), ())))

    def output(self, _: int, message: m.Output) -> None:
        """Text that a task printed goes to the driver, or to the task's owner where that wants to keep it."""
        if not message.task:
            self._state.out.command(Send(m.DRIVER, message))
            return
        task = self._state.tasks.get(message.task)
        if task is not None:  # else it was cancelled meanwhile
            self._state.out.command(Send(task.owner, message))


def report_handlers(reports: Reports) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with the messages of workers about their tasks."""
    return {
        m.Done: reports.done,
        m.Returned: reports.returned,
        m.Block: reports.block,
        m.Unblock: reports.unblock,
        m.Sync: reports.sync,
        m.Output: reports.output,
        m.Traced: lambda peer, message: None,  # for whoever watches the hub
    }
