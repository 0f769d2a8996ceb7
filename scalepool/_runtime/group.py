"""A group as its user sees it: a capped view on the session's workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._base.sizes import size_bytes
from scalepool._base.tuples import NamedTuple
from scalepool._core.task import PLAIN, Terms
from scalepool._proc.context import ProcessContext
from scalepool._runtime.functions import Function, name_of
from scalepool._runtime.futures import TaskFuture
from scalepool._runtime.inheritance import Inheritance
from scalepool._runtime.logs import current_levels
from scalepool._runtime.packing import Packed
from scalepool._runtime.session import DriverSession, current
from scalepool._runtime.spec import WorkerSpec
from scalepool._wire import messages as m
from scalepool._wire.pickling.importable import by_value_modules
from scalepool.config import THREAD_VARIABLES, thread_limits
from scalepool.errors import InitializerError, RemoteTraceback, TaskCancelledError, TaskTimeoutError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalepool._runtime.session import WorkerSession
    from scalepool._runtime.stored import Snapshot
    from scalepool.config import Settings

_LONGEST_S = 1e9  # thirty years; a finite bound keeps infinity and nan out of the arithmetic of clocks

__all__ = ["ErrorTypes", "GroupStatistics", "Terms", "WorkerGroup", "WorkerInfo"]


def _plain_traceback() -> type[Any]:
    return RemoteTraceback


class ErrorTypes(NamedTuple):
    """Which classes the errors of a group are to have, so that a drop-in's ``except`` clauses match.

    Attributes
    ----------
    worker_died
        Subclass of WorkerDiedError, built with the same keywords.
    timed_out
        Subclass of TaskTimeoutError, built with the same keywords.
    initializer_failed
        Subclass of InitializerError, built with a message.
    terminated
        Subclass of TaskCancelledError, built with a message; for tasks that ``terminate`` ended.
    remote_traceback
        Called when an error arrives; returns the class whose instance, built with the traceback's text, becomes the
        error's ``__cause__``.
    """

    worker_died: type[WorkerDiedError] = WorkerDiedError
    timed_out: type[TaskTimeoutError] = TaskTimeoutError
    initializer_failed: type[InitializerError] = InitializerError
    terminated: type[TaskCancelledError] = TaskCancelledError
    remote_traceback: Callable[[], type[Any]] = _plain_traceback


_OWN_ERRORS: Final = ErrorTypes()


class GroupStatistics(NamedTuple):
    """A snapshot of one group's counts."""

    max_workers: int
    queued: int
    running: int
    unfinished: int


def _limit_bytes(max_worker_rss: int | str | None, own: Settings) -> int:
    limit = own.max_worker_rss if max_worker_rss is None else max_worker_rss
    return 0 if limit is None else size_bytes(limit, "max_worker_rss")


def limits_of(cpus: int, workers: int, threads: int | None) -> dict[str, str]:
    """Return every thread variable with its value for a worker: the user's own where set, else ours."""
    own = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    return own | thread_limits(cpus, workers, threads=threads)


def check_timeout(seconds: float | None, name: str) -> float:
    """Return ``seconds`` as a float, 0 for ``None``; the error for what is no time calls it ``name``."""
    if seconds is None:
        return 0.0
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {seconds!r}")
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError(f"{name} must be a positive number of seconds or None, not {seconds!r}")
    return float(seconds)


def terms_of(task_timeout_s: float | None, max_retries: int) -> Terms:
    """Return checked terms."""
    if isinstance(max_retries, bool) or not isinstance(max_retries, int):
        raise TypeError(f"max_retries must be an integer, not {max_retries!r}")
    if max_retries < 0:
        raise ValueError(f"max_retries must be 0 or more, not {max_retries}")
    limit_s = check_timeout(task_timeout_s, "task_timeout")
    return Terms(max_retries, limit_s) if limit_s or max_retries else PLAIN


def _surroundings() -> bytes:
    """Return where workers should feel at home."""
    context = ProcessContext.capture()
    by_value_modules().look_from(context.cwd, context.sys_path)
    return context.encode()


class WorkerInfo:
    """A live view of one worker process, shaped like ``multiprocessing.Process`` where packages look at it."""

    __slots__ = ("_session", "name", "pid", "worker_id")

    def __init__(self, session: DriverSession, worker_id: int, pid: int, name: str) -> None:
        self._session = session
        self.worker_id = worker_id
        self.pid = pid
        self.name = name

    @property
    def exitcode(self) -> int | None:
        """``None`` while it lives; then its exit code, negative for a signal."""
        return self._session.station.exitcodes.get(self.worker_id)

    def is_alive(self) -> bool:
        """Whether the process runs."""
        session = self._session
        # Its first message may be faster than the news of its process.
        return self.worker_id in session.engine.fates or (not session.closed and session.hub.has_worker(self.worker_id))

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else f"stopped exitcode={self.exitcode}"
        return f"<{self.name} pid={self.pid} {state}>"


