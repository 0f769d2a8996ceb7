"""The hub: one state machine for all work of a session.

``handle(event, now)`` is the whole interface: something happened, and the answer is a list of commands. The hub owns no
socket and reads no clock, so the same class runs inside the driver, in a process of its own, and in a simulation that
kills its workers a thousand times a second. ``alarm_at`` is when it wants to be ticked although nothing happened.

What it never does: look into a payload, trust a worker's word about a task that it did not give to that worker, or
leave a task without an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._core.commands import Command, KillWorker, Note, Send
from scalepool._core.dispatch import MAX_LAUNCH_FAILURES, Dispatcher
from scalepool._core.endings import Endings, died
from scalepool._core.events import Event, LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._core.functions import FunctionRecord, Recent
from scalepool._core.groups import Group
from scalepool._core.state import HubState
from scalepool._core.stats import GroupStatistics, HubStatistics, group_statistics, hub_statistics, violations
from scalepool._core.task import Task, TaskState
from scalepool._core.workers import Worker, WorkerState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import unpack_result
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hub"]


class Hub:
    """Owns all tasks, groups, workers and object references of a session.

    Parameters
    ----------
    idle_worker_s
        Seconds after which a worker that nobody uses is dismissed.
    """

    def __init__(self, *, idle_worker_s: float = 30.0) -> None:
        self._state = HubState()
        self._dispatcher = Dispatcher(self._state)
        self._endings = Endings(self._state)
        self._idle_worker_s = idle_worker_s
        self._on_event: dict[type, Callable[[Any], None]] = {
            Received: self._received,
            WorkerStarted: self._worker_started,
            LaunchFailed: self._launch_failed,
            WorkerExited: self._worker_exited,
            Tick: self._tick,
        }
        self._on_message: dict[type, Callable[[int, Any], None]] = {
            m.Submit: self._submit,
            m.Done: self._done,
            m.Returned: self._returned,
            m.Hello: self._hello,
            m.OpenGroup: self._open_group,
            m.CloseGroup: self._close_group,
            m.StartWorkers: self._start_workers,
            m.Cancel: self._cancel,
            m.Block: self._block,
            m.Unblock: self._unblock,
            m.Sync: self._sync,
            m.InitializerFailed: self._initializer_failed,
            m.Output: self._output,
            m.Put: self._put,
            m.Release: self._release,
        }

    # ---- the interface ----

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in ``event``, which happened at ``now`` seconds; return what to do, in order.

        Raises
        ------
        ProtocolError
            When a peer's message makes no sense; the hub's state is as before.
        """
        self._state.now = now
        self._on_event[type(event)](event)
        self._dispatcher.dispatch()
        return self._state.out.drain()

    @property
    def alarm_at(self) -> float | None:
        """When the hub wants a Tick; ``None``: it does not."""
        return self._state.alarm_at

    @property
    def hungry(self) -> bool:
        """Whether a worker is idle: then a submitted task should be sent at once, not batched."""
        state = self._state
        return not state.ready and (not state.tasks or bool(state.roster.all_idle()))

    @property
    def busy(self) -> bool:
        """Whether tasks are under way, or groups about to close."""
        state = self._state
        return bool(state.tasks) or any(group.closing is not None for group in state.groups.values())

    def received_from(self, worker_id: int) -> int:
        """How many results of this worker have arrived."""
        worker = self._state.roster.workers.get(worker_id)
        return worker.received if worker is not None else 0

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub's counts."""
        return hub_statistics(self._state)

    def group_statistics(self, group_id: int) -> GroupStatistics | None:
        """Return a snapshot of one group and its workers; ``None`` when it is not (or no longer) there."""
        return group_statistics(self._state, group_id)

    def check(self) -> None:
        """Raise AssertionError when an invariant does not hold; for tests."""
        broken = violations(self._state)
        assert not broken, "; ".join(broken)

    # ---- events ----

    def _received(self, event: Received) -> None:
        handler = self._on_message.get(type(event.message))
        if handler is None:
            raise ProtocolError(f"peer {event.peer} sent a {type(event.message).__name__} message, which only a hub sends")
        handler(event.peer, event.message)

    def _worker_started(self, event: WorkerStarted) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            worker.pid = event.pid
            if worker.state is WorkerState.KILLED:
                self._state.out.command(KillWorker(worker.id, force=True))

    def _launch_failed(self, event: LaunchFailed) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            self._lost(worker, None, (), event.reason)

    def _worker_exited(self, event: WorkerExited) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is None:
            return
        # A result whose objects were in the dead worker's memory is lost, but its task did run: it counts as started.
        lost = self._take_records(worker, event.records, ())
        self._lost(worker, event.exitcode, (*event.running, *lost), "")

    def _tick(self, event: Tick) -> None:
        state = self._state
        state.alarm_at = None
        self._endings.force_the_stubborn()
        for worker in state.roster.all_idle():
            due = worker.idle_since + self._idle_worker_s
            if state.now >= due and not worker.max_tasks and worker.key >= 0:
                self._endings.dismiss(worker)
            elif worker.key >= 0:
                state.alarm(due)

    # ---- what peers submit ----

    def _open_group(self, peer: int, message: m.OpenGroup) -> None:
        if message.group in self._state.groups:
            raise ProtocolError(f"group {message.group} is open already")
        group = Group(message, peer, self._state.groups.get(message.parent))
        group.moved_at = self._state.now
        self._state.groups[group.id] = group

    def _submit(self, peer: int, message: m.Submit) -> None:
        state = self._state
        group = state.groups.get(message.group)
        if group is None:  # terminated together with the group above it, while this was on its way
            count = len(message.tasks)
            answer = m.Replies(message.tasks, [Status.CANCELLED] * count, [0] * count, [b""] * count)
            state.out.command(Send(peer, answer))
            return
        if group.owner != peer:
            raise ProtocolError(f"peer {peer} submitted to group {message.group}, which it has not opened")
        functions = state.functions.setdefault(peer, Recent())
        for function_id, blob in zip(message.functions, message.blobs, strict=True):
            functions.add(function_id, FunctionRecord(function_id, blob))
        state.objects.add(peer, message.objects, held=False)
        state.objects.pin(message.references)
        at = 0
        for index, task_id in enumerate(message.tasks):
            function = functions.use(message.calls[index])
            if function is None:
                raise ProtocolError(f"peer {peer} submitted a call of a function that it never sent")
            references = message.references
            if message.reference_counts:
                references = message.references[at : at + message.reference_counts[index]]
                at += message.reference_counts[index]
            task = Task(task_id, group, function, message.payloads[index], references)
            task.max_retries = message.max_retries
            state.tasks[task_id] = task
            group.push(task)
        state.ready[group.id] = group
        self._refuse_if_over(group)

    def _refuse_if_over(self, group: Group) -> None:
        if group.failure is not None:
            self._endings.abort(group, Status.INITIALIZER_FAILED, group.failure)
        elif group.closing not in (None, m.CloseMode.DRAIN):
            self._endings.abort(group, Status.CANCELLED, b"")

    def _start_workers(self, peer: int, message: m.StartWorkers) -> None:
        group = self._state.groups.get(message.group)
        if group is not None and group.closing is None:
            group.started_min = group.cap
            self._dispatcher.start_minimum(group)

    def _close_group(self, peer: int, message: m.CloseGroup) -> None:
        group = self._state.groups.get(message.group)
        if group is not None:
            self._endings.close(group, m.CloseMode(message.mode))

    def _cancel(self, peer: int, message: m.Cancel) -> None:
        refused, ask = [], dict[int, list[int]]()
        for task_id in message.tasks:
            task = self._state.tasks.get(task_id)
            if task is None:
                refused.append(task_id)
            elif task.state is TaskState.QUEUED:
                self._endings.finish(task, Status.CANCELLED, 0, b"")
            else:
                ask.setdefault(task.worker, []).append(task_id)
        for worker, tasks in ask.items():
            self._state.out.command(Send(worker, m.CancelTasks(tasks)))
        if refused:
            self._state.out.command(Send(peer, m.CancelAnswer(refused)))

    def _put(self, peer: int, message: m.Put) -> None:
        self._state.objects.add(peer, message.objects, held=True)

    def _release(self, peer: int, message: m.Release) -> None:
        self._endings.free(self._state.objects.release(peer, message.objects))

    # ---- what workers report ----

    def _hello(self, peer: int, message: m.Hello) -> None:
        worker = self._state.roster.workers.get(peer)
        if worker is None or worker.state is not WorkerState.STARTING:
            return  # ordered to die meanwhile: its end comes as WorkerExited
        worker.state = WorkerState.READY
        worker.pid = message.pid
        self._state.failures.pop(worker.key, None)
        self._no_longer_starting(worker)
        self._state.out.command(Send(peer, m.Welcome(m.WIRE_VERSION)))
        self._state.roster.idle(worker, self._state.now)
        self._state.alarm(self._state.now + self._idle_worker_s)
        group = self._state.groups.get(-worker.key) if worker.key < 0 else None
        if worker.key < 0 and (group is None or group.closing is not None):
            if group is None or not group.unfinished:
                self._endings.dismiss(worker)

    def _done(self, peer: int, message: m.Done) -> None:
        worker = self._worker(peer)
        self._state.objects.add(peer, message.objects, held=False)
        self._state.objects.hold(peer, message.held)
        self._take_records(worker, message.records, message.objects)

    def _take_records(self, worker: Worker, records: m.Blobs, objects: m.Ints) -> list[int]:
        state = self._state
        worker.reported_at = state.now
        lost = []
        at = 0
        for record in records:
            result = unpack_result(record)
            worker.received += 1
            mine = objects[at * 4 : (at + result.objects) * 4 : 4] if result.objects else ()
            at += result.objects
            task = worker.held.get(result.task)
            if len(mine) != result.objects:
                lost.append(result.task)
                continue
            if result.objects:
                state.objects.pin(mine)
            if task is None or task.attempt != result.attempt:
                self._endings.free(state.objects.unpin(mine))  # late, or cancelled meanwhile
                continue
            task.function.note_duration(result.micros * 1e-6)
            self._endings.finish(task, result.status, result.micros, result.payload, mine)
        self._settle(worker)
        return lost

    def _settle(self, worker: Worker) -> None:
        """Decide where a worker stands after tasks left it."""
        if worker.state is WorkerState.LEAVING and not worker.held:
            self._endings.dismiss(worker)
        self._dispatcher.detach(worker)
        if worker.waits:
            self._dispatcher.serve_in_place(worker)

    def _returned(self, peer: int, message: m.Returned) -> None:
        worker = self._worker(peer)
        worker.recalled = False
        back = [task for task_id in message.tasks if (task := worker.held.pop(task_id, None)) is not None]
        worker.assigned_total -= len(back)
        if worker.state is WorkerState.LEAVING and not worker.used_up and worker.force_at is None:
            worker.state = WorkerState.READY
        self._endings.requeue(back)
        self._settle(worker)

    def _block(self, peer: int, message: m.Block) -> None:
        self._dispatcher.begin_wait(self._worker(peer), list(message.wanted))

    def _unblock(self, peer: int, message: m.Unblock) -> None:
        self._dispatcher.end_wait(self._worker(peer))

    def _sync(self, peer: int, message: m.Sync) -> None:
        self._state.out.command(Send(peer, m.Run(self._worker(peer).received, (), (), (), (), (), (), ())))

    def _initializer_failed(self, peer: int, message: m.InitializerFailed) -> None:
        worker = self._worker(peer)
        group = self._state.groups.get(-worker.key)
        worker.state = WorkerState.LEAVING
        self._state.roster.unidle(worker)
        self._no_longer_starting(worker)
        if group is not None:
            group.failure = message.error
            self._endings.abort(group, Status.INITIALIZER_FAILED, message.error)

    def _output(self, peer: int, message: m.Output) -> None:
        self._state.out.command(Send(m.DRIVER, message))

    # ---- workers come and go ----

    def _worker(self, peer: int) -> Worker:
        worker = self._state.roster.workers.get(peer)
        if worker is None:
            raise ProtocolError(f"peer {peer} is not a worker of this hub")
        return worker

    def _no_longer_starting(self, worker: Worker) -> None:
        if worker.started_for is not None:
            worker.started_for.starting -= 1
            worker.started_for = None

    def _lost(self, worker: Worker, exitcode: int | None, running: tuple[int, ...], reason: str) -> None:
        state = self._state
        never_ready = worker.state is WorkerState.STARTING
        self._no_longer_starting(worker)
        state.roster.remove(worker.id)
        self._endings.lose(worker, exitcode, running)
        if never_ready:
            self._count_failure(worker, exitcode, reason)
        for group in list(state.groups.values()):
            if group.key == worker.key:
                if group.started_min and group.closing is None and not never_ready and group.failure is None:
                    self._dispatcher.start_minimum(group)
                self._endings.close_if_done(group)

    def _count_failure(self, worker: Worker, exitcode: int | None, reason: str) -> None:
        state = self._state
        count = state.failures[worker.key] = state.failures.get(worker.key, 0) + 1
        text = reason or f"a new worker process ended with exit code {exitcode} before it was ready"
        state.out.command(Note(f"a worker could not be started: {text}"))
        if count < MAX_LAUNCH_FAILURES or state.roster.of_key(worker.key):
            return
        state.failures.pop(worker.key)
        for group in list(state.groups.values()):
            if group.key == worker.key:
                self._endings.abort(group, Status.WORKER_DIED, died(worker.pid, exitcode, 1, text))
