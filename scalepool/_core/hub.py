"""The hub: one state machine for all work of a session.

``handle(event, now)`` is the whole interface: something happened, and the answer is a list of commands. The hub owns no
socket and reads no clock, so the same class runs inside the driver, in a process of its own, and in a simulation that
kills its workers a thousand times a second. ``alarm_at`` is when it wants to be ticked although nothing happened.

What it never does: look into a payload, trust a worker's word about a task that it did not give to that worker, or
leave a task without an end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from scalepool._core.deadlines import Deadlines
from scalepool._core.deadlocks import Stalls, look_for_deadlocks
from scalepool._core.dispatch import Dispatcher
from scalepool._core.endings import Endings
from scalepool._core.events import (
    Event,
    HostsChanged,
    Inspected,
    LaunchFailed,
    Move,
    ObjectsLost,
    Received,
    ShareChanged,
    Spilled,
    Tick,
    WorkerExited,
    WorkerPlaced,
    WorkerStarted,
)
from scalepool._core.intake import Intake
from scalepool._core.keeping import Keeping, handlers
from scalepool._core.lifecycle import Lifecycle
from scalepool._core.lineage import LIMIT_BYTES
from scalepool._core.recycling import Recycling
from scalepool._core.relocation import Relocation
from scalepool._core.reports import Reports, report_handlers
from scalepool._core.sharing import wanted
from scalepool._core.spilling import Spilling
from scalepool._core.state import HubState
from scalepool._core.stats import (
    GroupStatistics,
    HubStatistics,
    detached_actors,
    group_statistics,
    hub_statistics,
    violations,
)
from scalepool._wire import messages as m
from scalepool._wire.actors import Stall, Unstall, WatchPeers
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from scalepool._core.backlog import Held
    from scalepool._core.commands import Command

__all__ = ["Hub"]


class Hub:
    """Owns all tasks, groups, workers and object references of a session.

    Parameters
    ----------
    idle_worker_s
        Seconds after which a worker that nobody uses is dismissed.
    store_limit_bytes
        Memory that the objects of the session may take; ``None``: any.
    lineage_limit_bytes
        What may be kept of tasks, and of their arguments, to make lost values again; 0: none are.
    capacity
        Returns what the session has for those who ask for resources, in units by name; called once, if ever.
    copies
        By object: the hosts of a cluster that have it, or have asked for it; may change between events. ``None``: there
        is no cluster.
    """

    def __init__(
        self,
        *,
        idle_worker_s: float = 30.0,
        store_limit_bytes: int | None = None,
        lineage_limit_bytes: int = LIMIT_BYTES,
        capacity: Callable[[], Mapping[str, int]] = dict,
        copies: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self._state = state = HubState(idle_worker_s)
        self.detached = partial(detached_actors, state)
        """Returns the detached actors that live, as (number, pid, restarts); from any thread."""
        state.capacity = capacity
        state.copies = {} if copies is None else copies
        self.hungry = True
        """Whether a worker is idle: then a submitted task should be sent at once, not batched. From any thread."""
        self._dispatcher = dispatcher = Dispatcher(state)
        self._endings = dispatcher.endings = endings = Endings(state)
        self._deadlines = deadlines = Deadlines(state, endings)
        keeping = Keeping(state, endings, lineage_limit_bytes)
        intake = Intake(state, dispatcher, endings, keeping, deadlines)
        self._reports = reports = Reports(state, dispatcher, endings)
        recycling = Recycling(state, dispatcher, endings)
        self._lifecycle = lifecycle = Lifecycle(state, dispatcher, endings, reports, recycling)
        self._relocation = relocation = Relocation(state, dispatcher, endings, recycling)
        self._spilling = spilling = Spilling(state, store_limit_bytes)
        self._on_message: dict[type, Callable[[int, Any], None]] = {
            **_from_clients(intake),
            **handlers(keeping),
            **_from_workers(reports, lifecycle, recycling, Stalls(state)),
        }
        self._on_event: dict[type, Callable[[Any], None]] = {
            Received: self._received,
            WorkerStarted: lifecycle.worker_started,
            LaunchFailed: lifecycle.launch_failed,
            WorkerExited: lifecycle.worker_exited,
            Inspected: self._inspected,
            Spilled: spilling.done,
            ObjectsLost: keeping.lineage.objects_lost,
            **_from_head(relocation),
            Tick: self._tick,
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
        state = self._state
        self._on_event[type(event)](event)
        if state.values.dropped:
            self._endings.actors.reap()
        self._dispatcher.dispatch()
        while state.books is not None and state.books.review(state):
            self._dispatcher.dispatch()  # what was set aside for somebody is there for others
        self._spilling.look()
        self.hungry = not state.ready and (not state.tasks or state.roster.any_idle)
        return state.out.drain()

    @property
    def alarm_at(self) -> float | None:
        """When the hub wants a Tick; ``None``: it does not."""
        return self._state.alarm_at

    @property
    def busy(self) -> bool:
        """Whether tasks are under way, groups about to close, or references out that workers will let go of."""
        state = self._state
        return bool(state.tasks or state.values.borrowed) or any(
            group.closing is not None for group in state.groups.values()
        )

    def is_hungry(self, group_id: int) -> bool:
        """Whether somebody has nothing to do who could run tasks of this group; from any thread."""
        group = self._state.groups.get(group_id)
        if group is None or group.actor is None:
            return self.hungry
        worker = group.actor.worker
        return worker is not None and not worker.held

    def received_from(self, worker_id: int) -> int:
        """How many results of this worker have arrived."""
        worker = self._state.roster.workers.get(worker_id)
        return worker.received if worker is not None else 0

    def has_worker(self, worker_id: int) -> bool:
        """Whether this worker was ordered and is not known to be gone."""
        return worker_id in self._state.roster.workers

    def pid_of(self, worker_id: int) -> int:
        """The process of a worker; 0: it has not started, or is gone. From any thread."""
        worker = self._state.roster.workers.get(worker_id)
        return 0 if worker is None else worker.pid

    def has_task(self, task: int) -> bool:
        """Whether this task has not ended."""
        return task in self._state.tasks

    def is_assigned(self, task: int) -> bool:
        """Whether a worker has this task; from any thread."""
        found = self._state.tasks.get(task)
        return found is not None and found.worker in self._state.roster.workers

    def may_have_begun(self, worker_id: int) -> tuple[int, ...]:
        """Tasks that a worker may have begun, or ended, where nobody can look: all that it holds."""
        worker = self._state.roster.workers.get(worker_id)
        return () if worker is None else tuple(worker.held)

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub's counts."""
        return hub_statistics(self._state)

    def group_statistics(self, group_id: int) -> GroupStatistics | None:
        """Return a snapshot of one group and its workers; ``None`` when it is not (or no longer) there."""
        return group_statistics(self._state, group_id)

    def held_back(self) -> Iterator[Held]:
        """Yield the tasks that nobody runs, with what each waits for; from any thread."""
        from scalepool._core.backlog import backlog  # few ever ask

        return backlog(self._state)

    def wanted(self) -> int:
        """How many workers the session could have at work now."""
        return wanted(self._state)

    def free_resources(self) -> dict[str, int] | None:
        """Return what is free, in units by name; ``None``: nobody has asked for resources so far."""
        books = self._state.books
        return None if books is None else books.free()

    def check(self) -> None:
        """Raise AssertionError when an invariant does not hold; for tests."""
        broken = violations(self._state)
        assert not broken, "; ".join(broken)

    # ---- events ----

    def _received(self, event: Received) -> None:
        message, peer = event.message, event.peer
        handler = self._on_message.get(type(message))
        if handler is None:
            raise ProtocolError(f"peer {peer} sent a {type(message).__name__} message, which only a hub sends")
        if peer != m.DRIVER and peer not in self._state.roster.workers:
            if 0 < peer < self._state.next_worker:
                return  # late: what it had to say was in its flight record, and nobody waits for an answer
            raise ProtocolError(f"peer {peer} is not known here")
        handler(peer, message)

    def _inspected(self, event: Inspected) -> None:
        self._deadlines.inspected(event)
        self._reports.revoking.inspected(event)

    def _tick(self, _: Tick) -> None:
        self._state.alarm_at = None
        self._endings.force_the_stubborn()
        self._reports.judge_lost()
        self._deadlines.look()
        self._reports.revoking.look()
        self._lifecycle.hurry()
        look_for_deadlocks(self._state)
        self._lifecycle.reap_idle()
        self._relocation.look()


def _from_head(relocation: Relocation) -> dict[type, Callable[[Any], None]]:
    """Return what to do with what happens in a cluster."""
    return {
        HostsChanged: relocation.hosts_changed,
        WorkerPlaced: relocation.placed,
        Move: relocation.move,
        ShareChanged: relocation.share_changed,
    }


def _from_clients(intake: Intake) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with the messages about groups, tasks and objects."""
    return {
        m.Submit: intake.submit,
        m.OpenGroup: intake.open_group,
        m.CloseGroup: intake.close_group,
        m.StartWorkers: intake.start_workers,
        m.Cancel: intake.cancel,
        m.Stop: intake.cancel,
        m.Put: intake.put,
        m.Release: intake.release,
        m.Inquire: intake.inquire,
    }


def _from_workers(
    reports: Reports, lifecycle: Lifecycle, recycling: Recycling, stalls: Stalls
) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with what workers say."""
    return {
        **report_handlers(reports),
        m.Memory: recycling.memory,
        m.Hello: lifecycle.hello,
        WatchPeers: lifecycle.watch,
        Stall: stalls.stall,
        Unstall: stalls.unstall,
        m.InitializerFailed: lifecycle.initializer_failed,
    }
