"""The job behind ``imap`` and ``imap_unordered``: a lazily read input between one feeder thread and its consumer.

A `Stream` is what both sides share; the iterator that the user holds refers to it, and so does the feeder, but the
feeder never refers to the iterator. So a dropped iterator is noticed, and the feeder stops.

How far the input is read ahead: the items pulled and not yet handed to the user are at most the *window*. A
``buffersize`` that the user gave is exact. Else it begins at four chunks per worker, and is larger only while tasks are
measured to be so tiny that the workers would run dry. The bound is lifted when nobody will consume:

* ``close(); join()`` must finish all inputs (as in the original), so `drain` lifts it for good;
* an iterator dropped before its first item (``pool.imap_unordered(work, items)`` for the side effects only) leaves the
  stream *detached*: the input is run to its end and results are thrown away as they arrive.

An iterator dropped half-read stops the stream: no more input is pulled, and what has not started is cancelled.

The consumer does the socket work while it waits. It takes all that is done at once, but never more than an eighth of
the window, since the feeder gets room for them back when the last one is handed out. Inside a task the consumer waits
in the futures, so that it lends its slot.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from scalepool import api
from scalepool._base.tuples import NamedTuple
from scalepool._shims.chunks import LARGEST_WINDOW, ChunkOutcomes, Pace
from scalepool._shims.progress import Reporter, Tracker
from scalepool._shims.readahead import ReadAhead
from scalepool.errors import TaskCancelledError
from scalepool.multiprocessing.errors import error_of, error_of_item, failed_locally, name_item_of, timeout_error
from scalepool.multiprocessing.results import remaining_s, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalepool.api import Function, TaskFuture, Terms, WorkerGroup

__all__ = ["Entry", "Slot", "Stream", "StreamOptions", "StreamTask"]

TAKEN_SHARE = 8  # of the window is taken by the consumer at once
STOP_WAIT_S = 0.5  # for a stopped feeder; one that is stuck in the user's iterable must not hold up join()
NESTED_WAIT_S = 0.05  # a task waits in futures in any case (it must lend its slot), and looks at the rest this often


class StreamTask(NamedTuple):
    """What to run.

    Parameters
    ----------
    group
        Where tasks are submitted.
    function
        Exported; of one item, or of a sequence of items when `chunksize` is above 1.
    chunksize
        Items per task.
    workers
        Number of workers.
    terms
        Time limit and retries, if not the group's.
    numbered
        Each item has its position before it: the map is seeded.
    """

    group: WorkerGroup
    function: Function
    chunksize: int
    workers: int
    terms: Terms | None = None
    numbered: bool = False


class StreamOptions(NamedTuple):
    """How a stream behaves.

    Parameters
    ----------
    ordered
        Results in input order; else in the order of completion.
    buffersize
        Items pulled ahead of the consumer at most; ``None`` adapts.
    raise_now
        The first failure ends the stream, out of turn.
    reporter
        Shows progress; ``None`` without.
    total
        Number of items, for progress, where it is known.
    """

    ordered: bool = True
    buffersize: int | None = None
    raise_now: bool = False
    reporter: Reporter | None = None
    total: int | None = None


class Slot:
    """A submitted task and the items in it."""

    __slots__ = ("future", "size", "start")

    def __init__(self, size: int, start: int) -> None:
        self.future: TaskFuture | None = None  # until submit() has returned
        self.size = size
        self.start = start


Entry = Slot | BaseException  # an exception is one that the user's iterable raised


class Stream:
    """What the feeder of one imap call shares with its consumer.

    Parameters
    ----------
    task
        What to run.
    options
        How to behave.
    """

    def __init__(self, task: StreamTask, options: StreamOptions) -> None:
        self._task = task
        self._options = options
        self._lock = threading.RLock()  # re-entrant: __del__ of an iterator may run inside
        self._changed = threading.Condition(self._lock)
        self._ahead = ReadAhead(options.buffersize, task.workers, task.chunksize)
        self.tracker = None if options.reporter is None else Tracker(options.reporter, options.total)
        self._entries: deque[Entry] = deque()  # in input order; unordered: those that are done
        self._running: set[Slot] = set()  # unordered only
        self._ended = self._stopped = self._lifted = self._detached = self._closed = False
        self._feeder_waits = False
        self._waiting_in_task = 0  # consumers that wait for the lock, not for the socket
        self._urgent: BaseException | None = None
        self._thread: threading.Thread | None = None

    # The feeder's side

    def start(self, inputs: Iterable[Any], on_end: Callable[[], None], name: str) -> None:
        """Start the feeder thread on `inputs`; it calls `on_end` when it ends."""
        self._thread = threading.Thread(target=self._run, args=(inputs, on_end), name=name, daemon=True)
        self._thread.start()

    def _run(self, inputs: Iterable[Any], on_end: Callable[[], None]) -> None:
        try:
            self._pull(inputs)
        except BaseException as error:  # noqa: BLE001 - the user's iterable failed: its consumer gets it there
            self._entries.append(error)
        with self._lock:
            self._ended = True
            self._changed.notify_all()
        self._task.group.notify()
        if self._stopped:
            api.cancel(self._unfinished())
        if self.tracker is not None:
            self.tracker.no_more()
        on_end()

    def _pull(self, inputs: Iterable[Any]) -> None:
        source, size, ahead = iter(inputs), self._task.chunksize, self._ahead
        while True:
            for _ in range(self._wait_for_room()):
                # If the iterable raises half-way through a chunk, that half is lost, as in the original.
                items = tuple(islice(source, size))
                if not items:
                    return
                ahead.pulled += len(items)
                if self._stopped:
                    break
                self._submit(items, ahead.pulled - len(items))
            if self._stopped:
                self._entries.append(TaskCancelledError("the pool was terminated"))
                return

    def _submit(self, items: tuple[Any, ...], start: int) -> None:
        options, slot = self._options, Slot(len(items), start)
        on_done = None
        if not options.ordered or options.raise_now or self.tracker is not None:
            on_done = partial(self._arrived, slot)
            if not options.ordered:
                self._running.add(slot)
        args = items if self._task.chunksize == 1 else (items,)
        if self.tracker is not None:
            self.tracker.begin()
        try:
            slot.future = future = self._task.group.submit(
                self._task.function, args, on_done=on_done, terms=self._task.terms
            )
        except RuntimeError:
            if self.tracker is not None:
                self.tracker.end(0)
            if self._stopped:
                return  # terminate() was faster, and the group is closed
            raise
        if not future.is_over:
            if options.ordered:
                self._append(slot)
        elif slot.size > 1 and failed_locally(future):
            # Something in the chunk does not pickle. Nothing has run, so its items go one by one.
            for number, item in enumerate(items):
                self._submit((item,), start + number)
        else:
            _name_item(self._task, slot, future)
            if options.ordered:
                self._append(slot)
            self._task.group.notify()  # what ends inside submit() wakes nobody

    def _arrived(self, slot: Slot, future: TaskFuture) -> None:
        slot.future = future
        _name_item(self._task, slot, future)
        if slot.size == 1 or not failed_locally(future):  # else the feeder, which is in submit() now, splits it
            if self._options.raise_now or self.tracker is not None:
                self._examine(slot, future)
            if not self._options.ordered:
                self._append(slot)
        elif self.tracker is not None:
            self.tracker.end(0)
        self._running.discard(slot)
        if self._waiting_in_task and (self._ended or self._options.raise_now):
            with self._lock:
                self._changed.notify_all()

    def _examine(self, slot: Slot, future: TaskFuture) -> None:
        error = error_of(future, slot.start if self._task.chunksize == 1 else None)
        outcomes = future.result() if error is None else None
        failures = outcomes.failures if isinstance(outcomes, ChunkOutcomes) else ()
        if self.tracker is not None:  # what was cancelled is neither done nor failed
            done = 0 if isinstance(error, TaskCancelledError) else slot.size
            self.tracker.end(done, done if error is not None else len(failures))
        with self._lock:
            if error is None and failures:
                error = error_of_item(failures[0][1], future, slot.start + failures[0][0])
            if self._options.raise_now and error is not None and self._urgent is None:
                self._urgent, self._stopped = error, True
                self._changed.notify_all()

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        if self._waiting_in_task:
            with self._lock:
                self._changed.notify_all()

    def _wait_for_room(self) -> int:
        """Wait until something may be pulled, and return how many chunks."""
        ahead = self._ahead
        if self._lifted:
            return LARGEST_WINDOW

        def is_free() -> bool:
            return self._stopped or self._lifted or self._detached

        with self._lock:
            if not ahead.chunks_of_room() and not is_free():
                self._feeder_waits = True
                self._changed.wait_for(lambda: ahead.may_resume() or is_free())
                self._feeder_waits = False
        while self._detached and not self._stopped and not ahead.chunks_of_room():
            self.consumed(sum(entry.size for entry in self.take(None) if isinstance(entry, Slot)))
        return max(1, ahead.chunks_of_room())

    # The consumer's side

    def take(self, timeout_s: float | None) -> list[Entry]:
        """Return the next finished tasks, at least one; or an exception of the user's iterable in the place of one.

        Raises
        ------
        StopIteration
            Everything has been taken.
        multiprocessing.TimeoutError
            Nothing came within `timeout_s` seconds.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            entries = self._pop()
            if entries:
                return entries
            left_s = remaining_s(deadline_s)
            if left_s == 0.0:
                raise timeout_error()
            self._wait(left_s)

    def consumed(self, items: int) -> None:
        """Give the room of `items` back to the feeder."""
        with self._lock:
            self._ahead.consumed += items
            if self._feeder_waits and self._ahead.may_resume():
                self._changed.notify_all()

    def _pop(self) -> list[Entry]:
        with self._lock:
            if self._urgent is not None:
                urgent, self._urgent = self._urgent, None
                self._closed = True
                if self._ended:  # else the feeder cancels; it waits for answers, which the consumer should not
                    threading.Thread(target=lambda: api.cancel(self._unfinished()), daemon=True).start()
                return [urgent]
            if self._closed or (not self._entries and self._something_new()):
                raise StopIteration
            most = self._ahead.limit // (TAKEN_SHARE * self._task.chunksize)
            return _take_done(self._entries, max(1, most), self._ahead.pace)

    def _wait(self, left_s: float | None) -> None:
        if api.in_worker():
            self._wait_in_task(left_s)
            return
        self._task.group.wait_until(self._something_new, left_s)

    def _wait_in_task(self, left_s: float | None) -> None:
        if self._options.ordered and not self._options.raise_now:
            head = self._entries[0] if self._entries else None
            if isinstance(head, Slot) and head.future is not None:
                wait_for(head.future, left_s)
                return
        elif futures := self._unfinished():
            api.wait(futures, NESTED_WAIT_S if left_s is None else min(left_s, NESTED_WAIT_S), num_done=1)
            return
        with self._lock:
            self._waiting_in_task += 1
            try:
                if not self._something_new():
                    self._changed.wait(left_s)
            finally:
                self._waiting_in_task -= 1

    def _something_new(self) -> bool:
        if self._urgent is not None:
            return True
        if not self._entries:
            return self._ended and (self._options.ordered or not self._running)
        head = self._entries[0]
        return not isinstance(head, Slot) or (head.future is not None and head.future.is_over)

    # Ending

    @property
    def is_stopped(self) -> bool:
        """Whether the rest of the input is not to be run."""
        return self._stopped

    def dropped(self, started: bool) -> None:
        """The user's iterator is gone: stop, or go on unseen when it was never read."""
        with self._lock:
            if started:
                self._stopped = True
            else:
                self._detached = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Pull no more input: the pool is being terminated."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()

    def drain(self) -> None:
        """Lift the bound and wait until all of the input has been run."""
        with self._lock:
            self._lifted = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_WAIT_S if self._stopped else None)
        for future in self._unfinished():
            wait_for(future, None)

    def _unfinished(self) -> list[TaskFuture]:
        slots = list(self._entries) if self._options.ordered else list(self._running)
        futures = [slot.future for slot in slots if isinstance(slot, Slot) and slot.future is not None]
        return [future for future in futures if not future.done()]


def _name_item(task: StreamTask, slot: Slot, future: TaskFuture) -> None:
    if not future.has_value and failed_locally(future):
        name_item_of(future, slot.start, chunked=task.chunksize > 1, numbered=task.numbered)


def _take_done(entries: deque[Entry], most: int, pace: Pace) -> list[Entry]:
    """Take those at the head that are done, and note how long their items took and how large their results are."""
    done: list[Entry] = []
    items, duration_s, size_bytes = 0, 0.0, 0
    while entries and len(done) < most:
        head = entries[0]
        if isinstance(head, Slot):
            future = head.future
            if future is None or not future.is_over:
                break
            if future.duration_s is not None:
                items += head.size
                duration_s += future.duration_s
                size_bytes += future.size_bytes
        done.append(entries.popleft())
    if items:
        pace.observe(items, duration_s, size_bytes)
    return done
