"""When a worker's tasks began and ended, told to whoever draws a timeline. Loaded only where one is wanted."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.executor import Revoked
from scalepool._runtime.functions import name_of
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sized

    from scalepool._runtime.client import Client
    from scalepool._runtime.executor import Executor, WorkItem

__all__ = ["Tracer"]

_SENT_TOGETHER: Final = 256


class Tracer:
    """Runs tasks as an executor does, and notes when; what an actor runs at the same time tells it itself.

    Parameters
    ----------
    executor
        Whose ``run`` this takes the place of.
    client
        Sends what was noted, with the results of the same tasks.
    queue
        The tasks that come next; when there are none, nothing is held back.
    """

    def __init__(self, executor: Executor, client: Client, queue: Sized) -> None:
        self._run = executor.run
        self._client = client
        self._queue = queue
        self._numbers: list[int] = []
        self._names: list[bytes] = []
        self._running: dict[int, tuple[int, float]] = {}
        self._free: list[int] = []

    def run(self, item: WorkItem, revocation: int = 0) -> Any:
        """Run one task; see ``Executor.run``."""
        begun: float | None = monotonic_s()
        try:
            return self._run(item, revocation)
        except Revoked:
            begun = None
            raise
        finally:
            if begun is not None:
                self._note(item, 0, begun)

    def begin(self, item: WorkItem) -> None:
        """A call begins, others may be running; one thread at a time may say so."""
        lane = heapq.heappop(self._free) if self._free else len(self._running) + 1
        self._running[item.task] = lane, monotonic_s()

    def end(self, item: WorkItem) -> None:
        """It has ended, or was cancelled."""
        lane, begun = self._running.pop(item.task)
        heapq.heappush(self._free, lane)
        self._note(item, lane, begun)

    def _note(self, item: WorkItem, lane: int, begun: float) -> None:
        self._numbers += (item.task, item.attempt, lane, int(begun * 1e9), int(monotonic_s() * 1e9))
        fn = item.slot.fn
        self._names.append(b"task" if fn is None else name_of(fn).encode("utf-8", "replace"))
        if not self._queue or len(self._names) >= _SENT_TOGETHER:
            numbers, names = self._numbers, self._names
            self._numbers, self._names = [], []
            self._client.outgoing.queue.append(m.Traced(numbers, names))
