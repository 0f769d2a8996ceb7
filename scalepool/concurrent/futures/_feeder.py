"""How ``Executor.map`` hands its inputs over: in time for every worker, in chunks of the right size, and not too many.

The standard library submits one call per input before ``map`` returns, so an endless input never returns and a long
one fills the memory. Here the calling thread hands over the first inputs, and a daemon thread the rest:

- A short input with a known length (up to ``SNAPSHOT_ITEMS``) is read at once, as there, and handed over as fast as
  workers ask for it, whether or not somebody reads the results.
- Any other input is read at most a window ahead of the results that were read. Nobody can ever read them when the
  iterator was dropped unread (``map`` called for its side effects) or when the executor is shut down: then the rest is
  handed over without waiting for a reader, since there, too, it would have run.

One thread at a time owns the inputs and all counts: the caller, then the daemon thread. Everybody else (results
arriving, the reader, the collector) only puts a note into a ``SimpleQueue``, which is safe from any thread and from a
finalizer.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from scalepool.api import Snapshot, TaskFuture, cancel
from scalepool.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool.api import Function, Terms
    from scalepool.concurrent.futures._progress import ChunkProgress
    from scalepool.concurrent.futures._sizes import Sizes
    from scalepool.concurrent.futures._work import Work

__all__ = ["SNAPSHOT_ITEMS", "Feeder", "failed_to_pickle", "name_input_of"]

#: Inputs of known length are read at once up to this many.
SNAPSHOT_ITEMS: Final = 100_000


class Feeder:
    """The inputs of one ``map`` call on their way to the workers, and its results on their way to the reader.

    Parameters
    ----------
    work
        Where the chunks are submitted.
    function
        The exported chunk function.
    inputs
        Tuples of arguments.
    sizes
        Says how many inputs the next chunk holds and how many may be in hand.
    is_bounded
        Whether to stay within a window of what was read.
    terms
        Time limit and retries, if not the executor's.

    Attributes
    ----------
    progress
        Is told of each chunk; ``None`` without. Set before ``begin``.
    numbered
        Whether each input is a pair of its position and itself, as in a seeded map; likewise.
    """

    def __init__(
        self,
        work: Work,
        function: Function,
        inputs: Iterator[tuple[Any, ...]],
        sizes: Sizes,
        *,
        is_bounded: bool,
        terms: Terms | None = None,
    ) -> None:
        self._terms = terms
        self._work = work
        self.progress: ChunkProgress | None = None
        self.numbered = False
        self._function = function
        self._inputs = inputs
        self._sizes = sizes
        self._is_bounded = is_bounded
        self._snapshot = None if is_bounded else Snapshot()  # no code of the user's runs between two inputs
        self._results: SimpleQueue[Future[Any] | BaseException | None] = SimpleQueue()
        self._notes: SimpleQueue[tuple[int, Future[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._size = 0  # of the next chunk, 0 when not decided
        self._chunks_out = 0
        self._items_out = 0
        self._items_read = 0
        self._is_over = False  # nothing more to hand over
        self._is_cut = False  # told to hand over nothing more
        self._is_read = False  # somebody has asked for a result
        self._is_unread = False  # nobody ever will (again): results go nowhere
        self._waits_for_reader = False
        self.stops_running = False
        """Whether ``cancel`` stops what runs, too."""

    # ---- the caller, before map() returns ----

    def begin(self) -> None:
        """Hand over the first inputs, and leave the rest to a thread; raises what the inputs raise, as ``map`` does."""
        self._feed()
        if not self._is_over:
            thread = threading.Thread(target=self._run, name="scalepool-map-feeder", daemon=True)
            try:
                self._work.begin_feed(self)
                thread.start()
            except BaseException as error:
                # Interrupted, or there are too many threads. Nobody gets the results, and nobody may wait for a thread
                # that perhaps has never begun; if it has, it ends by this.
                self.stops_running = isinstance(error, KeyboardInterrupt)
                self.cancel()
                self._work.end_feed(self)
                raise
            self._thread = thread

    @property
    def is_over(self) -> bool:
        """True when nothing is left to hand over."""
        return self._is_over

    # ---- the reader ----

    def next_result(self, timeout_s: float | None) -> Future[Any] | None:
        """Return the next chunk's future, or None after the last; raises ``TimeoutError`` or what the inputs raised."""
        self._is_read = True
        if self._waits_for_reader:
            self._notes.put(None)
        try:
            result = self._results.get(timeout=timeout_s if timeout_s is None else max(0.0, timeout_s))
        except Empty:
            from concurrent.futures import TimeoutError as FuturesTimeoutError  # its own class before Python 3.11

            raise FuturesTimeoutError from None
        if isinstance(result, BaseException):
            try:
                raise result
            finally:
                del result
        return result

    def count_read(self, items: int) -> None:
        """Note that the reader has used up a chunk of so many inputs."""
        self._items_read += items

    def cancel(self) -> None:
        """The reader has stopped: cancel what has not started."""
        self._is_unread = True
        self._is_cut = True
        self._notes.put(None)
        self._cancel_results()

    def abandon(self) -> None:
        """The iterator was dropped before anything was read: run everything, keep nothing. Safe in a finalizer."""
        self._is_unread = True
        self._is_bounded = False
        self._notes.put(None)

    # ---- the executor ----

    def finish(self) -> None:
        """Hand over all that is left, whether or not somebody reads the results."""
        self._is_bounded = False
        self._notes.put(None)

    def finish_unless_read(self) -> None:
        """At the end of the program: an iterator that somebody has begun to read will not be read on."""
        if self._is_read and self._is_bounded:
            self.cancel()
        else:
            self.finish()

    def cut(self) -> None:
        """Hand over nothing more; who reads on finds a ``CancelledError`` after the last result."""
        self._is_cut = True
        self._notes.put(None)

    def join(self) -> None:
        """Wait until nothing is left to hand over."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # ---- whoever owns the inputs ----

    def _run(self) -> None:
        try:
            while not self._is_over:
                self._take_notes()
                try:
                    self._feed()
                except BaseException as error:  # noqa: BLE001 - what the inputs raise is the reader's, at its turn
                    self._end(error)
        finally:
            self._work.end_feed(self)

    def _take_notes(self) -> None:
        """Wait for news, and take all there is."""
        note = self._notes.get()
        while True:
            if note is not None:
                items, future = note
                self._chunks_out -= 1
                self._sizes.observe(items, getattr(future, "duration_s", None))
            try:
                note = self._notes.get_nowait()
            except Empty:
                return

    def _feed(self) -> None:
        """Hand over as many chunks as there is room for."""
        while not self._is_over:
            if self._is_cut:
                self._end(CancelledError())
                return
            self._size = self._size or self._sizes.next_size()
            if not self._has_room():
                return
            chunk = self._take(self._size)
            self._size = 0
            if chunk:
                self._submit(chunk)
            else:
                self._end(None)

    def _take(self, size: int) -> list[tuple[Any, ...]]:
        """Read inputs; those before one that raises are handed over."""
        chunk: list[tuple[Any, ...]] = []
        try:
            chunk.extend(islice(self._inputs, size))  # keeps what it has got when the iterator raises
        except BaseException:
            if chunk:
                self._submit(chunk)
            raise
        return chunk

    def _has_room(self) -> bool:
        if self._chunks_out >= self._sizes.window():
            return False
        if self._fits_window():
            return True
        # Set the flag first and look again: the reader counts first and looks at the flag afterwards.
        self._waits_for_reader = True
        if not self._fits_window():
            return False
        self._waits_for_reader = False
        return True

    def _fits_window(self) -> bool:
        ahead = self._items_out - self._items_read
        return not self._is_bounded or ahead + self._size <= self._sizes.items_ahead(self._size)

    def _submit(self, chunk: list[tuple[Any, ...]]) -> None:
        items = len(chunk)

        def done(future: TaskFuture) -> None:
            self._notes.put((items, future))

        then = done if self.progress is None else self.progress.watch(items, done)
        future = self._work.submit(self._function, (chunk,), {}, then, self._snapshot, self._terms)
        future.first_item = self._items_out  # type: ignore[attr-defined]  # for errors
        failed = failed_to_pickle(future)
        if failed:
            name_input_of(future, self._items_out, self.numbered)
        if failed and len(chunk) > 1:
            # One input does not pickle. The others must not suffer for having been put beside it.
            self._chunks_out += 1  # its note is on its way
            for item in chunk:
                self._submit([item])
            return
        self._chunks_out += 1
        self._items_out += items
        if not self._is_unread:
            self._results.put(future)
        if self._is_cut and self._is_unread:  # cancel() came in between
            self._cancel_results()

    def _end(self, error: BaseException | None) -> None:
        self._is_over = True
        self._inputs = iter(())
        if self.progress is not None:
            self.progress.no_more()
        self._results.put(error)

    def _cancel_results(self) -> None:
        waiting: list[TaskFuture] = []
        while True:
            try:
                result = self._results.get_nowait()
            except Empty:
                break
            if isinstance(result, TaskFuture):
                waiting.append(result)
        cancel(waiting, force=self.stops_running)


def name_input_of(future: Future[Any], start: int, numbered: bool) -> None:
    """See `scalepool._shims.places.name_input`, which few programs ever load."""
    from scalepool._shims.places import name_input

    name_input(future, start, numbered=numbered)


def failed_to_pickle(future: Future[Any]) -> bool:
    """Tell whether a call never left this process."""
    if not future.done() or future.cancelled():
        return False
    error = future.exception()
    return isinstance(error, SerializationError) or (
        error is not None and isinstance(error.__cause__, SerializationError)
    )
