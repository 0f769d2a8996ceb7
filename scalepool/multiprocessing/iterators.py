"""What ``imap`` and ``imap_unordered`` return.

Like the original's: an iterator that also has ``next(timeout)``. Unlike the original's, it is the same class for every
chunk size, and a failing item costs only its own turn. It keeps its pool alive. Dropped half-read, it stops the input
from being read on (see `scalepool.multiprocessing.streams`).
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from scalepool._shims.chunks import ChunkOutcomes
from scalepool._shims.outcomes import OnError, mark_failed
from scalepool.errors import TaskTimeoutError, WorkerDiedError
from scalepool.multiprocessing.errors import error_of, error_of_item
from scalepool.multiprocessing.streams import Entry, Slot, Stream

if TYPE_CHECKING:
    from scalepool.api import TaskFuture

__all__ = ["IMapIterator", "IMapUnorderedIterator"]


class IMapIterator:
    """Iterator over the results of ``Pool.imap``; made by pools only.

    Mirrors ``multiprocessing.pool.IMapIterator``.

    Parameters
    ----------
    stream
        Where results come from.
    pool
        Kept alive until the last result is out.
    chunked
        Each task of the stream holds a sequence of items.
    on_error
        ``"return"`` hands a failed item's exception out, flagged, in its place.
    """

    def __init__(self, stream: Stream, pool: object, chunked: bool, on_error: OnError) -> None:
        self._stream = stream
        self._pool: object | None = pool
        self._chunked = chunked
        self._on_error = on_error
        self._started = False
        self._lock = threading.RLock()
        self._rest: deque[Any] = deque()  # what is left of the current chunk; failures as _Failed
        self._held = 0  # items of the current chunk, whose room the feeder has not got back yet

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        if self._rest:  # what was taken before, without the lock: popleft() is atomic
            try:
                item = self._rest.popleft()
            except IndexError:  # another thread was faster
                return self.next()
            if not self._rest:
                self._give_room_back()
            return self._failed(item) if isinstance(item, _Failed) else item
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Parameters
        ----------
        timeout
            Seconds to wait at most.

        Raises
        ------
        multiprocessing.TimeoutError
            When the time is up; call again later.
        StopIteration
            After the last one.
        BaseException
            The item's own exception. The next call goes on behind it.
        """
        self._started = True
        with self._lock:
            while not self._rest:
                self._unpack(self._take(timeout))
            item = self._rest.popleft()
            if not self._rest:
                self._give_room_back()
        return self._failed(item) if isinstance(item, _Failed) else item

    def _take(self, timeout: float | None) -> list[Entry]:
        try:
            return self._stream.take(timeout)
        except StopIteration:
            if self._stream.tracker is not None and not self._stream.is_stopped:
                self._stream.tracker.wait()
            self._pool = None
            raise
        except KeyboardInterrupt as interrupt:
            raise interrupt.with_traceback(None) from None  # without the frames of ours below this one

    def _give_room_back(self) -> None:
        with self._lock:
            held, self._held = self._held, 0
        if held:
            self._stream.consumed(held)

    def _unpack(self, entries: list[Entry]) -> None:
        rest = self._rest
        for entry in entries:
            if not isinstance(entry, Slot):
                rest.append(_Failed(entry, of_input=True))
                continue
            future = entry.future
            assert future is not None
            self._held += entry.size
            if future.has_value and not self._chunked:
                rest.append(future.result())
            elif (error := error_of(future, None if self._chunked else entry.start)) is not None:
                # The chunk as a whole: its results do not pickle, or its worker died and nothing more is known.
                if isinstance(error, (WorkerDiedError, TaskTimeoutError)) and entry.size == 1:
                    error.note(item=entry.start)
                rest.extend([_Failed(error)] * entry.size)
            elif self._chunked:
                self._unpack_chunk(entry, future)

    def _unpack_chunk(self, entry: Slot, future: TaskFuture) -> None:
        outcomes = future.result()
        if not isinstance(outcomes, ChunkOutcomes):
            self._rest.extend(outcomes)
            return
        values = list(outcomes.values)
        for offset, failure in outcomes.failures:
            values[offset] = _Failed(error_of_item(failure, future, entry.start + offset))
        self._rest.extend(values)

    def _failed(self, item: _Failed) -> BaseException:
        if self._on_error != "return" or item.of_input:
            _raise(item.error)
        return mark_failed(item.error)

    def __del__(self) -> None:
        # __init__ may not have got as far as this attribute.
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.dropped(self._started)


class IMapUnorderedIterator(IMapIterator):
    """Iterator over the results of ``Pool.imap_unordered``, in the order of completion; made by pools only."""


class _Failed:
    """A failed item among the results, or the failure of the input itself in the place of an item."""

    __slots__ = ("error", "of_input")

    def __init__(self, error: BaseException, of_input: bool = False) -> None:
        self.error = error
        self.of_input = of_input


def _raise(error: BaseException) -> NoReturn:
    """Raise an item's error; a StopIteration must not look like the end of the results."""
    try:
        if isinstance(error, StopIteration):
            raise RuntimeError("a task raised StopIteration") from error
        raise error
    finally:
        del error  # breaks the cycle error -> traceback -> this frame -> error
