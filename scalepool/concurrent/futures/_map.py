"""``Executor.map``: inputs in, an iterator of results out.

Results come in input order; the first failure is raised at its turn and ends the iterator, which cancels what has not
started. Inputs travel in chunks also with ``chunksize=1``, but each has an outcome of its own, so nobody can tell -
but for one case: when a worker dies, all inputs of its chunk (worth some milliseconds of work, or one input) are lost,
because which of them had run cannot be known and none may run twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sized
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from scalepool._shims.chunks import ChunkOutcomes, MapChunk
from scalepool._shims.interrupted import see_through
from scalepool._shims.outcomes import LostItem
from scalepool._shims.seeding import is_numbered
from scalepool._wire.pickling.exceptions import ResultEncodingError
from scalepool.api import TaskFuture
from scalepool.concurrent.futures._feeder import SNAPSHOT_ITEMS, Feeder, failed_to_pickle, name_input_of
from scalepool.concurrent.futures._sizes import OpenSizes, PlannedSizes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from scalepool._shims.outcomes import Failure
    from scalepool._shims.progress import Sink
    from scalepool.api import Function, Terms
    from scalepool.concurrent.futures._progress import ChunkProgress
    from scalepool.concurrent.futures._work import Work

__all__ = ["chunked", "length_of", "map_bounded", "map_buffered", "watch_chunks"]

Inputs = Iterator[tuple[Any, ...]]


def map_bounded(
    executor: object,
    work: Work,
    fn: Callable[..., Any],
    iterables: tuple[Iterable[Any], ...],
    chunksize: int,
    timeout_s: float | None,
    terms: Terms | None = None,
    sink: Sink | None = None,
) -> Generator[Any, None, None]:
    """Hand over the first inputs now and the rest in time; return the iterator of results.

    Parameters
    ----------
    executor
        Kept alive while inputs are left.
    work
        Its work.
    fn, iterables, chunksize, timeout_s
        As ``Executor.map`` takes them; a `chunksize` of 1 leaves the size to the measured time per input.
    terms
        Time limit and retries of each input, if not the executor's.
    sink
        Shows progress; ``None`` without.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    workers = work.workers
    size = chunksize if chunksize > 1 else None
    inputs: Inputs = zip(*iterables, strict=False)
    total = length_of(iterables)
    is_short = total is not None and total <= SNAPSHOT_ITEMS
    if is_short:
        snapshot = list(inputs)
        inputs, total = iter(snapshot), len(snapshot)
    sizes = OpenSizes(workers, size) if total is None else PlannedSizes(workers, size, total)
    progress = watch_chunks(sink, total)
    feeder = Feeder(work, _export(work, fn), inputs, sizes, is_bounded=not is_short, terms=terms)
    feeder.progress = progress
    feeder.numbered = is_numbered(iterables)
    try:
        feeder.begin()
        results = _read(_Reader(feeder, None if feeder.is_over else executor), deadline, progress)
        next(results)  # into its block: interrupted later, even before it is read, it stops what runs
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):  # nobody can get these results, and what was handed over may run
            feeder.stops_running = True
            see_through(feeder.cancel)
        if progress is not None:
            progress.no_more()
        raise
    return results


