"""Workers come, fail to come, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import KillWorker, Note, Send
from scalepool._core.deadlines import CONDEMNED_GRACE_S
from scalepool._core.endings import Autopsy
from scalepool._core.objects import NOBODY
from scalepool._core.workers import LaunchTrouble, WorkerState
from scalepool._wire import messages as m
from scalepool._wire.actors import PeerGone
from scalepool._wire.messages import Status
from scalepool._wire.records import unpack_result
from scalepool._wire.verdict import pack_verdict
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.events import LaunchFailed, WorkerExited, WorkerStarted
    from scalepool._core.recycling import Recycling
    from scalepool._core.reports import Reports
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker
    from scalepool._wire.actors import WatchPeers
    from scalepool._wire.records import ResultRecord

__all__ = ["MAX_LAUNCH_FAILURES", "RETRY_LAUNCH_S", "Lifecycle"]

MAX_LAUNCH_FAILURES: Final = 3
"""Workers of one sort that may die before their Hello, in a row, until their tasks fail instead of waiting on."""
RETRY_LAUNCH_S: Final = 1.0
"""After so many failures, while some worker of that sort lives: time until the next try."""


class Lifecycle:
    """Follows worker processes from their order to their end. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_recycling", "_reports", "_state")

    def __init__(
        self, state: HubState, dispatcher: Dispatcher, endings: Endings, reports: Reports, recycling: Recycling
    ) -> None:
        self._state = state
        self._recycling = recycling
        self._dispatcher = dispatcher
        self._endings = endings
        self._reports = reports

    def worker_started(self, event: WorkerStarted) -> None:
        """A process exists."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            worker.pid = event.pid
            if worker.state is WorkerState.KILLED:
                self._state.out.command(KillWorker(worker.id, force=True))
            elif worker.started_for is not None and worker.started_for.initializer_s:
                worker.hello_by = self._state.now + worker.started_for.initializer_s
                self._state.alarm(worker.hello_by)

    def launch_failed(self, event: LaunchFailed) -> None:
        """No process came to be."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            self._lost(worker, Autopsy(worker.pid, reason=event.reason), is_moot=event.is_moot)

    def worker_exited(self, event: WorkerExited) -> None:
        """A process is gone; its flight record tells what it had done."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is None:
            self._endings.free([(NOBODY, object_id) for object_id in event.objects[::4] if object_id])
            return
        self._reports.salvaged(worker, self._readable(event.records), event.objects)
        running = {**dict.fromkeys(worker.lost, 0), **_items(event)}
        autopsy = Autopsy(worker.pid, event.exitcode, running, event.reason, event.report, lost=worker.lost)
        self._lost(worker, autopsy, is_moot=event.is_moot)

    def _readable(self, records: Sequence[bytes]) -> list[ResultRecord]:
        # A worker can scribble over its own memory before it dies of that: what it left must not stop us.
        results = []
        for record in records:
            try:
                results.append(unpack_result(record))
            except ProtocolError as error:
                self._state.out.command(Note(f"a dead worker left a record that cannot be read: {error}"))
        return results

    def hello(self, peer: int, message: m.Hello) -> None:
        """A worker is ready for tasks."""
        worker = self._state.roster.known(peer)
        if worker.state is not WorkerState.STARTING:
            return  # ordered to die meanwhile: its end comes as WorkerExited
        worker.pid = message.pid
        if not message.ready:
            return  # its initializer submits tasks, and may take no longer than others
        worker.state = WorkerState.READY
        worker.hello_by = None
        self._state.trouble.pop(worker.key, None)
        self._no_longer_starting(worker)
        self._state.out.command(Send(peer, m.Welcome(m.WIRE_VERSION)))
        self._dispatcher.detach(worker)
        self._recycling.is_ready(worker)
        if worker.key < 0:
            group = self._state.groups[-worker.key]  # a private group stays until its last worker is gone
            if group.failure is not None or (group.closing is not None and not group.unfinished):
                self._endings.dismiss(worker)

    def initializer_failed(self, peer: int, message: m.InitializerFailed) -> None:
        """What a private group wants done in each of its workers cannot be done."""
        worker = self._state.roster.known(peer)
        if worker.key >= 0:
            raise ProtocolError(f"worker {peer} is shared: it has no initializer that could have failed")
        self._endings.fail(self._state.groups[-worker.key], worker, message.error)
        self._endings.dismiss(worker)

    def watch(self, peer: int, _: WatchPeers) -> None:
        """A worker wants to be told of the end of others."""
        self._state.watchers.add(self._state.roster.known(peer).id)

    def hurry(self) -> None:
        """Give up on initializers that take longer than they may, and on processes that survive SIGKILL."""
        now, alarm = self._state.now, self._state.alarm
        for worker in list(self._state.roster.workers.values()):
            if worker.hello_by is not None and worker.state is WorkerState.STARTING:
                if now >= worker.hello_by:
                    self._endings.kill(worker, force=False, grace_s=CONDEMNED_GRACE_S)
                else:
                    alarm(worker.hello_by)
            if worker.gone_by is not None:
                if now >= worker.gone_by:
                    # Nobody has looked what it was in, and where its host is out of reach it may go on.
                    begun = dict.fromkeys(worker.held, 0)
                    reason = "it does not even end when it is killed"
                    self._lost(worker, Autopsy(worker.pid, running=begun, reason=reason))
                else:
                    alarm(worker.gone_by)

    def reap_idle(self) -> None:
        """Dismiss shared workers that nobody has used for a while, and that no open group wants to have at hand."""
        state = self._state
        spare: dict[int, int] = {}
        for worker in state.roster.all_idle():
            key = worker.key
            if key < 0:
                continue
            due = worker.idle_since + state.idle_worker_s
            if state.now < due:
                state.alarm(due)
                continue
            if key not in spare:
                spare[key] = len(state.roster.of_key(key)) - self._wanted_at_hand(key)
            if spare[key] > 0:
                spare[key] -= 1
                self._endings.dismiss(worker)

    def _wanted_at_hand(self, key: int) -> int:
        open_groups = (group for group in self._state.groups.values() if group.key == key and group.closing is None)
        return max((group.started_min for group in open_groups), default=0)

    def _no_longer_starting(self, worker: Worker) -> None:
        if worker.started_for is not None:
            worker.started_for.starting -= 1
            worker.started_for = None

    def _lost(self, worker: Worker, autopsy: Autopsy, *, is_moot: bool = False) -> None:
        state = self._state
        never_ready = worker.state is WorkerState.STARTING
        overdue = worker.hello_by is not None and worker.hello_by <= state.now and worker.state is WorkerState.KILLED
        self._no_longer_starting(worker)
        state.roster.remove(worker.id)
        self._endings.lose(worker, autopsy)
        state.watchers.discard(worker.id)
        for watcher in state.watchers:
            state.out.command(Send(watcher, PeerGone(worker.id)))
        if never_ready:
            self._recycling.has_failed(worker)
            if not is_moot:
                self._count_failure(worker, autopsy)
        elif overdue:
            self._initializer_timed_out(worker, autopsy)
        for group in list(state.groups.values()):
            if group.key == worker.key:
                comes_again = is_moot or not never_ready
                if group.started_min and group.closing is None and comes_again and group.failure is None:
                    self._dispatcher.start_minimum(group)
                self._endings.close_if_done(group)

    def _initializer_timed_out(self, worker: Worker, autopsy: Autopsy) -> None:
        group = self._state.groups.get(-worker.key)
        if group is not None and group.failure is None:
            facts = {"pid": worker.pid, "limit_s": group.initializer_s}
            self._endings.fail_as(group, worker, Status.INITIALIZER_TIMED_OUT, pack_verdict(facts, autopsy.report))

    def _count_failure(self, worker: Worker, autopsy: Autopsy) -> None:
        state = self._state
        text = autopsy.reason or f"a new worker process ended with exit code {autopsy.exitcode} before it was ready"
        state.out.command(Note(f"a worker could not be started: {text}"))
        if not any(group.key == worker.key for group in state.groups.values()):
            return  # nobody waits for another one
        trouble = state.trouble.setdefault(worker.key, LaunchTrouble())
        trouble.count += 1
        if trouble.count < MAX_LAUNCH_FAILURES:
            return
        if any(not other.waits for other in state.roster.of_key(worker.key)):
            # Somebody works: it goes on with fewer. But a process that cannot be started is not tried in a loop.
            trouble.retry_at = state.now + RETRY_LAUNCH_S
            return
        del state.trouble[worker.key]
        for group in list(state.groups.values()):
            if group.key == worker.key:
                self._endings.abort_died(group, autopsy._replace(reason=text))


def _items(event: WorkerExited) -> dict[int, int]:
    items = event.items or (0,) * len(event.running)
    return dict(zip(event.running, items, strict=False))
