"""Every error that scalepool raises on its own account.

One root, and the branches say whose fault it was::

    ScalepoolError
    ├── SessionError            the session is closed, was forked away, or could not start
    │   ├── AuthenticationError  the cluster does not let us in, or is another one
    │   └── KeyFileError        a key file is missing, open to other users, or none
    ├── ResourceError           you asked for more than the session will ever have (also a ValueError)
    ├── SerializationError      you passed something that cannot travel (also a TypeError)
    ├── DeadlockError           this wait could never end (also a RuntimeError)
    ├── InitializerError        your initializer raised in a worker
    ├── TaskCancelledError      the task was dropped by terminate(), cancel() or an abort
    ├── TaskTimeoutError        the task ran longer than its task_timeout= allows (also a TimeoutError)
    ├── WorkerDiedError         the process that ran the task died (kill, segfault, exit, OOM)
    │   └── ActorError            the actor that was called is not there (any more)
    │       ├── ActorDiedError          and will not come again
    │       └── ActorUnavailableError   and is beginning anew
    ├── ObjectLostError         nobody keeps the value of this reference any more
    ├── StoreError              shared memory could not be had (also a MemoryError)
    │   └── ObjectStoreFullError  its budgets of memory and of disk are both spent
    └── ProtocolError           a peer sent bytes that are not our protocol

    RemoteTraceback             not an error of ours: the ``__cause__`` that carries a worker's traceback text

The drop-in modules derive from these where their original has a class of its own, so ``except BrokenProcessPool``
and ``except WorkerDiedError`` both work.
"""

from __future__ import annotations

from scalepool._base.post_mortem import NOTHING, PostMortem, Unfinished, manner_of_death, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ActorDiedError",
    "ActorError",
    "ActorUnavailableError",
    "AuthenticationError",
    "DeadlockError",
    "InitializerError",
    "KeyFileError",
    "ObjectLostError",
    "ObjectStoreFullError",
    "PostMortem",
    "ProtocolError",
    "RemoteTraceback",
    "ResourceError",
    "ScalepoolError",
    "SerializationError",
    "SessionError",
    "StoreError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "WorkerDiedError",
]


class ScalepoolError(Exception):
    """Root of all errors that scalepool raises on its own account."""


class SessionError(ScalepoolError, RuntimeError):
    """The session cannot be used: closed, inherited through a fork, or its start failed."""


class KeyFileError(SessionError):
    """A cluster's key file is missing, can be read by other users, or is none."""


class AuthenticationError(SessionError):
    """A cluster does not let us in: it has other keys than the key file says."""


class ResourceError(ScalepoolError, ValueError):
    """A task or actor needs more of a resource than the session has in all, so that it could never run."""


