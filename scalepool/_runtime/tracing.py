"""When a worker's tasks began and ended, told to whoever draws a timeline. Loaded only where one is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.functions import name_of
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from scalepool._runtime.client import Client
    from scalepool._runtime.executor import Executor, WorkItem

__all__ = ["Tracer"]

_SENT_TOGETHER: Final = 256


class Tracer:
    """Runs tasks as an executor does, and notes when.

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

    def run(self, item: WorkItem) -> Any:
        """Run one task; see ``Executor.run``."""
        begun = monotonic_s()
        try:
            return self._run(item)
        finally:
            self._numbers += (item.task, item.attempt, int(begun * 1e9), int(monotonic_s() * 1e9))
            self._names.append(_name(item.slot.fn).encode("utf-8", "replace"))
            if not self._queue or len(self._names) >= _SENT_TOGETHER:
                numbers, names = self._numbers, self._names
                self._numbers, self._names = [], []
                self._client.outgoing.queue.append(m.Traced(numbers, names))


def _name(fn: Callable[..., Any] | None) -> str:
    return getattr(fn, "name", None) or name_of(fn)
