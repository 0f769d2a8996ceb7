"""A pool's life: made, closed, terminated, joined, dropped.

The states are the original's, and so are the moments: ``with`` ends in ``terminate()``, ``close(); join()`` lets all
work finish, joining a running pool is a ValueError.

Calls that are more than one task (maps, iterators, callbacks) are *jobs*. A closed pool still feeds its jobs, so its
workers are closed when the last job is fed and not before. Jobs hold the pool; the pool holds its jobs while they last.
"""

from __future__ import annotations

import itertools
import threading
import warnings
import weakref
from contextlib import suppress

from scalepool import api
from scalepool.errors import SerializationError, SessionError
from scalepool.multiprocessing import _parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, NoReturn, Protocol

    from typing_extensions import Self

    class Job(Protocol):
        """A call that the pool must see to its end."""

        def drain(self) -> None:
            """Wait until it is over."""

        def abort(self) -> None:
            """Submit nothing more."""


__all__ = ["CLOSE", "INIT", "RUN", "TERMINATE", "Lifecycle"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

_pool_numbers = itertools.count(1)


class Lifecycle:
    """States, workers and jobs of a pool.

    Parameters
    ----------
    processes
        Number of workers; ``None`` means the usable CPUs (`scalepool.api.cpu_count`). It may exceed them. Without a
        number a pool grows and shrinks with the cluster, if there is one; ``_processes`` stays what it was.
    initializer, initargs
        ``initializer(*initargs)`` runs once in each worker before its first task. Such a pool has workers of its own,
        and starts them at once.
    maxtasksperchild
        Tasks (chunks) after which a worker is replaced. Such a pool has workers of its own.
    max_worker_rss
        Bytes, or a text such as ``"2GB"``: a worker that has more memory to itself after a task is replaced, and its
        successor starts first. Such a pool has workers of its own.
    capture_output
        What a task prints is not shown, but is the ``output`` of its `AsyncResult`.
    context
        As ``multiprocessing.get_context()`` returns. Kept as ``_ctx``; workers never start by a fork of the caller's
        process, whatever it says.
    task_timeout
        Seconds that each call may take, each item of a map, from its start on. Its worker is stopped then, and the call
        fails with `scalepool.errors.TaskTimeoutError`, which is a ``multiprocessing.TimeoutError``, too; no other does.
    max_retries
        How many more times a call (an item) is tried when the worker dies that runs it.
    initializer_timeout
        Seconds that `initializer` may take in a worker; after that every call fails.

    Raises
    ------
    ValueError
        `processes` below 1, or `maxtasksperchild` not a positive int.
    TypeError
        `initializer` is not callable.
    """

    _state = INIT  # __del__ needs it also when __init__ raises

    def __init__(  # noqa: PLR0913 - the original's, and our keywords
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        max_worker_rss: int | str | None = None,
        capture_output: bool = False,
        task_timeout: float | None = None,
        max_retries: int = 0,
        initializer_timeout: float | None = None,
    ) -> None:
        size = api.cpu_count() if processes is None else processes
        _check(size, maxtasksperchild, initializer)
        self._context = context
        self._processes = size
        self._name = f"pool-{next(_pool_numbers)}"
        self._group = _open_group(
            size,
            name=self._name,
            initializer=initializer,
            initargs=tuple(initargs),
            max_tasks_per_worker=maxtasksperchild,
            max_worker_rss=max_worker_rss,
            capture_output=capture_output,
            task_timeout_s=task_timeout,
            max_retries=max_retries,
            initializer_timeout_s=initializer_timeout,
            elastic=processes is None,
        )
        self._callbacks = _parts.CallbackThread(f"{self._name}-callbacks")
        self._jobs: dict[int, Job] = {}
        self._job_numbers = itertools.count()
        self._jobs_lock = threading.RLock()  # re-entrant: a garbage collection inside may end another job
        # The group closes itself when it is collected, and it is by then unused: jobs hold their pool.
        weakref.finalize(self, self._callbacks.stop).atexit = False
        if initializer is not None:
            # The original runs the initializer in every worker even when no task ever comes.
            self._group.start(wait=False)
        self._state = RUN

    # What packages read although it is private

    @property
    def _pool(self) -> list[Any]:
        """The workers, with ``pid``, ``name``, ``exitcode`` and ``is_alive()``; starts those that are missing."""
        if self._state == RUN:
            self._group.start()
        return list(self._group.workers())

    @property
    def _ctx(self) -> Any:
        if self._context is None:
            from scalepool.multiprocessing.context import get_context

            self._context = get_context()
        return self._context

    def _repopulate_pool(self) -> None:
        """Bring the workers up to their full number."""
        self._group.start()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    # Jobs

    def _remember(self, job: Job) -> int:
        number = next(self._job_numbers)
        with self._jobs_lock:
            self._jobs[number] = job
        return number

    def _forget(self, number: int) -> None:
        with self._jobs_lock:
            self._jobs.pop(number, None)
            last = self._state == CLOSE and not self._jobs
        if last:
            self._group.close()

    # Ending

    def close(self) -> None:
        """Take no more calls; workers end when all work is done."""
        if self._state != RUN:
            return
        with self._jobs_lock:
            self._state = CLOSE
            idle = not self._jobs
        if idle:
            self._group.close()

    def terminate(self) -> None:
        """Drop all work at once: what has not finished ends with `TaskCancelledError` (the original: never)."""
        self._state = TERMINATE
        self._callbacks.discard()
        with self._jobs_lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.abort()
        self._group.terminate()
        self._callbacks.stop()

    def join(self) -> None:
        """Wait until all work is done, callbacks too, and the pool's own workers have ended.

        Raises
        ------
        ValueError
            When neither ``close()`` nor ``terminate()`` was called before.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        try:
            self._drain()
        except KeyboardInterrupt as interrupt:
            raise interrupt.with_traceback(None) from None  # without the frames of ours below this one

    def _drain(self) -> None:
        while not self._callbacks.is_current():  # a callback cannot wait for itself
            with self._jobs_lock:
                number, job = next(iter(self._jobs.items()), (-1, None))
            if job is None:
                break
            with suppress(SessionError):  # at the interpreter's end, in a finalizer: nothing of it comes any more
                job.drain()
            self._forget(number)
        self._group.close()
        self._group.join()
        self._callbacks.stop()
        self._callbacks.join()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            from scalepool._shims.interrupted import see_through

            see_through(self.terminate, self._group.terminate, self._callbacks.stop)
        else:
            self.terminate()

    def __del__(self, _warn: Callable[..., None] = warnings.warn, _run: str = RUN) -> None:
        # Both names are bound early: at interpreter exit the module's globals may be gone.
        if self._state == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={getattr(self, '_processes', 0)}>"


def _check(processes: int, tasks: Any, initializer: Any) -> None:
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if tasks is not None and (not isinstance(tasks, int) or tasks <= 0):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


def _open_group(processes: int, **options: Any) -> api.WorkerGroup:
    api.init()  # before the names below are looked at, which loads what is behind them: see _parts
    try:
        return api.WorkerGroup(processes, errors=_parts.POOL_ERRORS, **options)
    except SerializationError as error:
        translated = _parts.for_arguments(error)
        if translated is error:
            raise
        raise translated from error
