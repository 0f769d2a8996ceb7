"""What workers report of the tasks that they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.commands import Send
from scalepool._core.workers import WorkerState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import unpack_result
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["Reports"]


class Reports:
    """Takes in what workers send about their tasks. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_state")

    def __init__(self, state: HubState, dispatcher: Dispatcher, endings: Endings) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings

    def done(self, peer: int, message: m.Done) -> None:
        worker = self._worker(peer)
        self._state.objects.add(peer, message.objects, held=False)
        self._state.objects.hold(peer, message.held)
        self.take_records(worker, message.records, message.objects)

    def take_records(self, worker: Worker, records: m.Blobs, objects: m.Ints) -> None:
        """Results of ``worker``, as messages brought them or its flight record kept them."""
        state = self._state
        worker.reported_at = state.now
        at = 0
        for record in records:
            result = unpack_result(record)
            worker.received += 1
            mine: m.Ints = ()
            if result.objects:
                mine = objects[at * 4 : (at + result.objects) * 4 : 4]
                at += result.objects
                if len(mine) != result.objects or any(object_id not in state.objects for object_id in mine):
                    # They were in the memory of a worker that is dead or dying. The task did run: it counts as started.
                    worker.lost.append(result.task)
                    continue
                state.objects.pin(mine)
            task = worker.held.get(result.task)
            if task is None or task.attempt != result.attempt:
                self._endings.free(state.objects.unpin(mine))  # late, or cancelled meanwhile
                continue
            task.function.note_duration(result.micros * 1e-6)
            self._endings.finish(task, result.status, result.micros, result.payload, mine)
        self._settle(worker)

    def _settle(self, worker: Worker) -> None:
        """Decide where a worker stands after tasks left it."""
        if worker.state is WorkerState.LEAVING and not worker.held:
            self._endings.dismiss(worker)
        self._dispatcher.detach(worker)
        if worker.waits:
            self._dispatcher.serve_in_place(worker)

    def returned(self, peer: int, message: m.Returned) -> None:
        """Tasks come back unstarted: because of a recall, a wait, or a wish to cancel them."""
        worker = self._worker(peer)
        worker.recalled = False
        back = [task for task_id in message.tasks if (task := worker.held.get(task_id)) is not None]
        worker.assigned_total -= len(back)
        for task in back:
            if task.cancelling:
                self._endings.finish(task, Status.CANCELLED, 0, b"")
            else:
                del worker.held[task.id]
        if worker.state is WorkerState.LEAVING and not worker.used_up and worker.force_at is None:
            worker.state = WorkerState.READY
        self._endings.requeue(task for task in back if task.id not in worker.held and not task.cancelling)
        self._refuse(worker, message.kept)
        self._settle(worker)

    def _refuse(self, worker: Worker, kept: m.Ints) -> None:
        """Tell the owners of tasks that could not be cancelled."""
        for task_id in kept:
            task = worker.held.get(task_id)
            if task is not None and task.cancelling:
                task.cancelling = False
                self._state.out.command(Send(task.owner, m.CancelAnswer((task_id,))))

    def block(self, peer: int, message: m.Block) -> None:
        self._dispatcher.begin_wait(self._worker(peer), list(message.wanted))

    def unblock(self, peer: int, message: m.Unblock) -> None:
        self._dispatcher.end_wait(self._worker(peer))

    def sync(self, peer: int, message: m.Sync) -> None:
        self._state.out.command(Send(peer, m.Run(self._worker(peer).received, (), (), (), (), (), (), ())))

    def output(self, peer: int, message: m.Output) -> None:
        self._state.out.command(Send(m.DRIVER, message))

    def _worker(self, peer: int) -> Worker:
        worker = self._state.roster.workers.get(peer)
        if worker is None:
            raise ProtocolError(f"peer {peer} is not a worker of this hub")
        return worker

