"""Where finished batches wait for joblib to hear of them, and who tells it.

joblib's callback for a finished batch takes joblib's lock, reads on in the user's iterable and submits the next batch:
far too much for the thread that happens to pump the socket. So finished batches queue up here, and are told

- by the thread that waits for the results, where there is one: a call that returns a list, and any call inside a task.
  It wakes up at once, where joblib would look every 10 ms, and inside a task it waits in the way that lends the task's
  slot to the tasks that it waits for;
- else (a generator that the user reads at leisure, a call with a timeout) by a thread of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from scalepool import api

__all__ = ["Completions"]

Batch = Future[Any]
Callback = Callable[[Batch], object]


class Completions:
    """The finished batches of one backend."""

    def __init__(self) -> None:
        self._finished: SimpleQueue[tuple[Batch, Callback] | None] = SimpleQueue()
        self._open: dict[Batch, Callback] = {}
        self._thread: threading.Thread | None = None

    # ---- batches come and go ----

    def expect(self, batch: Batch, callback: Callback) -> None:
        """A batch was submitted; `callback` is told of it once, when it is finished."""
        self._open[batch] = callback
        if batch.done():
            self.finished(batch)

    def finished(self, batch: Batch) -> None:
        """A batch is finished: may be called twice, from any thread, before ``expect`` too."""
        callback = self._open.pop(batch, None)
        if callback is not None:
            self._finished.put((batch, callback))

    def open_batches(self) -> list[Batch]:
        """Return the batches that are not finished."""
        return list(self._open)

    # ---- joblib is told ----

    def tell_by_thread(self) -> None:
        """Start a thread that tells joblib, until ``close``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._tell_all, name="scalepool-joblib", daemon=True)
            self._thread.start()

    def tell_now(self) -> bool:
        """Tell joblib of what has finished; return whether all of it succeeded."""
        succeeded = True
        while True:
            try:
                item = self._finished.get_nowait()
            except Empty:
                return succeeded
            if item is not None:
                succeeded = _tell(*item) and succeeded

    def tell_until_done(self, workers: api.WorkerGroup, timeout_s: float | None) -> None:
        """Wait for the batches and tell joblib, until none is left, one failed, or `timeout_s` went by without one."""
        while self.tell_now():
            waited_for = self.open_batches()
            if waited_for:
                if api.in_worker():
                    if not _wait_for_any(waited_for, timeout_s):
                        return
                elif not workers.wait_until(lambda: not self._finished.empty(), timeout_s):
                    return
            elif self._finished.empty():
                return

    def close(self) -> None:
        """Nobody wants to hear any more."""
        self._open.clear()
        if self._thread is not None:
            self._finished.put(None)
            self._thread = None

    def _tell_all(self) -> None:
        while (item := self._finished.get()) is not None:
            _tell(*item)


def _wait_for_any(batches: list[Batch], timeout_s: float | None) -> bool:
    """Wait as a task should, which lends its slot to those that it waits for."""
    tasks = [batch for batch in batches if isinstance(batch, api.TaskFuture)]
    done, _ = api.wait(tasks, timeout_s=timeout_s, num_done=1)
    return bool(done)


def _tell(batch: Batch, callback: Callback) -> bool:
    callback(batch)
    return not batch.cancelled() and batch.exception() is None
