"""Drop-in for ``concurrent.futures.process``.

``ProcessPoolExecutor`` is ours; any other name (``BrokenProcessPool``, ...) is the standard library's, imported when it
is asked for.
"""

from __future__ import annotations

import weakref
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from scalepool._shims.progress import progress_sink
from scalepool._shims.seeding import seeded
from scalepool.api import WorkerGroup, cpu_count
from scalepool.concurrent.futures._errors import ERRORS
from scalepool.concurrent.futures._map import chunked, length_of, map_bounded, map_buffered, watch_chunks
from scalepool.concurrent.futures._views import ProcessView, process_views
from scalepool.concurrent.futures._work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from scalepool.api import Terms
    from scalepool.concurrent.futures._limited import LimitedExecutor
    from scalepool.concurrent.futures._progress import ChunkProgress

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class ProcessPoolExecutor(Executor):
    """Runs calls in other processes; the standard library's class of that name, on scalepool's workers.

    Differences, all of them on purpose:

    - When a worker dies, only the call that it ran fails (with ``WorkerDied``, a ``BrokenProcessPool``); the executor
      stays usable. A failing `initializer` breaks it, as in the standard library.
    - Functions and arguments may be lambdas, closures and classes of ``__main__``; the main script is never run again.
    - Workers are shared with other executors and pools and stay warm, unless `initializer`, `max_tasks_per_child`
      or `max_worker_rss` is given. An executor inside a task works.
    - ``map`` reads long inputs as they are needed, has `buffersize` on every Python, and sends inputs in chunks.
    - ``kill_workers`` and ``terminate_workers`` (Python 3.14) are there on every Python.

    Parameters
    ----------
    max_workers
        Most calls to run at once; default: the CPUs that this process may use.
    mp_context
        Accepted; its start method is not used, since workers always come from a helper process that forks safely.
    initializer
        Called as ``initializer(*initargs)`` in each worker before its first call.
    initargs
        Arguments of `initializer`.
    max_tasks_per_child
        A worker is replaced after so many calls; default: never.
    max_worker_rss
        Bytes, or a text such as ``"2GB"``: a worker that has more memory to itself after a call is replaced, and its
        successor starts first.
    capture_output
        What a call prints is not shown, but is the ``output`` of its future.
    task_timeout
        Seconds that each call may take (each input of a ``map``), from its start on. Its worker is stopped then, and
        the call alone fails, with ``scalepool.errors.TaskTimeoutError``, a ``TimeoutError``.
    max_retries
        How many more times a call (an input) is tried when the worker dies that runs it.
    initializer_timeout
        Seconds that `initializer` may take in a worker; after that the executor is broken.

    Raises
    ------
    ValueError
        For a number below 1, or `max_tasks_per_child` with a ``fork`` context.
    TypeError
        For an `initializer` that cannot be called, or a `max_tasks_per_child` that is no integer.
    """

    def __init__(  # noqa: PLR0913 - the original's, and our keywords
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_worker_rss: int | str | None = None,
        capture_output: bool = False,
        task_timeout: float | None = None,
        max_retries: int = 0,
        initializer_timeout: float | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _check_max_tasks(max_tasks_per_child, mp_context)
        self._max_workers = size = cpu_count() if max_workers is None else max_workers
        self._given_context = mp_context
        self._max_tasks_per_child = max_tasks_per_child
        group = WorkerGroup(
            size,
            name=type(self).__name__,
            initializer=None if initializer is None else _Initializer(initializer),
            initargs=initargs,
            max_tasks_per_worker=max_tasks_per_child,
            max_worker_rss=max_worker_rss,
            capture_output=capture_output,
            task_timeout_s=task_timeout,
            max_retries=max_retries,
            initializer_timeout_s=initializer_timeout,
            errors=ERRORS,
            elastic=max_workers is None,
        )
        self._work = Work(group, size, may_break=initializer is not None)
        weakref.finalize(self, self._work.let_go).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a worker.

        Returns
        -------
        A ``concurrent.futures.Future``. What does not pickle fails on it, with an error that names the culprit.

        Raises
        ------
        RuntimeError
            After ``shutdown()`` or when the interpreter ends.
        BrokenProcessPool
            When the initializer has failed.
        """
        self._work.check_open()
        return cast("Future[T]", self._work.submit(fn, args, kwargs))

    def with_options(self, *, task_timeout: float | None = None, max_retries: int | None = None) -> LimitedExecutor:
        """Return an executor on the same workers whose calls have these options; ``None`` leaves one as it is.

        ``submit`` hands all its arguments to the function, so it has no room for options of ours:
        ``executor.with_options(task_timeout=2).submit(fn, ...)``. Shutting one of the two down shuts down both.

        Raises
        ------
        ValueError, TypeError
            For a `task_timeout` that is no positive number, or `max_retries` that is negative or not whole.
        """
        from scalepool.concurrent.futures._limited import LimitedExecutor

        return LimitedExecutor(self, self._work, self._work.group.terms(task_timeout, max_retries))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        seed: Any = None,
        task_timeout: float | None = None,
        max_retries: int | None = None,
        progress: Any = None,
    ) -> Iterator[T]:
        """Run ``fn`` on the zipped inputs, and iterate over the results in input order.

        Inputs of known length up to 100,000 are read at once, and run whether or not the results are read. Others are
        read as workers need them, at most four chunks per worker ahead of the results that were read - unless nobody
        can read them, because the iterator was dropped or the executor shut down: then all of them are run.

        Parameters
        ----------
        fn
            Called with one input of each iterable.
        iterables
            As long as the shortest.
        timeout
            Seconds from this call after which iterating raises ``TimeoutError``.
        chunksize
            Inputs per task; 1 leaves it to the measured time per input.
        buffersize
            Most chunks handed over and not read yet (Python 3.14); nothing more is read before a result is.
        seed
            A whole number, several, or a ``numpy.random.SeedSequence``: each call then finds ``random`` and
            ``numpy.random`` seeded for its position, and `scalepool.task_rng` returns its generator. The results are
            the same for any number of workers and any chunks.
        task_timeout, max_retries
            For each input, instead of the executor's own.
        progress
            ``True`` for a bar of tqdm's, or a line on stderr; ``"tqdm"``; a bar; or a callable
            ``(done, total, failed)``: at most ten calls a second, and a last one.

        Returns
        -------
        An iterator; closing it, or dropping it after the first result, cancels what has not started.

        Raises
        ------
        ValueError
            For a `chunksize` or `buffersize` below 1.
        TypeError
            For a `buffersize` that is no integer.
        RuntimeError
            After ``shutdown()``.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._work.check_open()
        terms = self._work.group.terms(task_timeout, max_retries)
        if seed is not None:
            inputs: Iterable[Any] = zip(*iterables, strict=False)
            fn, inputs = seeded(fn, inputs, seed, star=True, length=length_of(iterables))
            iterables = (inputs,)
        sink = progress_sink(progress)
        if buffersize is None:
            return map_bounded(self, self._work, fn, iterables, chunksize, timeout, terms, sink)
        watched = watch_chunks(sink, length_of(iterables))
        submit, chunks = partial(self._submit_chunk, terms), chunked(iterables, chunksize)
        numbered = seed is not None
        return map_buffered(submit, self._work, fn, chunks, buffersize, timeout, watched, numbered=numbered)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and let go of the workers when the pending ones are finished.

        Parameters
        ----------
        wait
            Return only then.
        cancel_futures
            Cancel the calls that have not started.
        """
        self._work.shut_down(cancel=cancel_futures)
        if wait:
            self._work.join()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Shut down and wait; after Ctrl-C what runs is stopped (the standard library waits for it)."""
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self._work.end_after_interrupt(wait=True)
            return
        self.shutdown(wait=True)

    def kill_workers(self) -> None:
        """Cancel what has not started and kill the workers that run the rest; the executor is shut down then.

        Calls that ran fail with a ``BrokenProcessPool`` that is also a ``scalepool.errors.TaskCancelledError``. Workers
        that run other executors' calls are left alone.
        """
        self._work.stop_workers(kill=True)

    def terminate_workers(self) -> None:
        """As ``kill_workers``, with SIGTERM."""
        self._work.stop_workers(kill=False)

    def _submit_chunk(
        self, terms: Terms, function: Any, chunk: list[tuple[Any, ...]], progress: ChunkProgress | None
    ) -> Any:
        self._work.check_open()
        then = None if progress is None else progress.watch(len(chunk))
        return self._work.submit(function, (chunk,), {}, then, terms=terms)

    # ---- private in the standard library, but read by programs ----

    @property
    def _processes(self) -> dict[int, ProcessView]:
        return process_views(self._work)

    @property
    def _broken(self) -> str | bool:
        return self._work.broken or False

    @property
    def _shutdown_thread(self) -> bool:
        return self._work.is_shut_down

    @property
    def _executor_manager_thread(self) -> Work | None:
        """Something to ``join()``, once there is work."""
        return self._work if self._work.has_begun else None

    @property
    def _mp_context(self) -> BaseContext:
        if self._given_context is None:
            import multiprocessing

            self._given_context = multiprocessing.get_context("spawn" if self._max_tasks_per_child else None)
        return self._given_context


class _Initializer:
    """Logs what the initializer raises where the standard library logs it, in the worker."""

    def __init__(self, initializer: Callable[..., object]) -> None:
        self._initializer = initializer

    def __call__(self, *initargs: Any) -> None:
        try:
            self._initializer(*initargs)
        except BaseException:
            import logging

            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            raise


def _check_max_tasks(max_tasks_per_child: int | None, mp_context: BaseContext | None) -> None:
    if max_tasks_per_child is None:
        return
    if not isinstance(max_tasks_per_child, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if max_tasks_per_child <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if mp_context is not None and mp_context.get_start_method(allow_none=False) == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
            " supply a different mp_context."
        )


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from concurrent.futures import process

    value = getattr(process, name)
    globals()[name] = value
    return value
