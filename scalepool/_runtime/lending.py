"""Waiting inside a task: the worker's slot is lent meanwhile, and what is waited for runs in place if nobody has it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from scalepool._runtime.randomness import pause, resume
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.client import Client
    from scalepool._runtime.futures import TaskFuture
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.worker import WorkerStation

__all__ = ["Lending"]


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

    def wait(
        self, done: Callable[[], bool], futures: Sequence[TaskFuture] | Sequence[Slot], deadline: float | None
    ) -> bool:
        """Wait until ``done()``, for these to be over; False when ``deadline`` passed first."""
        client, station = self._client, self._station
        if done():
            return True
        # Inside a callback there is nothing to lend, just go on pumping.
        is_lent = not client.pump.is_mine and station.executor.depth > 0
        if not is_lent or threading.current_thread() is not threading.main_thread():
            return client.pump.wait_for(done, deadline)
        # With a deadline nothing runs in place: it could take longer than the caller wants to wait.
        wanted = [future.task_id for future in futures if not future.is_over] if deadline is None else []
        wanted = list(dict.fromkeys(wanted))  # several values may come from one task
        if _is_actor():
            # What it holds are its own calls: nobody else can run them, nor may they run before this one has ended.
            # Given back they would come again, perhaps behind some that are on their way now.
            client.post(m.Block(wanted), now=True)
            try:
                return client.pump.wait_for(done, deadline)
            finally:
                client.post(m.Unblock(), now=True)
        return self._lend(done, wanted, deadline)

    def _lend(self, done: Callable[[], bool], wanted: Sequence[int], deadline: float | None) -> bool:
        client, station, holdings = self._client, self._station, self._station.holdings
        outer = holdings.begin_wait(wanted)
        # This thread has not the role, so it must not send itself: the next message takes it along.
        station.give_back(holdings.take_all(), now=False)
        client.post(m.Block(wanted), now=True)
        drawing = pause()
        try:
            while client.pump.wait_for(lambda: done() or bool(holdings.queue), deadline):
                if done():
                    return True
                station.run_next()
            return done()
        finally:
            resume(drawing)
            station.give_back(holdings.take_all(), now=False)
            holdings.wanted = outer
            client.post(m.Unblock(), now=True)


def _is_actor() -> bool:
    instance = sys.modules.get("scalepool._runtime.instance")  # loaded where an actor is made
    return instance is not None and bool(instance.actor_id())
