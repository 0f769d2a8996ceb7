"""The public layer: everything above it, the drop-in modules included, uses only this.

It is a session, groups of workers, and shared buffers. Remote functions, references and actors, in ``tasks`` and
``actors``, stand beside it on the same hub.

Importing it loads next to nothing: what stands behind a name comes with its first use.
"""

from __future__ import annotations

import os

from scalepool._base.tuples import NamedTuple
from scalepool._runtime import session as _session
from scalepool._runtime.session import SessionHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from scalepool._runtime.functions import Function
    from scalepool._runtime.futures import TaskFuture
    from scalepool._runtime.group import ErrorTypes, GroupStatistics, Terms, WorkerGroup, WorkerInfo
    from scalepool._runtime.info import (
        Node,
        available_resources,
        cluster_resources,
        get_gpu_ids,
        nodes,
    )
    from scalepool._runtime.interrupts import Deferral
    from scalepool._runtime.randomness import Seed, SeededCall, task_rng
    from scalepool._runtime.shared import SharedBuffer, put_buffer
    from scalepool._runtime.stored import Snapshot

__all__ = [
    "Deferral",
    "ErrorTypes",
    "Function",
    "GroupStatistics",
    "Node",
    "Seed",
    "SeededCall",
    "SessionHandle",
    "SharedBuffer",
    "Snapshot",
    "TaskContext",
    "TaskFuture",
    "Terms",
    "WorkerGroup",
    "WorkerInfo",
    "available_resources",
    "cancel",
    "cluster_resources",
    "cpu_count",
    "current_task",
    "freeze_support",
    "get_gpu_ids",
    "in_worker",
    "init",
    "is_initialized",
    "item_slot",
    "nodes",
    "put_buffer",
    "shutdown",
    "task_rng",
    "wait",
]

_HOMES = {
    "Deferral": "interrupts",
    "ErrorTypes": "group",
    "Function": "functions",
    "GroupStatistics": "group",
    "Node": "info",
    "Seed": "randomness",
    "SeededCall": "randomness",
    "SharedBuffer": "shared",
    "Snapshot": "stored",
    "TaskFuture": "futures",
    "Terms": "group",
    "WorkerGroup": "group",
    "WorkerInfo": "group",
    "available_resources": "info",
    "cluster_resources": "info",
    "get_gpu_ids": "info",
    "nodes": "info",
    "put_buffer": "shared",
    "task_rng": "randomness",
}
"""Where each name comes from that is not defined here: a module of ``_runtime``."""


class TaskContext(NamedTuple):
    """Where the calling code runs: ``depth`` tasks deep, in process ``pid``."""

    pid: int
    depth: int


def init(  # noqa: PLR0913 - keywords, as ray.init has them
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: Mapping[str, float] | None = None,
    memory: int | str | None = None,
    object_store_memory: int | str | None = None,
    spill_limit: int | str | None = None,
    spill_directory: str | os.PathLike[str] | None = None,
    labels: Mapping[str, str] | None = None,
    namespace: str | None = None,
    log_to_driver: bool | None = None,
    timeline: bool | int | None = None,
    reconnect_s: float | None = None,
    ignore_reinit_error: bool = False,
) -> SessionHandle:
    """Start this process's session; without it the first use does so.

    Mirrors ``ray.init``. A call while a session runs returns that one, if it has what is asked for; inside a task, what
    is asked for is not looked at. ``with scalepool.init(...):`` ends the session, if that call has started it.

    What can be done at the same time, such as loading the rest of this package, is done while workers' processes come
    up: a call of this before `WorkerGroup` is first looked at saves a third of the time to the first result.

    Parameters
    ----------
    address
        ``"tcp://host:port"`` of a cluster's head: workers are on the hosts of that cluster. ``"local"``: on this host.
        ``None``: what ``SCALEPOOL_ADDRESS`` says, else on this host.
    num_cpus
        CPUs to plan with; default :func:`cpu_count`.
    num_gpus
        GPUs that remote functions and actors may ask for; default those that this process may see.
    resources
        What else they may ask for, by names of your own.
    memory
        Memory that they may ask for together: bytes, or a text such as ``"16GB"``. Default: 70 % of the memory.
    object_store_memory
        Shared memory that all large arguments and results may take together: bytes, or a text such as ``"4GB"``.
        Default: half of the memory. What does not fit is spilled to files.
    spill_limit
        Disk that spilled objects may take, in the same form; 0: nothing is spilled. Default: half of what is free.
    spill_directory
        Folder for spilled objects, which have no names there. Default: that for temporary files.
    labels
        What `nodes` says of this host.
    namespace
        Where actors with a name are looked for, and put, when no other is named.
    log_to_driver
        False: what tasks print and log is not shown.
    timeline
        Whether when tasks run is noted for ``scalepool.timeline``: ``True``, or the number of tasks to remember, the
        last ones. Default: not, and then it costs nothing.
    reconnect_s
        On a cluster: seconds to try to reach its head again when the link to it is cut; work goes on meanwhile. Default
        30, or ``SCALEPOOL_RECONNECT_S``.
    ignore_reinit_error
        Return the session that runs, whatever is asked for.

    Raises
    ------
    SessionError
        When a session runs that was started with something else, or the cluster cannot be reached.
    ValueError, TypeError
        For what is no number or size, or out of range.
    AuthenticationError, KeyFileError
        When the cluster does not let us in, or there is no key file; both are SessionErrors.
    """
    _check_address(address)
    given = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "resources": resources,
        "memory": memory,
        "store_limit_bytes": _size("object_store_memory", object_store_memory),
        "spill_limit_bytes": 0 if spill_limit == 0 else _size("spill_limit", spill_limit),
        "spill_dir": None if spill_directory is None else os.fspath(spill_directory),
        "labels": labels,
        "namespace": namespace,
        "worker_output": "off" if log_to_driver is False else None,
        "timeline": timeline,
        "reconnect_s": reconnect_s,
    }
    before = _session.existing()
    session = _session.start(given, address)
    asks = (address or any(value is not None for value in given.values())) and not ignore_reinit_error
    if asks and isinstance(session, _session.DriverSession):  # another thread may have been first
        from scalepool._runtime.info import check_same

        check_same(session, given, address)
    return SessionHandle(session, is_owner=session is not before)


