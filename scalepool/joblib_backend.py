"""The joblib backend ``"scalepool"``.

``import scalepool``, then any of::

    with joblib.parallel_config(backend="scalepool", n_jobs=-1): ...
    joblib.Parallel(n_jobs=4, backend="scalepool")(...)

It behaves as joblib's own process backend ("loky") with these differences:

- When a worker dies, only its batch fails, with ``TerminatedWorkerError``, and the workers stay usable.
- Large arrays are mapped from shared memory without files. With ``mmap_mode`` ``"r+"`` and ``"w+"`` each task has a
  private copy; to have tasks write into one array, pass an ``np.memmap`` that has a file, which works as ever.
  ``temp_folder`` is accepted and not needed.
- A nested ``Parallel`` runs on the same workers, to a depth of `MAX_NESTING`; nothing is started for it.
- An `initializer` has workers of its own. The last such workers are kept, and used again by calls with equal options.
- ``parallel_config(backend="scalepool", progress=True)`` shows the progress of each call, item by item.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from multiprocessing import TimeoutError as MultiprocessingTimeout
from typing import Any, Final

from joblib._parallel_backends import FallbackToBackend, SequentialBackend
from joblib.externals.loky.process_executor import TerminatedWorkerError as LokyTerminatedWorkerError
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from scalepool._joblib import pickling
from scalepool._joblib.arrays import ArrayMapper
from scalepool._joblib.batches import Callers
from scalepool._joblib.completions import Completions
from scalepool._joblib.progress import BatchProgress
from scalepool._joblib.registration import BACKEND_NAME, install
from scalepool._shims.progress import progress_sink
from scalepool.api import ErrorTypes, WorkerGroup, cpu_count, in_worker
from scalepool.errors import SessionError, TaskTimeoutError, WorkerDiedError

__all__ = ["BACKEND_NAME", "MAX_NESTING", "ScalepoolBackend", "TerminatedWorkerError", "register"]

#: Calls nested deeper than this run in their worker, one after the other.
MAX_NESTING: Final = 4


def register() -> None:
    """Make joblib know the name ``"scalepool"``; ``import scalepool`` has done so already."""
    install()


class TerminatedWorkerError(WorkerDiedError, LokyTerminatedWorkerError):  # type: ignore[misc]
    """The worker that ran this batch died. Also joblib's own ``TerminatedWorkerError`` and a ``BrokenProcessPool``."""


class TaskTimeout(TaskTimeoutError, MultiprocessingTimeout):
    """The call ran longer than its ``task_timeout``. Also what joblib raises for its own ``timeout``."""


_ERRORS: Final = ErrorTypes(worker_died=TerminatedWorkerError, timed_out=TaskTimeout)


class ScalepoolBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on scalepool's workers.

    Parameters
    ----------
    nesting_level
        Set by joblib: 0 outside of tasks.
    inner_max_num_threads
        Threads of BLAS, OpenMP and numba in each worker; default ``max(1, cpus // n_jobs)``.
    initializer, initargs
        Called as ``initializer(*initargs)`` in each worker before its first task.
    progress
        ``True`` for a bar of tqdm's, or a line on stderr; ``"tqdm"``; a bar; or a callable ``(done, total, failed)``:
        at most ten calls a second, and a last one. The total is known when joblib has read all of its input. Not for
        ``n_jobs=1``, where joblib runs the calls itself.
    idle_worker_timeout
        Accepted for those who come from ``"loky"``; idle workers end by scalepool's own rule.
    task_timeout
        Seconds that each call may take, from its start on; the ``Parallel`` call then fails with
        ``scalepool.errors.TaskTimeoutError``, a ``multiprocessing.TimeoutError``. Calls then travel one by one.
        (``Parallel(timeout=...)`` keeps joblib's meaning.)
    max_retries
        How many more times a batch of calls is tried when the worker dies that runs it.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    # joblib's own are ten times that, for a dispatch that costs more. A batch that fails or is read as it finishes is
    # known that much earlier, and the last one keeps the others waiting that much less.
    MIN_IDEAL_BATCH_DURATION = 0.05
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        idle_worker_timeout: float | None = None,
        task_timeout: float | None = None,
        max_retries: int = 0,
        progress: Any = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._initializer = initializer
        self._initargs = initargs
        self._task_timeout = task_timeout
        self._max_retries = max_retries
        self._progress = progress
        self._counter: BatchProgress | None = None
        self._callers = Callers()
        self._n_jobs = 1
        self._workers: WorkerGroup | None = None
        self._completions = Completions()
        self._mapper = ArrayMapper(None, None)
        self._duration_s: float | None = None

    # ---- what joblib asks before a call ----

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at once for joblib's ``n_jobs``.

        Raises
        ------
        ValueError
            For 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Get ready for a call and return how many tasks will run at once.

        Raises
        ------
        FallbackToBackend
            For one job: joblib then runs the calls itself.
        TypeError
            For an option that is not known.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._mapper = ArrayMapper(options.pop("max_nbytes", None), options.pop("mmap_mode", "r"))
        self._initializer = options.pop("initializer", self._initializer)
        self._initargs = options.pop("initargs", self._initargs)
        self._task_timeout = options.pop("task_timeout", self._task_timeout)
        self._max_retries = options.pop("max_retries", self._max_retries)
        self._progress = options.pop("progress", self._progress)
        progress_sink(self._progress)  # what is none is refused here
        for name in ("temp_folder", "verbose", "context", "idle_worker_timeout"):
            options.pop(name, None)
        if options:
            raise TypeError(f"the joblib backend {BACKEND_NAME!r} has no option {sorted(options)}")
        self.parallel = parallel
        self._n_jobs = n_jobs
        self._workers = self._open_group()
        return n_jobs

    def get_nested_backend(self) -> tuple[ParallelBackendBase, None]:
        """Return the backend that calls inside of tasks use."""
        level = (self.nesting_level or 0) + 1
        nested = ScalepoolBackend if level <= MAX_NESTING else SequentialBackend
        return nested(nesting_level=level), None

    def start_call(self) -> None:
        """Begin a call."""
        self._completions = Completions()
        self._counter = BatchProgress(self._progress, self.parallel) if self._wants_progress() else None
        self._callers = Callers()  # to hold no function of an earlier call
        # Between two calls the user may have changed an array that the first call has stored.
        self._mapper.forget()
        if not in_worker() and (self.parallel.return_generator or self.parallel.timeout is not None):
            self._completions.tell_by_thread()

    # ---- a batch ----

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Run a batch; `callback` gets the future when it is finished."""
        completions = self._completions
        try:
            used: list[Any] = []
            run, rest = self._callers.split(func, self._workers)
            data, buffers, gaps = pickling.dumps(rest, self._mapper.reducers(used))
        except pickling.UnpicklableTaskError as error:
            from scalepool._shims.places import name_call

            name_call(error, self.parallel.n_dispatched_tasks - len(func))  # type: ignore[arg-type]  # it is a batch
            # Not raised from here: joblib may have called from a thread in which nobody would see it.
            batch: Future[Any] = Future()
            batch.set_exception(error)
        else:
            batch = self._submit(run, (data, tuple(used), buffers, gaps))
        if callback is not None:
            completions.expect(batch, callback if self._counter is None else self._counter.watch(func, callback))
        return batch

    def _submit(self, run: Callable[..., Any], call: tuple[Any, ...]) -> Future[Any]:
        workers = self._workers
        try:
            if workers is None:
                raise RuntimeError("the workers of this call are gone")
            try:
                return workers.submit(run, call, on_done=self._completions.finished)
            except SessionError:  # the session that they belong to was shut down meanwhile
                _reusable.forget(workers)
                self._workers = workers = self._open_group()
                return workers.submit(run, call, on_done=self._completions.finished)
        except RuntimeError as error:
            # The call was aborted while joblib was about to submit from another thread.
            batch: Future[Any] = Future()
            batch.set_exception(error)
            return batch

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise what its task raised."""
        self._duration_s = getattr(out, "duration_s", None)
        return out.result()

    def compute_batch_size(self) -> int:
        """Return how many calls to send together: one where each has its own time limit."""
        return 1 if self._task_timeout is not None else int(super().compute_batch_size())

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Take in how long a batch took in the worker, without the time that it waited for one."""
        super().batch_completed(batch_size, duration if self._duration_s is None else self._duration_s)

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Wait for the results, where this thread may as well; joblib then takes them as they lie there."""
        if in_worker() or not (self.parallel.return_generator or self.parallel.timeout is not None):
            if self._workers is not None:
                try:
                    self._completions.tell_until_done(self._workers, self.parallel.timeout)
                except KeyboardInterrupt as interrupt:
                    raise interrupt.with_traceback(None) from None  # without the frames of ours below this one
            if self._completions.open_batches():
                self._completions.tell_by_thread()  # joblib waits for them in its own way
        yield

    # ---- the end of a call ----

    def stop_call(self) -> None:
        """End a call."""
        self._completions.close()
        self._finish_progress()
        self._mapper.forget()

    def terminate(self) -> None:
        """Let go of what the calls used; the workers stay warm."""
        self._completions.close()
        self._finish_progress()
        self._mapper.forget()
        self.reset_batch_stats()
        self._workers = None  # what nobody holds any more closes by itself

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has not started and stop what runs; a later call finds fresh workers."""
        self._completions.close()
        self._finish_progress()
        if self._workers is not None:
            _reusable.forget(self._workers)
            self._workers.terminate(kill=True)
            self._workers = None
        if ensure_ready:
            self._workers = self._open_group()
            self.start_call()

    def _wants_progress(self) -> bool:
        return self._progress is not None and self._progress is not False

    def _finish_progress(self) -> None:
        counter, self._counter = self._counter, None
        if counter is not None:
            counter.finish()

    # ---- workers ----

    def _open_group(self) -> WorkerGroup:
        def make() -> WorkerGroup:
            return WorkerGroup(
                self._n_jobs,
                name="joblib",
                initializer=self._initializer,
                initargs=self._initargs,
                threads_per_worker=self.inner_max_num_threads,
                task_timeout_s=self._task_timeout,
                max_retries=self._max_retries,
                errors=_ERRORS,
            )

        if self._initializer is None:
            return make()
        limits = (self._task_timeout, self._max_retries)
        options = (self._n_jobs, self.inner_max_num_threads, self._initializer, self._initargs, *limits)
        return _reusable.get(options, make)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without progress, which is this process's: a bar does not travel, and a nested call has nothing to show.
        limits: dict[str, Any] = {"task_timeout": self._task_timeout, "max_retries": self._max_retries}
        make = partial(type(self), initializer=self._initializer, initargs=self._initargs, **limits)
        return make, (self.nesting_level, self.inner_max_num_threads)


class _Reusable:
    """The last workers that were made for an initializer: many libraries make a new ``Parallel`` for each call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._options: tuple[Any, ...] = ()
        self._group: WorkerGroup | None = None

    def get(self, options: tuple[Any, ...], make: Callable[[], WorkerGroup]) -> WorkerGroup:
        """Return them when their options are equal to these, else make others."""
        with self._lock:
            if self._group is None or not _are_equal(self._options, options):
                self._group, self._options = make(), options
            return self._group

    def forget(self, group: WorkerGroup) -> None:
        """These workers are not to be used again."""
        with self._lock:
            if self._group is group:
                self._group, self._options = None, ()


_reusable = _Reusable()


def _are_equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - arrays, for one, have no single answer
        return False
