"""Every error that scalepool raises on its own account.

One root, and the branches say whose fault it was::

    ScalepoolError
    ├── SessionError            the session is closed, was forked away, or could not start
    ├── SerializationError      you passed something that cannot travel (also a TypeError)
    ├── InitializerError        your initializer raised in a worker
    ├── TaskCancelledError      the task was dropped by terminate(), cancel() or an abort
    ├── WorkerDiedError         the process that ran the task died (kill, segfault, exit, OOM)
    ├── StoreError              shared memory could not be had (also a MemoryError)
    └── ProtocolError           a peer sent bytes that are not our protocol

    RemoteTraceback             not an error of ours: the ``__cause__`` that carries a worker's traceback text

The drop-in modules derive from these where their original has a class of its own, so ``except BrokenProcessPool``
and ``except WorkerDiedError`` both work.
"""

from __future__ import annotations

__all__ = [
    "InitializerError",
    "ProtocolError",
    "RemoteTraceback",
    "ScalepoolError",
    "SerializationError",
    "SessionError",
    "StoreError",
    "TaskCancelledError",
    "WorkerDiedError",
]


class ScalepoolError(Exception):
    """Root of all errors that scalepool raises on its own account."""


class SessionError(ScalepoolError, RuntimeError):
    """The session cannot be used: closed, inherited through a fork, or its start failed."""


class SerializationError(ScalepoolError, TypeError):
    """An object cannot be pickled.

    Parameters
    ----------
    message
        The whole sentence, with the remedy.
    path
        Where the culprit sits, e.g. ``args[2].model._lock``; empty when it is the object itself.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type[SerializationError], tuple[str, str]]:
        return type(self), (str(self), self.path)


class InitializerError(ScalepoolError, RuntimeError):
    """A worker's ``initializer`` raised; ``__cause__`` is its own exception."""


class TaskCancelledError(ScalepoolError):
    """The task was dropped before it could finish."""


class WorkerDiedError(ScalepoolError, RuntimeError):
    """The worker process that had started this task died before the result arrived.

    Attributes
    ----------
    task
        Name of the task's function.
    pid, host
        The process that died and the host it ran on.
    exitcode
        As ``multiprocessing.Process.exitcode``: negative is a signal number, ``None`` unknown.
    attempt
        Which attempt of the task this was, starting at 1.
    """

    def __init__(
        self, *, task: str = "", pid: int = 0, exitcode: int | None = None, attempt: int = 1, host: str = "localhost"
    ) -> None:
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.attempt = attempt
        self.host = host
        super().__init__(
            f"worker {pid} on {host} {_manner_of_death(exitcode)} while it ran {task or 'a task'} (attempt {attempt}); "
            "other tasks are not affected and the pool stays usable"
        )

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that ended the process, e.g. ``"SIGKILL"``; ``None`` when it was none."""
        return _signal_name(self.exitcode)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_worker_died, (type(self), self.task, self.pid, self.exitcode, self.attempt, self.host)


class StoreError(ScalepoolError, MemoryError):
    """Shared memory for a large object could not be allocated or mapped."""


class ProtocolError(ScalepoolError):
    """A peer sent bytes that do not follow the protocol, or a message that it must not send."""


class RemoteTraceback(Exception):
    """Carries the text of a worker's traceback as the ``__cause__`` of the user's exception."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None or exitcode >= 0:
        return None
    import signal  # late: with its enums it is a millisecond, and few programs see a worker die

    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def _manner_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "disappeared"
    name = _signal_name(exitcode)
    return f"was killed by {name}" if name else f"exited with code {exitcode}"


def _rebuild_worker_died(
    cls: type[WorkerDiedError], task: str, pid: int, exitcode: int | None, attempt: int, host: str
) -> WorkerDiedError:
    return cls(task=task, pid=pid, exitcode=exitcode, attempt=attempt, host=host)