def _check_address(address: str | None) -> None:
    if address is not None and address != "local":
        from scalepool._runtime.info import check_address

        check_address(address)


def _size(name: str, size: int | str | None) -> int | None:
    if size is None:
        return None
    from scalepool._base.sizes import size_bytes

    return size_bytes(size, name)


def shutdown() -> None:
    """End this process's session: workers, sockets and shared memory are gone when it returns."""
    _session.shut_down()


def is_initialized() -> bool:
    """Whether this process has a session."""
    return _session.existing() is not None


def freeze_support() -> None:
    """Let a frozen application make workers: call it first in the main program; anywhere else it does nothing.

    An application that PyInstaller, cx_Freeze and the like have made into one executable is started again to become the
    process from which workers are forked. It becomes one in this call, which then does not return. It stands for
    ``multiprocessing.freeze_support``, too. An application that does not call it gets a `SessionError` that says so.
    """
    from scalepool._proc import frozen

    frozen.freeze_support()


def cpu_count() -> int:
    """Return the CPUs that this process may use: affinity, container quota and batch system considered; never 0.

    With a session on a cluster: how many workers its hosts have room for now.
    """
    from scalepool import config

    session = _session.existing()
    if session is None and os.environ.get("SCALEPOOL_ADDRESS", "").strip() not in ("", "local"):
        session = _session.current()
    if isinstance(session, _session.DriverSession) and session.address != "local":
        return session.cpus

    return config.cpu_count().count


def in_worker() -> bool:
    """Whether the calling process is a worker of scalepool."""
    return isinstance(_session.existing(), _session.WorkerSession)


def current_task() -> TaskContext | None:
    """Return where the calling task runs; ``None`` outside of a task."""
    session = _session.existing()
    if isinstance(session, _session.WorkerSession) and session.depth:
        return TaskContext(os.getpid(), session.depth)
    return None


def item_slot() -> tuple[Any, int, bytes]:
    """Where a task with many items says which of them it works on: for code that runs such a task in a worker.

    Returns
    -------
    A writable view and an index, to write the item's number to before each item (counted from 1; 0 when it is through),
    and the items to leave out, packed by ``scalepool._wire.verdict.pack_losses``. If the worker dies, the task goes on
    elsewhere without that item. Outside of a task what is written goes nowhere.
    """
    session = _session.existing()
    if isinstance(session, _session.WorkerSession):
        return session.item_slot()
    return [0], 0, b""


def cancel(futures: Sequence[TaskFuture], *, force: bool = False) -> int:
    """Cancel those of ``futures`` that have not started, all at once; return how many are cancelled.

    With ``force`` those that run are stopped, too: their workers get SIGTERM, and SIGKILL half a second later. No other
    task is lost by that. It returns when they are stopped.
    """
    session = _session.existing()
    if futures and session is not None:  # else all are over, and nothing needs to be started for that
        session.client.cancel(futures, force=force)
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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"scalepool._runtime.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
