"""Waiting inside a task: the worker's slot is lent meanwhile, and what is waited for runs in place if nobody has it."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.randomness import pause, resume
from scalepool._wire import messages as m
from scalepool._wire.actors import Deadlock, Stall, Unstall
from scalepool.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.client import Client
    from scalepool._runtime.executor import WorkItem
    from scalepool._runtime.futures import TaskFuture
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.worker import WorkerStation

__all__ = ["Lending"]

_QUIET_S: Final = 0.05
"""So long may a thread of an actor wait before the hub is told."""


class Lending:
    """The blocking waits of one worker's tasks.

    Parameters
    ----------
    station, client
        The worker's.
    """

    def __init__(self, station: WorkerStation, client: Client) -> None:
        self._station = station
        self._client = client
        self._numbers = itertools.count(1)
        self._given_up: dict[tuple[int, int], str] = {}
        """Waits that can never end, and why."""

    def give_up(self, message: Deadlock) -> None:
        """The hub says that a wait can never end; it may be over by now."""
        self._given_up[message.number, message.is_thread] = message.text.decode(errors="replace")

    def wait(
        self, done: Callable[[], bool], futures: Sequence[TaskFuture] | Sequence[Slot], deadline: float | None
    ) -> bool:
        """Wait until ``done()``, for these to be over; False when ``deadline`` passed first.

        Raises
        ------
        DeadlockError
            When that can never be.
        """
        client, station = self._client, self._station
        if done():
            return True
        # Inside a callback there is nothing to lend, just go on pumping.
        is_mine = client.pump.is_mine
        if is_mine or not station.executor.depth or threading.current_thread() is not threading.main_thread():
            item = _item_of_thread() if deadline is None and futures and not is_mine else None
            return client.pump.wait_for(done, deadline) if item is None else self._stall(done, futures, item)
        # With a deadline nothing runs in place: it could take longer than the caller wants to wait.
        wanted = _tasks(futures) if deadline is None else []
        item = station.executor.item
        is_actor = _is_actor()
        label = _label(item, futures) if is_actor and wanted and item is not None else b""
        needed = getattr(done, "needed", _unknown)(len(wanted))
        block = m.Block(wanted, item.task if item is not None else 0, needed, label)
        return self._wait_as_actor(done, block, deadline) if is_actor else self._lend(done, block, deadline)

    def _wait_as_actor(self, done: Callable[[], bool], block: m.Block, deadline: float | None) -> bool:
        # What it holds are its own calls: nobody else can run them, nor may they run before this one has ended.
        # Given back they would come again, perhaps behind some that are on their way now.
        client, station = self._client, self._station
        if station.results:
            station.flush()  # from now on the hub takes it that no call of this actor ends before the wait does
        station.holdings.waits += 1
        key = station.holdings.waits, 0
        client.post(block, now=True)
        try:
            in_time = client.pump.wait_for(lambda: done() or key in self._given_up, deadline)
            if in_time and not done():
                raise DeadlockError(self._given_up[key])
            return in_time
        finally:
            self._given_up.pop(key, None)
            client.post(m.Unblock(), now=True)

    def _lend(self, done: Callable[[], bool], block: m.Block, deadline: float | None) -> bool:
        """Lend the slot, and run what comes of the tasks that are waited for."""
        client, station, holdings = self._client, self._station, self._station.holdings
        outer = holdings.begin_wait(block.wanted)
        key = holdings.waits, 0
        given_up = self._given_up
        # This thread has not the role, so it must not send itself: the next message takes it along.
        station.give_back(holdings.take_all(), now=False)
        client.post(block, now=True)
        drawing = pause()
        try:
            while client.pump.wait_for(lambda: done() or bool(holdings.queue) or key in given_up, deadline):
                if done():
                    return True
                if key in given_up:
                    raise DeadlockError(given_up[key])
                station.run_next()
            return done()
        finally:
            given_up.pop(key, None)
            resume(drawing)
            station.give_back(holdings.take_all(), now=False)
            holdings.wanted = outer
            client.post(m.Unblock(), now=True)

    def _stall(self, done: Callable[[], bool], futures: Sequence[TaskFuture] | Sequence[Slot], item: WorkItem) -> bool:
        """Wait in a thread of an actor, which has others: nothing is lent, but the hub knows who waits for what."""
        from scalepool._runtime.instance import LOOP_NAME

        pump, late = self._client.pump, self._station.late
        if pump.wait_for(done, monotonic_s() + _QUIET_S):
            return True
        wanted = _tasks(futures)
        key = next(self._numbers), 1
        whole = int(threading.current_thread().name == LOOP_NAME)
        needed = getattr(done, "needed", _unknown)(len(wanted))
        late.append(Stall(key[0], item.task, whole, wanted, needed, _label(item, futures)))
        pump.kick(now=True)
        try:
            over = pump.wait_for(lambda: done() or key in self._given_up)
            if not done() and key in self._given_up:
                raise DeadlockError(self._given_up[key])
            return over
        finally:
            self._given_up.pop(key, None)
            late.append(Unstall(key[0]))
            pump.kick(now=True)


def _tasks(futures: Sequence[TaskFuture] | Sequence[Slot]) -> list[int]:
    """Return the tasks to wait for, each once: several values may come from one."""
    return list(dict.fromkeys([future.task_id for future in futures if not future.is_over]))


def _is_actor() -> bool:
    instance = sys.modules.get("scalepool._runtime.instance")  # loaded where an actor is made
    return instance is not None and bool(instance.actor_id())


def _item_of_thread() -> WorkItem | None:
    concurrency = sys.modules.get("scalepool._runtime.concurrency")
    return None if concurrency is None else concurrency.item_of_thread()


def _unknown(_: int) -> int:
    return 0


def _label(item: WorkItem, futures: Sequence[TaskFuture] | Sequence[Slot]) -> bytes:
    """Return who waits, and for what."""
    function: Any = item.slot.fn
    waiter = getattr(getattr(function, "fn", function), "__qualname__", "")
    names = list(dict.fromkeys(future.name for future in futures if not future.is_over))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{waiter}\n{names[0] if names else ''}{more}".encode()
