"""Hosts of a cluster come and go: groups that may use all of them grow, and workers move.

A host that is to leave gets nothing new. Its workers finish what they have begun and go; what they had not begun is for
others, and so are their places in groups that want them at hand. An actor there is moved as soon as it rests, if it may
be restarted at all; one that may not lives on until the host's time is up, and then ends with it.

A pool of fixed size has no reason to start anything when a host joins. The head sees where it is crowded, and says how
many workers to move from where to where: each gets a successor there first, and leaves when that is ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.ordering import host_found
from scalepool._core.sharing import spare
from scalepool._core.workers import WorkerState

if TYPE_CHECKING:
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.events import HostsChanged, Move, ShareChanged, WorkerPlaced
    from scalepool._core.recycling import Recycling
    from scalepool._core.state import HubState
    from scalepool._core.workers import Worker

__all__ = ["Relocation"]

_LOOK_S: Final = 0.1
"""How often to look whether an actor on a host that leaves rests."""


class Relocation:
    """What a session does when the cluster's hosts change. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_evicted", "_leaving", "_recycling", "_state")

    def __init__(self, state: HubState, dispatcher: Dispatcher, endings: Endings, recycling: Recycling) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings
        self._recycling = recycling
        self._leaving: frozenset[int] = frozenset()
        self._evicted: set[int] = set()

    def hosts_changed(self, event: HostsChanged) -> None:
        """These hosts there are now."""
        state = self._state
        state.hosts = hosts = {host.number: host for host in event.hosts}
        self._leaving = frozenset(number for number, host in hosts.items() if host.leaving)
        self._evicted &= hosts.keys()
        if state.books is not None:
            state.books.update({number: host.amounts for number, host in hosts.items()}, self._leaving)
        host_found(state)
        self._resize()
        self.look()

    def placed(self, event: WorkerPlaced) -> None:
        """The head has chosen a host for a worker."""
        worker = self._state.roster.workers.get(event.worker)
        if worker is not None:
            worker.host = event.host

    def move(self, event: Move) -> None:
        """The head wants some workers on another host."""
        state = self._state
        movable = [one for one in state.roster.workers.values() if one.host == event.source and _is_movable(one)]
        movable.sort(key=lambda one: len(one.held))  # who has nothing to do moves first
        for worker in movable[: event.workers]:
            self._recycling.replace(worker, event.target)

    def share_changed(self, event: ShareChanged) -> None:
        """Other programs want workers, too, or want fewer."""
        grows = not event.workers or event.workers > self._state.share > 0
        self._state.share = event.workers
        if grows:
            self._fill()
        self.spare()

    def spare(self) -> None:
        """Let workers go that are beyond the share."""
        for worker in spare(self._state):
            self._endings.dismiss(worker)

    def look(self) -> None:
        """Go on with emptying the hosts that are to leave."""
        state = self._state
        self.spare()
        if not self._leaving:
            return
        wants_another_look = False
        for worker in list(state.roster.workers.values()):
            if worker.host not in self._leaving:
                continue
            wants_another_look = True
            if state.hosts is not None and state.hosts[worker.host].leaving > 1:
                if worker.host not in self._evicted or worker.state is not WorkerState.KILLED:
                    self._endings.kill(worker, force=True)
            elif worker.state is WorkerState.READY:
                self._empty(worker)
        self._evicted.update(number for number in self._leaving if state.hosts and state.hosts[number].leaving > 1)
        if wants_another_look:
            state.alarm(state.now + _LOOK_S)

    def _empty(self, worker: Worker) -> None:
        if not worker.is_actor:
            self._recycling.retire(worker)
            self._fill()
            return
        group = self._state.groups[-worker.key]
        actor = group.actor
        if actor is not None and actor.restarts_left and actor.created and not worker.held:
            self._endings.kill(worker, force=True)

    def _resize(self) -> None:
        """Let groups that may use all hosts have as many workers as there is room for now."""
        state = self._state
        slots = sum(host.slots for host in (state.hosts or {}).values() if not host.leaving)
        for group in list(state.groups.values()):
            if group.books is not None:
                group.books.fit(group)
            elif group.elastic:
                group.cap = max(1, slots)
                group.started_min = group.cap if group.started_min else 0
        self._fill()

    def _fill(self) -> None:
        for group in list(self._state.groups.values()):
            if group.started_min and group.closing is None and group.failure is None:
                self._dispatcher.start_minimum(group)


def _is_movable(worker: Worker) -> bool:
    is_free = worker.state is WorkerState.READY and not worker.worn and not worker.is_actor and not worker.waits
    return is_free and worker.ledger is None and not worker.gpus
