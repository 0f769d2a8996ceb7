"""``multiprocessing.pool`` on scalepool's workers.

`Pool` has every method and argument of the original. It differs where the original hangs or throws work away:

* a worker that dies costs the items that it was running (`scalepool.errors.WorkerDiedError`), and ``get()`` after
  ``terminate()`` raises `scalepool.errors.TaskCancelledError`; the original waits for ever in both cases;
* chunks adapt to the measured time per item when no ``chunksize`` is given, and one failing item no longer costs the
  rest of its chunk;
* ``imap`` and ``imap_unordered`` read their input a bounded distance ahead, and always return an iterator that has
  ``next(timeout)``;
* ``map(..., chunksize=0)`` is a ValueError (the original returns a list of ``None``).

Keyword-only extras: ``task_timeout=`` and ``max_retries=`` on every call (see `Lifecycle`),
``on_error=``, ``progress=`` and ``seed=`` on every kind of map, ``buffersize=`` on ``imap`` and
``imap_unordered``. With ``on_error="return"`` a failed item is represented by its exception, for which `is_failed`
holds. The exception of a failed map has ``.partial_results``: a list with `MISSING` where there is no result.

A pool says ``multiprocessing.pool.Pool`` for its ``__class__`` where that module is loaded, so ``isinstance`` tests of
existing code hold; ``type(pool)`` is the class here.

`ThreadPool` is the standard library's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sized
from functools import partial

from scalepool._base.tuples import NamedTuple
from scalepool.errors import SerializationError
from scalepool.multiprocessing import _parts
from scalepool.multiprocessing._calls import Raising, check_buffersize, get, nothing, snapshot, spread
from scalepool.multiprocessing.lifecycle import CLOSE, INIT, RUN, TERMINATE, Lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.pool import ThreadPool
    from typing import Any

    from scalepool._shims.outcomes import MISSING, OnError, is_failed
    from scalepool._shims.progress import Reporter, Sink
    from scalepool.api import Terms
    from scalepool.multiprocessing.iterators import IMapIterator, IMapUnorderedIterator
    from scalepool.multiprocessing.results import ApplyResult, AsyncResult, MapResult, Settlement

    Progress = bool | Sink | None
    Callback = Callable[[Any], object] | None

__all__ = [
    "CLOSE",
    "INIT",
    "MISSING",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",  # noqa: F822  # see __getattr__
    "Pool",
    "RemoteTraceback",  # noqa: F822  # see __getattr__
    "ThreadPool",
    "is_failed",
]

_FROM_STDLIB = frozenset({"MaybeEncodingError", "RemoteTraceback", "ThreadPool"})
_FROM_PARTS = frozenset(
    {"MISSING", "ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "is_failed"}
)


class _MapOptions(NamedTuple):
    """How a map behaves: its arguments but function and input."""

    star: bool = False
    chunksize: int | None = None
    callback: Callback = None
    error_callback: Callback = None
    on_error: OnError = "raise"
    progress: Progress = None
    seed: Any = None
    terms: Terms | None = None


class _StreamArguments(NamedTuple):
    """How an imap behaves: its arguments but function and input."""

    ordered: bool
    chunksize: int
    buffersize: int | None
    on_error: OnError
    progress: Progress
    seed: Any
    terms: Terms | None


class Pool(Lifecycle):
    """A pool of worker processes, as ``multiprocessing.pool.Pool``.

    The constructor's arguments are described in `Lifecycle`. Workers start with the first call (with an `initializer`:
    at once) and are shared with other pools of the process unless the pool has an `initializer` or `maxtasksperchild`.
    """

    @property  # type: ignore[misc]  # read-only: nobody assigns it
    def __class__(self) -> type:
        original = sys.modules.get("multiprocessing.pool")
        return type(self) if original is None else vars(original)["Pool"]

    # One call

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> Any:
        """Return ``func(*args, **kwds)``, run in a worker."""
        self._check_running()
        terms = self._group.terms(task_timeout, max_retries)
        return get(_parts.ApplyResult(self._group.submit(*spread(func, args, kwds), terms=terms, is_awaited=True)))

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # the original's signature; never changed
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> ApplyResult:
        """Start ``func(*args, **kwds)`` in a worker and return its `AsyncResult`.

        Parameters
        ----------
        callback, error_callback
            Called with the result or the exception, in the pool's callback thread.
        task_timeout, max_retries
            Instead of the pool's own; here and in every other call.

        Raises
        ------
        ValueError
            When the pool is not running.
        """
        self._check_running()
        terms = None
        if task_timeout is not None or max_retries is not None:
            terms = self._group.terms(task_timeout, max_retries)
        if callback is None and error_callback is None:
            return _parts.ApplyResult(self._group.submit(*spread(func, args, kwds), terms=terms))
        settlement = self._settlement(callback, error_callback)
        result = _parts.CallbackResult(settlement)
        with _parts.undivided:
            number = self._remember(result)
            settlement.on_settled = partial(self._forget, number)
            try:
                submit, call = self._group.submit, spread(func, args, kwds)
                result.attach(_parts.undivided.open(submit, *call, on_done=result.arrived, terms=terms))
            except BaseException:
                self._forget(number)
                raise
        return result

    # Maps

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> list[Any]:
        """Return ``[func(item) for item in iterable]``, run in the workers.

        Parameters
        ----------
        chunksize
            Items per task; ``None`` adapts to the measured time per item.
        on_error
            ``"raise"``: the first error that arrived, when all items have run. ``"raise_now"``: at once, the rest is
            cancelled. ``"return"``: the exceptions stand in the result; `is_failed` tells them from values.
        progress
            ``True`` for a bar or line, or a callable ``(done, total, failed)``; at most ten calls a second and a final
            one.
        seed
            A whole number, several, or a ``numpy.random.SeedSequence``: each item then finds ``random`` and
            ``numpy.random`` seeded for its position, and `scalepool.task_rng` returns its generator. The results are
            the same for any number of workers and any chunks.

        Raises
        ------
        BaseException
            A task's own exception, with ``.partial_results``.
        """
        own = {"task_timeout": task_timeout, "max_retries": max_retries}
        result = self.map_async(func, iterable, chunksize, on_error=on_error, progress=progress, seed=seed, **own)  # type: ignore[arg-type]
        return get(result)  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> list[Any]:
        """Return ``[func(*item) for item in iterable]``; else as `map`."""
        own = {"task_timeout": task_timeout, "max_retries": max_retries}
        result = self.starmap_async(func, iterable, chunksize, on_error=on_error, progress=progress, seed=seed, **own)  # type: ignore[arg-type]
        return get(result)  # type: ignore[no-any-return]

    def map_async(  # noqa: PLR0913 - the original's, and our keywords
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> MapResult:
        """Start a `map` and return its `AsyncResult`; callbacks get the whole list, or the exception."""
        terms = self._group.terms(task_timeout, max_retries)
        options = _MapOptions(False, chunksize, callback, error_callback, on_error, progress, seed, terms)
        return self._map_async(func, iterable, options)

    def starmap_async(  # noqa: PLR0913 - the original's, and our keywords
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        *,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> MapResult:
        """Start a `starmap` and return its `AsyncResult`; callbacks get the whole list, or the exception."""
        terms = self._group.terms(task_timeout, max_retries)
        options = _MapOptions(True, chunksize, callback, error_callback, on_error, progress, seed, terms)
        return self._map_async(func, iterable, options)

    def _map_async(self, func: Callable[..., Any], iterable: Iterable[Any], options: _MapOptions) -> MapResult:
        self._check_running()
        on_error = _parts.check_on_error(options.on_error)
        chunksize = None if options.chunksize is None else _parts.check_chunksize(options.chunksize)
        reporter = self._reporter(options.progress)
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)  # its errors are the caller's, here and now
        star = options.star
        if options.seed is not None:
            func, iterable = _parts.seeded(func, iterable, options.seed, star=star)
            star = False
        try:
            items = snapshot(iterable)
            function = self._group.export(_parts.MapChunk(func, star)) if items else None
        except Exception as error:  # noqa: BLE001 - the original meets it in another thread, so get() raises it
            reason = _parts.for_arguments(error) if isinstance(error, SerializationError) else error
            return self._failed(reason, options.callback, options.error_callback)
        if function is None:
            settlement = self._settlement(None, None)  # the original calls no callback for an empty input
            settlement.settle(True, [])
            return _parts.MapResult(settlement, None)
        settlement = self._settlement(options.callback, options.error_callback)
        plan = _parts.ChunkPlan(len(items), self._processes, chunksize)
        task = _parts.ChunkTask(self._group, function, items, options.terms, options.seed is not None)
        job = _parts.MapJob(task, plan, settlement, on_error, reporter)
        with _parts.undivided:
            settlement.on_settled = partial(self._forget, self._remember(job))
            job.feed()
        return _parts.MapResult(settlement, job)

    # Iterators

    def imap(  # noqa: PLR0913 - the original's, and our keywords
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> IMapIterator:
        """Return an iterator over the results in input order.

        Parameters
        ----------
        iterable
            Read lazily, in a thread of its own; what it raises is raised at that place of the results.
        buffersize
            Items read ahead of the consumer at most. ``None``: four chunks per worker, more while tasks are tiny.
        on_error
            ``"raise"``: at the failing item's turn; the iteration can go on. ``"raise_now"``: out of turn, and that is
            the end. ``"return"``: the exception is handed out, flagged.
        progress, seed
            As in `map`.
        """
        terms = self._group.terms(task_timeout, max_retries)
        arguments = _StreamArguments(True, chunksize, buffersize, on_error, progress, seed, terms)
        return self._imap(func, iterable, arguments)

    def imap_unordered(  # noqa: PLR0913 - the original's, and our keywords
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        on_error: OnError = "raise",
        progress: Progress = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
    ) -> IMapUnorderedIterator:
        """Return an iterator over the results in the order in which they arrive; else as `imap`."""
        terms = self._group.terms(task_timeout, max_retries)
        arguments = _StreamArguments(False, chunksize, buffersize, on_error, progress, seed, terms)
        result = self._imap(func, iterable, arguments)
        assert isinstance(result, _parts.IMapUnorderedIterator)
        return result

    def _imap(self, func: Callable[..., Any], iterable: Iterable[Any], arguments: _StreamArguments) -> IMapIterator:
        self._check_running()
        on_error = _parts.check_on_error(arguments.on_error)
        chunksize = _parts.check_chunksize(arguments.chunksize)
        options = _parts.StreamOptions(
            ordered=arguments.ordered,
            buffersize=check_buffersize(arguments.buffersize),
            raise_now=on_error == "raise_now",
            reporter=self._reporter(arguments.progress),
            total=len(iterable) if isinstance(iterable, Sized) else None,
        )
        if arguments.seed is not None:
            func, iterable = _parts.seeded(func, iterable, arguments.seed)
        try:
            function = self._group.export(func if chunksize == 1 else _parts.MapChunk(func))
        except Exception as error:  # noqa: BLE001 - the original's moment is the first next()
            reason = _parts.for_arguments(error) if isinstance(error, SerializationError) else error
            function, iterable = self._group.export(nothing), Raising(reason)
        seeded = arguments.seed is not None
        task = _parts.StreamTask(self._group, function, chunksize, self._processes, arguments.terms, seeded)
        stream = _parts.Stream(task, options)
        with _parts.undivided:
            number = self._remember(stream)
            stream.start(iterable, partial(self._forget, number), f"{self._name}-feeder-{number}")
            kind = _parts.IMapIterator if arguments.ordered else _parts.IMapUnorderedIterator
            return kind(stream, self, chunksize > 1, on_error)  # whose end lets go of the stream

    # Parts of results

    def _settlement(self, callback: Callback, error_callback: Callback) -> Settlement:
        return _parts.Settlement(self._callbacks, callback, error_callback)

    def _failed(self, error: BaseException, callback: Callback, error_callback: Callback) -> MapResult:
        settlement = self._settlement(callback, error_callback)
        settlement.settle(False, error)
        return _parts.MapResult(settlement, None)

    def _reporter(self, progress: Progress) -> Reporter | None:
        sink = _parts.progress_sink(progress)
        return None if sink is None else _parts.Reporter(sink, self._callbacks.post)


def __getattr__(name: str) -> Any:
    if name in _FROM_PARTS:
        return getattr(_parts, name)
    if name in _FROM_STDLIB:
        import multiprocessing.pool

        return getattr(multiprocessing.pool, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
