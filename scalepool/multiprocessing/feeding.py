"""The job behind ``map`` and ``starmap``: a sized input, fed chunk by chunk as earlier chunks finish.

The first chunks go out in the caller's thread; every further one from the callback of a finished future, which runs
in whichever thread pumps. Nothing of the user's runs there but pickling: the input is a list, tuple or range by then.

What becomes of errors: each item's failure is kept, the first one *that arrived* is the call's. With
``on_error="raise"`` it is raised when every chunk has run (the original's moment), with ``"raise_now"`` at once, and
with ``"return"`` it stands, flagged, in the results.

The lock guards the tables below and is never held while a chunk is submitted. One thread at a time feeds; a chunk that
arrives meanwhile only frees its place, and the feeding thread sees it in its next turn. So a chunk that fails inside
``submit`` does not recurse.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from scalepool._base.tuples import NamedTuple
from scalepool._shims.chunks import ChunkOutcomes, ChunkPlan
from scalepool._shims.interrupted import in_slices, undivided
from scalepool._shims.outcomes import MISSING, OnError, attach_partial_results, mark_failed
from scalepool._shims.progress import ProgressMeter, Report, Reporter
from scalepool.api import Snapshot, cancel
from scalepool.errors import TaskCancelledError, TaskTimeoutError, WorkerDiedError
from scalepool.multiprocessing.errors import error_of, error_of_item, failed_locally, name_item_of
from scalepool.multiprocessing.results import Settlement, remaining_s, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool.api import Function, TaskFuture, Terms, WorkerGroup

__all__ = ["ChunkTask", "MapJob"]

SMALL_RANGE = 16


class ChunkTask(NamedTuple):
    """What to run: the function of a chunk, and the workers for it.

    Parameters
    ----------
    group
        Where chunks are submitted.
    function
        An exported `MapChunk`.
    items
        The input.
    terms
        Time limit and retries, if not the group's.
    numbered
        Each item has its position before it: the map is seeded.
    """

    group: WorkerGroup
    function: Function
    items: Sequence[Any]
    terms: Terms | None = None
    numbered: bool = False


class _Chunk(NamedTuple):
    start: int
    size: int

    def halves(self) -> tuple[_Chunk, _Chunk]:
        middle = self.size // 2
        return _Chunk(self.start, middle), _Chunk(self.start + middle, self.size - middle)


class MapJob:
    """Feeds one map and collects it.

    Parameters
    ----------
    task
        What to run; let go of when the job is over.
    plan
        Decides the sizes.
    settlement
        Gets the outcome.
    on_error
        When a failed item counts.
    reporter
        Shows progress; ``None`` without.
    """

    def __init__(
        self,
        task: ChunkTask,
        plan: ChunkPlan,
        settlement: Settlement,
        on_error: OnError = "raise",
        reporter: Reporter | None = None,
    ) -> None:
        self._task: ChunkTask | None = task
        self._plan = plan
        self._settlement = settlement
        self._numbered = task.numbered
        self._on_error = on_error
        self._reporter = reporter
        self._snapshot = Snapshot()  # the items are ours from here on, and what they hold is to be read once
        self._meter = ProgressMeter(len(task.items), time.monotonic)
        # Not the condition itself as a context: its methods are in Python, and a handler that raises in them would
        # leave the lock taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._values: list[Any] = [MISSING] * len(task.items)
        self._next_start = 0
        self._refill_at = 0
        self._waiting = 0  # threads on the condition
        self._again: deque[_Chunk] = deque()  # halves of chunks that did not pickle as a whole
        self._outstanding: dict[int, TaskFuture | None] = {}  # by start; None while submit() has not returned
        self._outputs: dict[int, str] = {}  # by start; only of pools that capture
        self._first_error: BaseException | None = None
        self._dropped: BaseException | None = None  # why some items were never run
        self._feeding = self._stopped = self._over = False

    # Feeding

    def feed(self) -> None:
        """Submit chunks until the window is full; settle when nothing is left."""
        with undivided:
            with self._lock:
                if self._feeding:
                    return
                self._feeding = True
            try:
                while chunks := self._deal():
                    for chunk in chunks:
                        self._submit(chunk)
            except BaseException:
                # Ctrl-C in the caller's thread: the rest is not fed, and waiters learn of it from the settlement.
                self._feeding = False
                self.abandon()
                raise

    def _deal(self) -> list[_Chunk]:
        """Return the chunks that there is room for; when there are none, this thread's feeding is over."""
        chunks: list[_Chunk] = []
        with self._lock:
            limit = self._plan.window()
            # Refilled by a quarter at least: a full window of tiny chunks is not worth a look for each of them.
            self._refill_at = limit - limit // 4
            while not self._stopped and len(self._outstanding) < limit and not self._is_dealt():
                chunk = self._again.popleft() if self._again else self._next_chunk()
                self._outstanding[chunk.start] = None
                chunks.append(chunk)
            if chunks:
                return chunks
            self._feeding = False
            if self._over or self._outstanding or not (self._stopped or self._is_dealt()):
                return []
            self._over = True
        self._settle()
        return []

    def _next_chunk(self) -> _Chunk:
        chunk = _Chunk(self._next_start, self._plan.next_size())
        self._next_start += chunk.size
        return chunk

    def _is_dealt(self) -> bool:
        return not self._again and not self._plan.remaining

    def _submit(self, chunk: _Chunk) -> None:
        task = self._task
        if task is None:  # settled meanwhile, by abandon() or raise_now
            self._drop(chunk, None)
            return
        items = task.items[chunk.start : chunk.start + chunk.size]
        if chunk.size <= SMALL_RANGE and type(items) is range:
            items = list(items)  # pickles faster than the name of the class
        try:
            future = undivided.open(
                task.group.submit,
                task.function,
                (items,),
                on_done=partial(self._arrived, chunk),
                snapshot=self._snapshot,
                terms=task.terms,
            )
        except RuntimeError as error:
            # After terminate() the group is closed, and that is no error of its own.
            self._drop(chunk, None if self._stopped else error)
            return
        except BaseException:
            self._drop(chunk, None)
            raise
        with self._lock:
            if chunk.start in self._outstanding:  # else it has arrived already
                self._outstanding[chunk.start] = future
                if self._waiting:
                    self._changed.notify_all()

    def _drop(self, chunk: _Chunk, error: BaseException | None) -> None:
        with self._lock:
            self._outstanding.pop(chunk.start, None)
            self._stopped = True
            self._dropped = error if self._dropped is None else self._dropped
            self._changed.notify_all()

    # Collecting

    def _arrived(self, chunk: _Chunk, future: TaskFuture) -> None:
        try:
            self._take_in(chunk, future)
        except Exception as error:
            # What the task raised may fight back in any way: then that is the map's outcome, which somebody waits for.
            with self._lock:
                self._outstanding.pop(chunk.start, None)
                self._note(error)
            self.abandon()
            raise

    def _take_in(self, chunk: _Chunk, future: TaskFuture) -> None:
        error = error_of(future)
        failed_before_sending = error is not None and failed_locally(future)
        if failed_before_sending:
            name_item_of(future, chunk.start, chunked=True, numbered=self._numbered)
        outcomes = future.result() if error is None else None
        with self._lock:
            self._outstanding.pop(chunk.start, None)
            if future.output is not None:
                self._outputs[chunk.start] = future.output
            if self._waiting:
                self._changed.notify_all()
            if self._over:
                return  # raise_now or abandon(): this one could not be cancelled any more
            if failed_before_sending and chunk.size > 1:
                self._again.extend(chunk.halves())  # nothing has run, so only the culprit needs to fail
                report = None
            else:
                self._plan.pace.observe(chunk.size, future.duration_s)
                report = self._store(chunk, future, outcomes, error)
            room = len(self._outstanding) <= self._refill_at
        if report is not None and self._reporter is not None:
            self._reporter.post(report)
        if self._on_error == "raise_now" and self._first_error is not None:
            self.abandon()
        elif room:
            self.feed()

    def _store(self, chunk: _Chunk, future: TaskFuture, outcomes: Any, error: BaseException | None) -> Report | None:
        stop = chunk.start + chunk.size
        if error is not None:
            if chunk.size == 1 and isinstance(error, (WorkerDiedError, TaskTimeoutError)):
                error.note(item=chunk.start)
            self._note(error)
            if self._on_error == "return":
                self._values[chunk.start : stop] = [mark_failed(error)] * chunk.size
            if isinstance(error, TaskCancelledError):
                return None  # it was dropped, and is neither done nor failed
            return self._meter.advance(chunk.size, chunk.size)
        if not isinstance(outcomes, ChunkOutcomes):
            self._values[chunk.start : stop] = outcomes
            return self._meter.advance(chunk.size)
        self._values[chunk.start : stop] = outcomes.values
        for offset, failure in outcomes.failures:
            item_error = error_of_item(failure, future, chunk.start + offset)
            self._note(item_error)
            if self._on_error == "return":
                self._values[chunk.start + offset] = mark_failed(item_error)
        return self._meter.advance(chunk.size, len(outcomes.failures))

    def _note(self, error: BaseException) -> None:
        if self._first_error is None:
            self._first_error = error
        if self._dropped is None and isinstance(error, TaskCancelledError):
            self._dropped = error

    @property
    def output(self) -> str | None:
        """What the chunks that have arrived printed, in input order; ``None`` where that is not captured."""
        with self._lock:
            return "".join(text for _, text in sorted(self._outputs.items())) if self._outputs else None

    # Ending

    def stop(self) -> None:
        """Feed no more: the pool is being terminated. What is outstanding still arrives, as cancelled."""
        with self._lock:
            self._stopped = True
        self.feed()

    abort = stop

    def abandon(self, force: bool | None = None) -> bool:
        """Cancel what has not started and settle now, with the first error that arrived; False when it was over.

        With `force` stop what runs, too. With either, return when it is done; else it is done soon.
        """
        with undivided:
            with self._lock:
                if self._over:
                    return False
                self._over = self._stopped = True
                futures = [future for future in self._outstanding.values() if future is not None]
            self._settle()
        # Each waits for an answer, and meanwhile pumps.
        if force is not None:
            cancel(futures, force=force)
        elif futures:
            self._settlement.later(partial(cancel, futures))
        return True

    def drain(self) -> None:
        """Wait until the outcome is settled and its callbacks have run."""
        self.wait(None)

    def wait(self, timeout_s: float | None) -> None:
        """Wait, in the job's own futures, until the outcome is settled or `timeout_s` seconds have passed."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        event = self._settlement.event
        while not event.is_set():
            left_s = remaining_s(deadline_s)
            if left_s == 0.0:
                return
            if self._over:
                in_slices(event.wait, event.is_set, left_s)  # only callbacks are left
                continue
            start, future = self._newest()
            if future is None:
                self._await(lambda: self._newest()[1] is not None, left_s)  # another thread is between two chunks
            elif wait_for(future, left_s):
                # Its callback may still be running in the thread that pumped.
                self._await(partial(self._has_arrived, start, future), left_s)

    def _newest(self) -> tuple[int, TaskFuture | None]:
        """Return the outstanding chunk that will probably come last: few waits for many chunks."""
        with self._lock:
            return next(((start, future) for start, future in reversed(self._outstanding.items()) if future), (0, None))

    def _has_arrived(self, start: int, future: TaskFuture) -> bool:
        return self._outstanding.get(start) is not future

    def _await(self, change: Callable[[], bool], left_s: float | None) -> None:
        def is_over() -> bool:
            return self._over or change()

        def wait_s(timeout_s: float) -> None:
            with self._lock:
                self._waiting += 1
                if not is_over():
                    self._changed.wait(timeout_s)
                self._waiting -= 1

        in_slices(wait_s, is_over, left_s)

    def _settle(self) -> None:
        values, dropped = self._values, self._dropped
        if dropped is None and self._meter.done < len(values):
            dropped = TaskCancelledError("the map was dropped before all of its items had run")
        error = dropped if self._on_error == "return" or self._first_error is None else self._first_error
        self._task, self._values = None, []
        with self._lock:
            self._changed.notify_all()
        final = self._meter.finish()
        last_words = None if self._reporter is None else partial(self._reporter.finish, final)
        if error is None:
            self._settlement.settle(True, values, last_words)
        else:
            attach_partial_results(error, values)
            self._settlement.settle(False, error, last_words)