class Need:
    """What the tasks of a group need of the session's resources. This one: nothing that is counted."""

    def limits(self, cpus: int, workers: int, threads: int | None) -> dict[str, str]:
        """Return every thread variable with its value for a worker."""
        return limits_of(cpus, workers, threads)

    def specify(self, spec: WorkerSpec, own: Settings) -> WorkerSpec:
        """Return what else the workers are to be."""
        return spec

    def fields(self) -> tuple[Any, ...]:
        """Return the last fields of ``OpenGroup``."""
        return ()


_NEED: Final = Need()
_NOTHING: Final = Packed(b"", (), (), 0)


class WorkerGroup:
    """A view on the session's workers: at most ``max_workers`` of them run its tasks at once.

    Nothing starts before the first task. Idle workers are shared with all other groups; with an ``initializer`` or
    ``max_tasks_per_worker`` or ``max_worker_rss`` the group has workers of its own. Works the same inside a task.

    Parameters
    ----------
    max_workers
        Cap on concurrency; may exceed the number of CPUs.
    name
        Prefix of the workers' process names.
    initializer, initargs
        Called as ``initializer(*initargs)`` once in each worker, before its first task. What multiprocessing shares by
        inheritance (locks, queues, values, ends of pipes) may be among the arguments, if made in its ``spawn`` context.
    max_tasks_per_worker
        A worker is replaced after so many tasks; ``None``: never.
    max_worker_rss
        Bytes, or a text such as ``"2GB"``: a worker that has more memory to itself after a task is replaced. ``None``:
        the setting of that name.
    threads_per_worker
        Threads that numeric libraries may use in a worker; ``None``: ``max(1, cpus // max_workers)``.
    task_timeout_s
        How long each task may take, in seconds from its start on; its worker is stopped then, and the task fails with
        TaskTimeoutError. ``None``: as long as it likes.
    max_retries
        How many more times a task is tried whose worker died while it ran.
    initializer_timeout_s
        How long `initializer` may take in a worker; after that the group's tasks fail. ``None``: as long as it likes.
    capture_output
        What a task prints is not shown, but is its future's ``output``.
    errors
        Classes for the errors that this group reports.

    Raises
    ------
    ValueError, TypeError
        For a time that is not a positive number, or a number of retries that is negative or not whole.
    """

    _need = _NEED

    def __init__(  # noqa: PLR0913 - keywords that its users, the drop-in modules, have as keywords
        self,
        max_workers: int,
        *,
        name: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        max_tasks_per_worker: int | None = None,
        max_worker_rss: int | str | None = None,
        threads_per_worker: int | None = None,
        task_timeout_s: float | None = None,
        max_retries: int = 0,
        initializer_timeout_s: float | None = None,
        capture_output: bool = False,
        errors: ErrorTypes = _OWN_ERRORS,
        elastic: bool = False,
    ) -> None:
        terms = terms_of(task_timeout_s, max_retries)
        initializer_s = check_timeout(initializer_timeout_s, "initializer_timeout")
        session = current()
        max_rss = _limit_bytes(max_worker_rss, session.settings)
        self._session, self._client = session, session.client
        self._max_workers = max_workers
        self._name = name or "ScalepoolWorker"
        limits = self._need.limits(session.cpus, max_workers, threads_per_worker)
        inheritance = Inheritance(self._client.storage.handover, self._client.new_object_id)
        packed = _NOTHING if initializer is None else self._pack((initializer, tuple(initargs)), inheritance)
        settled = (packed.data, self._name, max_rss, current_levels(), capture_output)
        spec = self._need.specify(WorkerSpec(limits, _surroundings(), *settled), session.settings)
        private = bool(initializer is not None or max_tasks_per_worker or max_worker_rss is not None)
        # In the order of the message's fields: parent, kind, cap, private, max_tasks, spec, initializer_ms, max_rss.
        size = (self._parent(session), spec.kind, max_workers, int(private), max_tasks_per_worker or 0)
        opened = (*size, spec.encode(), int(initializer_s * 1000), max_rss, *self._need.fields())
        message = m.OpenGroup(0, *opened)._replace(references=packed.references, elastic=int(elastic))
        self._state = self._client.open_group(lambda group: message._replace(group=group), errors)  # type: ignore[arg-type]
        self._state.stored = packed.stored
        self._state.inheritance = inheritance
        self._state.terms = terms
        self._state.captures = capture_output
        if isinstance(session, DriverSession):
            session.engine.prepare(limits)

    def _parent(self, session: DriverSession | WorkerSession) -> int:
        """The group that it is a part of."""
        return session.parent_group

    def _pack(self, called: tuple[Callable[..., object], tuple[Any, ...]], inheritance: Inheritance) -> Packed:
        """Pickle the initializer now: the group's workers get it when they start, whenever that is."""
        with inheritance.spawning(called) as reducers:
            return self._client.packer.pack_initializer(called, ("initializer", "initargs"), reducers)

    @property
    def group_id(self) -> int:
        """What the hub calls it."""
        return self._state.id

    @property
    def max_workers(self) -> int:
        """The cap on concurrency."""
        return self._max_workers

    def export(self, fn: Callable[..., Any]) -> Function:
        """Pickle ``fn`` now, to be submitted any number of times.

        Raises
        ------
        SerializationError
            When it cannot be pickled.
        """
        return self._client.exporter.export(fn)

    def submit(
        self,
        fn: Callable[..., Any] | Function,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        on_done: Callable[[TaskFuture], None] | None = None,
        snapshot: Snapshot | None = None,
        terms: Terms | None = None,
        is_awaited: bool = False,
    ) -> TaskFuture:
        """Submit ``fn(*args, **kwargs)``.

        What cannot be pickled ends the returned future with a SerializationError. ``on_done`` is called with the
        future when it is over, in whichever thread pumps: it must be quick and never wait. With a ``snapshot`` the
        caller says that the arguments of all submits with that same object stay as they are meanwhile: large arrays
        that they share are then looked at once. ``terms``, made by the method of that name, go before the group's.
        With ``is_awaited`` the caller says that waiting for it is his next step: the wait sends it, which saves a turn.

        Raises
        ------
        RuntimeError
            After ``close`` or ``terminate``.
        """
        if self._state.closed:
            raise RuntimeError("this worker group is closed")
        if type(fn) is not Function:
            try:
                fn = self._client.exporter.export(fn)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - a function that cannot travel is this call's error
                future = TaskFuture(self._client, self._state, on_done, name_of(fn))
                future.settle(None, error)
                return future
        return self._client.submit(self._state, fn, args, kwargs or {}, on_done, snapshot, terms, is_awaited)

    def terms(self, task_timeout_s: float | None = None, max_retries: int | None = None) -> Terms:
        """Return the group's terms with these changed; ``None`` leaves one as it is. Make them once for many tasks.

        Raises
        ------
        ValueError, TypeError
            As the constructor.
        """
        own = self._state.terms
        if task_timeout_s is None and max_retries is None:
            return own
        limit_s = own.time_limit_s if task_timeout_s is None else check_timeout(task_timeout_s, "task_timeout")
        return terms_of(limit_s or None, own.max_retries if max_retries is None else max_retries)

    def start(self, *, wait: bool = True) -> None:
        """Start ``max_workers`` workers now; with ``wait`` return when they are ready, or cannot be."""
        session = self._session
        self._client.post(m.StartWorkers(self._state.id), now=True)
        if wait and isinstance(session, DriverSession):
            deadline = monotonic_s() + session.settings.start_timeout_s
            self._client.pump.wait_for(lambda: self._is_up(session), deadline)

    def _is_up(self, session: DriverSession) -> bool:
        found = session.hub.group_statistics(self._state.id)
        if found is None:  # not open yet, or closed meanwhile
            return self._state.gone or self._client.closed
        return found.failed or len(found.workers) >= self._max_workers

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that this group uses or may use, at most ``max_workers``; inside a task an empty list."""
        session = self._session
        if not isinstance(session, DriverSession):
            return []
        return [WorkerInfo(session, worker, pid, f"{self._name}-{worker}") for worker, pid in self._ready(session)]

    def _ready(self, session: DriverSession) -> tuple[tuple[int, int], ...]:
        found = session.hub.group_statistics(self._state.id)
        return found.workers if found is not None else ()

    def close(self) -> None:
        """Accept no more tasks; those submitted go on."""
        if not self._state.closed:
            self._client.close_group(self._state, m.CloseMode.DRAIN)

    def terminate(self, *, kill: bool = False) -> None:
        """End all tasks now: their futures fail with TaskCancelledError, workers that run one are killed.

        With ``kill`` by SIGKILL at once, else by SIGTERM first.
        """
        if not self._state.gone:
            self._client.close_group(self._state, m.CloseMode.KILL if kill else m.CloseMode.TERMINATE)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait, after ``close`` or ``terminate``, until no task and no worker of its own is left."""
        deadline = None if timeout_s is None else monotonic_s() + timeout_s
        state = self._state
        return self._client.wait_for(lambda: state.gone or self._client.closed, (), deadline)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until ``condition()``, and move tasks and results meanwhile; False when time was up first.

        The condition is looked at whenever something has arrived. Whoever makes it true otherwise than in a callback
        of a task calls ``notify`` afterwards. Not for use inside a task: its slot is not lent.
        """
        return self._client.wait_until(condition, timeout_s)

    def notify(self) -> None:
        """Have those who are in ``wait_until`` look at their conditions."""
        self._client.pump.kick(now=False)

    def statistics(self) -> GroupStatistics:
        """Return a snapshot of the group's counts; inside a task only ``unfinished`` is known."""
        session = self._session
        found = session.hub.group_statistics(self._state.id) if isinstance(session, DriverSession) else None
        if found is None:
            return GroupStatistics(self._max_workers, 0, 0, self._state.unfinished)
        return GroupStatistics(found.cap, found.queued, found.active, self._state.unfinished)

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not state.closed:
            # No kick: a finalizer may run at any moment, in any thread. It goes out with the next work.
            state.closed = True
            self._client.outgoing.queue.append(m.CloseGroup(state.id, m.CloseMode.DRAIN))

    def __repr__(self) -> str:
        return f"<WorkerGroup {self._name} max_workers={self._max_workers} unfinished={self._state.unfinished}>"