class SerializationError(ScalepoolError, TypeError):
    """An object cannot be pickled.

    Parameters
    ----------
    message
        The whole sentence, with the remedy.
    path
        Where the culprit sits, e.g. ``args[2].model._lock``; empty when it is the object itself.
    kind
        The culprit's class, e.g. ``_thread.lock``.
    """

    def __init__(self, message: str, path: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.kind = kind

    def __reduce__(self) -> tuple[type[SerializationError], tuple[str, str, str]]:
        return type(self), (str(self), self.path, self.kind)

    def rename_path(self, was: str, now: str) -> None:
        """Let a path that begins with ``was`` begin with ``now``, in the message too: what the user calls it."""
        if not self.path.startswith(was):
            return
        path = now + self.path[len(was) :]
        self.args = (str(self).replace(f"{self.path}: {self.kind}", f"{path}: {self.kind}", 1),)
        self.path = path


class DeadlockError(ScalepoolError, RuntimeError):
    """An actor, or a task, waited for what could not begin before that very wait was over."""


class InitializerError(ScalepoolError, RuntimeError):
    """A worker's ``initializer`` raised; ``__cause__`` is its own exception."""


class TaskCancelledError(ScalepoolError):
    """The task was dropped before it could finish."""


class WorkerDiedError(Unfinished, ScalepoolError, RuntimeError):
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
    post_mortem
        Whatever else could be found out; see `PostMortem`. Its fields are also properties of the error.
    """

    def __init__(
        self,
        *,
        task: str = "",
        pid: int = 0,
        exitcode: int | None = None,
        attempt: int = 1,
        host: str = "localhost",
        post_mortem: PostMortem = NOTHING,
    ) -> None:
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.attempt = attempt
        self.host = host
        self.post_mortem = post_mortem
        super().__init__(task, pid, exitcode, attempt, host)

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that ended the process, e.g. ``"SIGKILL"``; ``None`` when it was none."""
        return signal_name(self.exitcode)

    @property
    def oom(self) -> str:
        """Why we think that the machine ran out of memory; empty when nothing says so."""
        return self.post_mortem.oom

    def __str__(self) -> str:
        if not self.pid:
            call = self.post_mortem.call(self.task)
            return f"no worker process could be started on {self.host} to run {call}{self.post_mortem.lines()}"
        return (
            f"worker {self.pid} on {self.host} {manner_of_death(self.exitcode)} while it ran "
            f"{self.post_mortem.call(self.task)} (attempt {self.attempt}); other tasks are not affected and the pool "
            f"stays usable{self.post_mortem.lines()}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        facts = (self.task, self.pid, self.exitcode, self.attempt, self.host, self.post_mortem)
        return _rebuild_worker_died, (type(self), *facts)


class ActorError(WorkerDiedError):
    """The actor whose method was called cannot run it.

    Attributes
    ----------
    actor_class
        Name of its class.
    actor_name
        Its own name with its namespace, empty for none.
    restarts
        How often it had begun anew.
    actor_number
        Which actor of its session it is; 0: unknown.

    The others as in `WorkerDiedError`: ``exitcode`` is ``None`` unless its process died by itself.
    """

    actor_class = ""
    actor_name = ""
    restarts = 0
    actor_number = 0
    _outcome = ""

    @property
    def reason(self) -> str:
        """Why it is not there, as a sentence."""
        return self.post_mortem.reason

    def __str__(self) -> str:
        name = f" {self.actor_name!r}" if self.actor_name else ""
        known = self.post_mortem._replace(reason="")
        why = self.reason or f"its process {manner_of_death(self.exitcode)}"
        if self.exitcode is not None and self.reason:
            why = f"{why} (it {manner_of_death(self.exitcode)})"
        where = f" (worker {self.pid} on {self.host}" + (
            f", restarted {self.restarts} times)" if self.restarts else ")"
        )
        call = f"{self.post_mortem.call(self.task)} cannot run: " if self.task else ""
        return f"{call}the actor {self.actor_class}{name}{where} {self._outcome}: {why}{known.lines()}"

    def __reduce__(self) -> tuple[object, ...]:
        rebuild, facts = super().__reduce__()
        return rebuild, facts, {key: getattr(self, key) for key in _OF_ACTORS}


_OF_ACTORS = ("actor_class", "actor_name", "restarts", "actor_number")


class ActorDiedError(ActorError):
    """The actor is no more; its ``__cause__`` is what its constructor raised, if it did."""

    _outcome = "is dead"


class ActorUnavailableError(ActorError):
    """The actor's process died during the call, and the actor begins anew; the call is not tried again."""

    _outcome = "begins anew"


class TaskTimeoutError(Unfinished, ScalepoolError, TimeoutError):
    """The task ran longer than its ``task_timeout`` allows, and was stopped together with its worker.

    Attributes
    ----------
    task
        Name of the task's function.
    timeout_s
        How long it was allowed to run, in seconds from its start.
    pid, host
        The process that was killed, and its host. A new one has taken its place.
    attempt
        Which attempt of the task this was, starting at 1.
    post_mortem
        Whatever else could be found out; see `PostMortem`. Its fields are also properties of the error.
    """

    def __init__(
        self,
        *,
        task: str = "",
        timeout_s: float = 0.0,
        pid: int = 0,
        attempt: int = 1,
        host: str = "localhost",
        post_mortem: PostMortem = NOTHING,
    ) -> None:
        super().__init__(f"{task} did not end within {timeout_s:g} s")
        self.task = task
        self.timeout_s = timeout_s
        self.pid = pid
        self.attempt = attempt
        self.host = host
        self.post_mortem = post_mortem

    def __str__(self) -> str:
        return (
            f"{self.post_mortem.call(self.task)} was stopped because it ran longer than {self.timeout_s:g} s "
            f"(worker {self.pid} on {self.host}); other tasks are not affected{self.post_mortem.lines()}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        facts = (self.task, self.timeout_s, self.pid, self.attempt, self.host, self.post_mortem)
        return _rebuild_timeout, (type(self), *facts)


class ObjectLostError(ScalepoolError, LookupError):
    """The value of a reference is gone.

    Either nobody in the session was known to need it any more, or what it lay in was lost, with a host or on a damaged
    disk, and its task cannot run again: the text says why, and what to do.

    Attributes
    ----------
    task
        Name of the task that had made it, or of the ``put``; empty where it was only forgotten.
    host
        Where it was.
    """

    task: str = ""
    host: str = ""


class StoreError(ScalepoolError, MemoryError):
    """Shared memory for a large object could not be allocated or mapped."""


class ObjectStoreFullError(StoreError):
    """A large object has no room: the store's budget of memory is spent, and so is its budget of disk.

    Attributes
    ----------
    size_bytes
        What was asked for.
    memory_bytes, memory_limit_bytes
        Shared memory in use by all processes of the session, and its budget.
    disk_bytes, disk_limit_bytes
        The same for files that objects were spilled to.
    folder
        Where those files are.
    reason
        What the system said when it was the disk itself that had no room; empty when a budget was spent.
    """

    def __init__(
        self,
        *,
        size_bytes: int,
        memory: tuple[int, int] = (0, 0),
        disk: tuple[int, int] = (0, 0),
        folder: str = "",
        reason: str = "",
    ) -> None:
        self.size_bytes = size_bytes
        self.memory_bytes, self.memory_limit_bytes = memory
        self.disk_bytes, self.disk_limit_bytes = disk
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"no shared memory for an object of {size_bytes} bytes{f': {reason}' if reason else ''}; in use are "
            f"{_mib(memory[0])} of {_mib(memory[1])} memory and {_mib(disk[0])} of "
            f"{_mib(disk[1])} disk in {folder or 'no folder'}: keep fewer large arguments and results at a "
            "time (imap with a buffersize, del what was consumed), raise SCALEPOOL_STORE_LIMIT_BYTES or "
            "SCALEPOOL_SPILL_LIMIT_BYTES, or let SCALEPOOL_SPILL_DIR name a folder with more room"
        )

    def __reduce__(self) -> tuple[object, ...]:
        memory = self.memory_bytes, self.memory_limit_bytes
        disk = self.disk_bytes, self.disk_limit_bytes
        return _rebuild_full, (type(self), self.size_bytes, memory, disk, self.folder, self.reason)


class ProtocolError(ScalepoolError):
    """A peer sent bytes that do not follow the protocol, or a message that it must not send."""


class RemoteTraceback(Exception):
    """Carries the text of a worker's traceback as the ``__cause__`` of the user's exception."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


def _rebuild_worker_died(
    cls: type[WorkerDiedError], task: str, pid: int, exitcode: int | None, attempt: int, host: str, known: PostMortem
) -> WorkerDiedError:
    return cls(task=task, pid=pid, exitcode=exitcode, attempt=attempt, host=host, post_mortem=known)


def _rebuild_timeout(
    cls: type[TaskTimeoutError], task: str, timeout_s: float, pid: int, attempt: int, host: str, known: PostMortem
) -> TaskTimeoutError:
    return cls(task=task, timeout_s=timeout_s, pid=pid, attempt=attempt, host=host, post_mortem=known)


def _rebuild_full(
    cls: type[ObjectStoreFullError],
    size_bytes: int,
    memory: tuple[int, int],
    disk: tuple[int, int],
    folder: str,
    reason: str,
) -> ObjectStoreFullError:
    return cls(size_bytes=size_bytes, memory=memory, disk=disk, folder=folder, reason=reason)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
