"""The public layer: everything above it, the drop-in modules included, uses only this.

Today it is a session, groups of workers, and shared buffers. Remote functions, object references and actors follow on
the same hub.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scalepool import config as _config
from scalepool._runtime import session as _session
from scalepool._runtime.functions import Function
from scalepool._runtime.futures import TaskFuture
from scalepool._runtime.group import ErrorTypes, GroupStatistics, WorkerGroup, WorkerInfo
from scalepool._runtime.shared import SharedBuffer, put_buffer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ErrorTypes",
    "Function",
    "GroupStatistics",
    "SharedBuffer",
    "TaskContext",
    "TaskFuture",
    "WorkerGroup",
    "WorkerInfo",
    "cancel",
    "cpu_count",
    "current_task",
    "in_worker",
    "init",
    "is_initialized",
    "put_buffer",
    "shutdown",
    "wait",
]


@dataclass(frozen=True, slots=True)
class TaskContext:
    """Where the calling code runs: ``depth`` tasks deep, in process ``pid``."""

    pid: int
    depth: int


def init(*, num_cpus: int | None = None) -> None:
    """Start this process's session; without it the first use does so. A second call changes nothing.

    Parameters
    ----------
    num_cpus
        CPUs to plan with; default :func:`cpu_count`.
    """
    _session.start({"num_cpus": num_cpus})


def shutdown() -> None:
    """End this process's session: workers, sockets and shared memory are gone when it returns."""
    _session.shut_down()


def is_initialized() -> bool:
    """Whether this process has a session."""
    return _session.existing() is not None


def cpu_count() -> int:
    """Return the CPUs that this process may use: affinity, container quota and batch system considered; never 0."""
    return _config.cpu_count().count


def in_worker() -> bool:
    """Whether the calling process is a worker of scalepool."""
    return isinstance(_session.existing(), _session.WorkerSession)


def current_task() -> TaskContext | None:
    """Return where the calling task runs; ``None`` outside of a task."""
    session = _session.existing()
    if isinstance(session, _session.WorkerSession) and session.depth:
        return TaskContext(os.getpid(), session.depth)
    return None


def cancel(futures: Sequence[TaskFuture]) -> int:
    """Cancel those of ``futures`` that have not started, all at once; return how many are cancelled."""
    if futures:
        _session.current().client.cancel(futures)
    return sum(future.cancelled() for future in futures)


def wait(
    futures: Sequence[TaskFuture], timeout_s: float | None = None, num_done: int | None = None
) -> tuple[list[TaskFuture], list[TaskFuture]]:
    """Wait until all of ``futures``, or ``num_done`` of them, are over; return (done, not done).

    Unlike ``concurrent.futures.wait`` the waiting thread does the socket work itself, and inside a task it lends its
    slot meanwhile.
    """
    if futures:
        client = _session.current().client
        number = None if num_done is None or num_done >= len(futures) else num_done
        client.wait(futures, timeout_s, number)
    done = [future for future in futures if future.is_over]
    return done, [future for future in futures if not future.is_over]