def map_buffered(
    submit: Callable[[Function, list[tuple[Any, ...]], ChunkProgress | None], Future[Any]],
    work: Work,
    fn: Callable[..., Any],
    chunks: Iterator[list[tuple[Any, ...]]],
    buffersize: int,
    timeout_s: float | None,
    progress: ChunkProgress | None = None,
    *,
    numbered: bool = False,
) -> Generator[Any, None, None]:
    """Hand over `buffersize` chunks now and one more for each that is read; return the iterator of results."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    function = _export(work, fn)
    sent = 0

    def send(chunk: list[tuple[Any, ...]]) -> Future[Any]:
        nonlocal sent
        future = submit(function, chunk, progress)
        future.first_item = sent  # type: ignore[attr-defined]  # for errors
        if failed_to_pickle(future):
            name_input_of(future, sent, numbered)
        sent += len(chunk)
        return future

    pending = deque(map(send, islice(chunks, buffersize)))

    def read() -> Generator[Any, None, None]:
        try:
            while pending:
                for chunk in islice(chunks, 1):
                    pending.append(send(chunk))
                yield from _outcomes(pending.popleft(), deadline)
        finally:
            for future in pending:
                future.cancel()
            if progress is not None:
                progress.no_more()
        if progress is not None:
            progress.wait()

    return read()


def chunked(iterables: tuple[Iterable[Any], ...], size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Cut the zipped inputs, lazily (``itertools.batched`` came with Python 3.12)."""
    inputs = zip(*iterables, strict=False)
    while chunk := list(islice(inputs, size)):
        yield chunk


def length_of(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """Return how many inputs there are, None when it cannot be told without reading them."""
    lengths = [len(iterable) for iterable in iterables if isinstance(iterable, Sized)]
    return min(lengths, default=0) if len(lengths) == len(iterables) else None


def _export(work: Work, fn: Callable[..., Any]) -> Function:
    return work.group.export(MapChunk(fn, True))


def watch_chunks(sink: Sink | None, total: int | None) -> ChunkProgress | None:
    """Return what counts the items of a map; ``None`` where nobody wants to know."""
    if sink is None:
        return None
    from scalepool.concurrent.futures._progress import ChunkProgress

    return ChunkProgress(sink, total)


class _Reader:
    """The reading end of a map. Its finalizer tells an iterator that was dropped unread from one that was closed."""

    __slots__ = ("executor", "feeder")

    def __init__(self, feeder: Feeder, executor: object) -> None:
        self.feeder = feeder
        self.executor = executor

    def __del__(self) -> None:
        self.feeder.abandon()


def _read(reader: _Reader, deadline: float | None, progress: ChunkProgress | None = None) -> Generator[Any, None, None]:
    feeder = reader.feeder
    is_unread = True
    try:
        yield None
        is_unread = False
        while True:
            future = feeder.next_result(_remaining(deadline))
            if future is None:
                if progress is not None:
                    progress.wait()
                return
            yield from _outcomes(future, deadline, feeder)
    except KeyboardInterrupt as interrupt:
        feeder.stops_running = is_unread = True  # nobody can get these results any more
        see_through(feeder.cancel)
        raise interrupt.with_traceback(None) from interrupt.__cause__  # without the frames of ours below this one
    finally:
        if not is_unread:  # else `_Reader` sees to it, or it is done
            feeder.cancel()


def _outcomes(future: Future[Any], deadline: float | None, feeder: Feeder | None = None) -> Iterator[Any]:
    """Yield the values of a chunk, and raise its first failure in its place, without keeping what was yielded."""
    try:
        result = future.result(_remaining(deadline))
    except KeyboardInterrupt:
        if isinstance(future, TaskFuture):
            see_through(partial(future.cancel, force=True))
        raise
    finally:
        future.cancel()
    error = None
    if isinstance(result, ChunkOutcomes):
        first, failure = result.failures[0]
        error = _error_of(failure, future, first)
        result = result.values[:first]
    del future
    items = len(result)
    result.reverse()
    while result:
        yield result.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error  # else error and frame would hold each other
    if feeder is not None:
        feeder.count_read(items)


def _error_of(failure: Failure | LostItem, future: Future[Any], offset: int) -> BaseException:
    position = getattr(future, "first_item", 0) + offset
    if not isinstance(failure, LostItem):
        from scalepool.concurrent.futures._errors import make_traceback

        raised = failure.revive(make_traceback)
        return raised.of_item(position) if isinstance(raised, ResultEncodingError) else raised
    error: Any = future.lost_item(failure.status, failure.verdict)  # type: ignore[attr-defined]  # it is a TaskFuture
    error.note(item=position)
    return cast("BaseException", error)


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
