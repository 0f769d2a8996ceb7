"""Workers that have served their time are replaced: the successor starts first, so nobody waits for it.

A worker is *worn* when it has grown beyond its memory limit. It works on until its successor is ready; then it gets no
more tasks, gives back those that it has not started, and leaves. One that was given its last task (``max_tasks``) gets
a successor at that moment if there is more to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.commands import Send
from scalepool._core.revoking import expect_answer
from scalepool._core.workers import WorkerState
from scalepool._wire.messages import Recall

if TYPE_CHECKING:
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker
    from scalepool._wire import messages as m

__all__ = ["Recycling"]


class Recycling:
    """Decides when workers are replaced. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_state")

    def __init__(self, state: HubState, dispatcher: Dispatcher, endings: Endings) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings

    def memory(self, peer: int, message: m.Memory) -> None:
        """A worker says how much memory it has."""
        worker = self._state.roster.known(peer)
        if not worker.max_rss or message.rss <= worker.max_rss or worker.worn or worker.state is not WorkerState.READY:
            return
        group = self._group_in_need(worker)
        if group is None:
            self.retire(worker)
            return
        worker.worn = True  # and so counts no more for the group's cap
        if self._dispatcher.may_start(group):
            self._dispatcher.start_worker(group, replaces=worker.id)
        else:
            worker.worn = False  # it goes on, and we look again when it reports again

    def replace(self, worker: Worker, host: int) -> None:
        """Have a worker's place taken by one on another host, if somebody would miss it; else it just leaves."""
        group = self._group_in_need(worker)
        if group is None:
            self.retire(worker)
            return
        worker.worn = True
        if not self._dispatcher.may_start(group) or not self._dispatcher.start_worker(group, worker.id, host):
            worker.worn = False

    def is_ready(self, successor: Worker) -> None:
        """A worker said Hello: the one that it was started for may go."""
        worker = self._state.roster.workers.get(successor.replaces)
        if worker is not None and worker.worn and worker.state is WorkerState.READY:
            self.retire(worker)

    def has_failed(self, successor: Worker) -> None:
        """A worker ended before its Hello: the one that it was started for stays, until it reports again."""
        worker = self._state.roster.workers.get(successor.replaces)
        if worker is not None and worker.state is WorkerState.READY:
            worker.worn = False

    def _group_in_need(self, worker: Worker) -> Group | None:
        """Return a group that would miss the worker; ``None`` when there is none."""
        if worker.group is not None:
            return worker.group
        for group in self._state.groups.values():
            if group.key != worker.key or group.closing is not None or group.failure is not None:
                continue
            if group.queued or group.started_min or group.private:
                return group
        return None

    def retire(self, worker: Worker) -> None:
        """Let a worker go when it is through with what it has begun."""
        worker.worn = True
        worker.state = WorkerState.LEAVING
        self._state.roster.unidle(worker)
        if not worker.held:
            self._endings.dismiss(worker)
        elif len(worker.held) > len(worker.waits) + 1 and not worker.recalled:
            worker.recalled = True
            self._state.out.command(Send(worker.id, Recall(len(worker.held))))
            expect_answer(self._state, worker)
