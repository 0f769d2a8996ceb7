"""Workers come, fail to come, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import KillWorker, Note, Send
from scalepool._core.endings import died
from scalepool._core.workers import WorkerState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.events import LaunchFailed, WorkerExited, WorkerStarted
    from scalepool._core.reports import Reports
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["MAX_LAUNCH_FAILURES", "Lifecycle"]

MAX_LAUNCH_FAILURES: Final = 3
"""Workers of one sort that may die before their Hello, in a row, until their tasks fail instead of waiting on."""


class Lifecycle:
    """Follows worker processes from their order to their end. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_idle_worker_s", "_reports", "_state")

    def __init__(
        self, state: HubState, dispatcher: Dispatcher, endings: Endings, reports: Reports, idle_worker_s: float
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings
        self._reports = reports
        self._idle_worker_s = idle_worker_s

    def worker_started(self, event: WorkerStarted) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            worker.pid = event.pid
            if worker.state is WorkerState.KILLED:
                self._state.out.command(KillWorker(worker.id, force=True))

    def launch_failed(self, event: LaunchFailed) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            self._lost(worker, None, (), event.reason)

    def worker_exited(self, event: WorkerExited) -> None:
        worker = self._state.roster.workers.get(event.worker)
        if worker is None:
            return
        self._reports.take_records(worker, event.records, ())
        self._lost(worker, event.exitcode, (*event.running, *worker.lost), "")

    def hello(self, peer: int, message: m.Hello) -> None:
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
        is_over = group is None or (group.closing is not None and not group.unfinished)
        if worker.key < 0 and is_over:
            self._endings.dismiss(worker)

    def initializer_failed(self, peer: int, message: m.InitializerFailed) -> None:
        worker = self._state.roster.workers.get(peer)
        if worker is None:
            raise ProtocolError(f"peer {peer} is not a worker of this hub")
        group = self._state.groups.get(-worker.key)
        if group is not None:
            group.failure = message.error
            self._endings.abort(group, Status.INITIALIZER_FAILED, message.error)
        self._endings.dismiss(worker)

    def reap_idle(self) -> None:
        """Dismiss shared workers that nobody has used for a while."""
        state = self._state
        for worker in state.roster.all_idle():
            if worker.key < 0:
                continue
            due = worker.idle_since + self._idle_worker_s
            if state.now >= due:
                self._endings.dismiss(worker)
            else:
                state.alarm(due)

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
