"""One session per process: the driver's, started on first use, or the worker's own.

A session never survives a fork: the child of a driver starts afresh when it uses scalepool, and what it inherited says
so instead of sending into a socket that swallows everything.

Starting one starts its zygote before anything else, and only then loads what a driver needs (see ``driver``): the two
processes come up side by side. So this file loads nearly nothing itself.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading

from scalepool._runtime.refusal import is_ending, stop_at_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from scalepool._core.hub import Hub
    from scalepool._runtime.client import Client
    from scalepool._runtime.executor import WorkItem
    from scalepool._runtime.local import LocalStation
    from scalepool._runtime.worker import WorkerStation
    from scalepool.config import Settings
    from scalepool.engines.local import LocalEngine


__all__ = [
    "DriverSession",
    "SessionHandle",
    "WorkerSession",
    "current",
    "existing",
    "is_in_cluster",
    "set_current",
    "shut_down",
    "start",
]


class DriverSession:
    """What a driver has: hub, socket, workers and client. Made by ``start``; see ``driver`` for how."""

    client: Client
    hub: Hub
    station: LocalStation
    engine: LocalEngine
    settings: Settings
    cpus: int
    closed: bool
    address = "local"
    """Of its cluster; or that it has none."""
    parent_group = 0
    root_group = 0
    kept_task = 0

    def close(self, *, at_exit: bool = False) -> None:
        """End all workers, fail what is unfinished, remove everything from the machine.

        With ``at_exit`` nobody is told: only daemon threads are left to wait, and these never run again.
        """
        raise NotImplementedError

    def forked(self) -> None:
        """Be told that the process is a child of the driver's: nothing here may be used."""
        raise NotImplementedError


class WorkerSession:
    """The session as seen from inside a worker."""

    gpus: Sequence[str] = ()
    """Names of the GPUs that this process was given."""

    def __init__(self, client: Client, station: WorkerStation, own: Settings) -> None:
        self.client = client
        self.settings = own
        self.station = station

    @property
    def cpus(self) -> int:
        """CPUs to plan with."""
        from scalepool.config import cpu_count

        return self.settings.num_cpus or cpu_count().count

    @property
    def parent_group(self) -> int:
        """Group of the task that runs now."""
        concurrency = self.station.concurrency
        if concurrency is not None:
            return concurrency.group
        return self.station.executor.group

    def item_slot(self) -> tuple[memoryview, int, bytes]:
        """See ``Executor.item_slot``."""
        return self.station.executor.item_slot()

    @property
    def root_group(self) -> int:
        """The group at the top of the tree of the task that runs now."""
        return self.station.surroundings.root_of(self.parent_group)

    @property
    def kept_task(self) -> int:
        """The innermost running task whose results are kept; 0: none."""
        concurrency = self.station.concurrency
        if concurrency is not None:
            item = concurrency.item
            return item.task if item is not None else 0
        return self.station.executor.kept_task

    @property
    def item(self) -> WorkItem | None:
        """The task that the calling code is part of, the innermost one."""
        concurrency = self.station.concurrency
        return self.station.executor.item if concurrency is None else concurrency.item

    @property
    def depth(self) -> int:
        """How many tasks are running inside each other."""
        concurrency = self.station.concurrency
        if concurrency is not None:
            return int(concurrency.item is not None)
        return self.station.executor.depth


class SessionHandle:
    """What ``init`` returns. As a context manager it ends the session, if that call of ``init`` has started it.

    Attributes
    ----------
    is_owner
        Whether it would end the session.
    """

    __slots__ = ("_session", "is_owner")

    def __init__(self, session: DriverSession | WorkerSession, *, is_owner: bool) -> None:
        self._session = session
        self.is_owner = is_owner

    @property
    def node_id(self) -> str:
        """A number that no other session's node has, as text."""
        from scalepool._runtime.info import node_id_of

        return node_id_of(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # In a child process, or after a shutdown and another start, there is another session, or none.
        if self.is_owner and _current is self._session:
            shut_down()

    def __repr__(self) -> str:
        return f"<scalepool session {'running' if _current is self._session else 'over'}>"


_lock = threading.RLock()
_current: DriverSession | WorkerSession | None = None


def set_current(session: DriverSession | WorkerSession | None) -> None:
    """Make ``session`` this process's."""
    global _current  # noqa: PLW0603 - a process has one session
    _current = session


def existing() -> DriverSession | WorkerSession | None:
    """Return this process's session if it has one."""
    return _current


def current() -> DriverSession | WorkerSession:
    """Return this process's session, started if need be."""
    session = _current
    return session if session is not None else start({})


def is_in_cluster(session: DriverSession | WorkerSession) -> bool:
    """Whether a session has its workers on the hosts of a cluster."""
    if isinstance(session, DriverSession):
        return session.address != "local"
    return session.settings.num_cpus is None  # which drivers tell workers of their own host


def start(arguments: Mapping[str, object], address: str | None = None) -> DriverSession | WorkerSession:
    """Start the session unless there is one.

    ``address`` is a cluster's; ``None``: what the environment says, ``"local"``: none.
    """
    if is_ending():
        stop_at_exit()
    try:
        with _lock:
            if _current is None:
                set_current(_open(arguments, address or os.environ.get("SCALEPOOL_ADDRESS", "").strip()))
            assert _current is not None
            return _current
    except RuntimeError:
        if is_ending():  # as the watcher's thread could not be started any more
            stop_at_exit()
        raise


def _open(arguments: Mapping[str, object], address: str) -> DriverSession:
    if address and address != "local":
        from scalepool._runtime.cluster_driver import ClusterSession

        return ClusterSession(address, arguments)
    from scalepool._proc.launch import launch

    launched = launch()  # its interpreter comes up while we load the rest
    collects = gc.isenabled()
    gc.disable()  # there is nothing to collect while modules are loaded, and looking for it is a tenth of the time
    try:
        from scalepool._proc.spawn import Zygote, ZygoteOptions

        zygote = Zygote(ZygoteOptions(), launched)
        try:
            from scalepool._runtime.driver import LocalSession

            return LocalSession(arguments, zygote)
        except BaseException:
            zygote.close()
            raise
    finally:
        launched.abandon()  # unless the zygote has taken it over
        if collects:
            gc.enable()


def shut_down(*, at_exit: bool = False) -> None:
    """End this process's session; the next use starts a new one. In a worker this does nothing."""
    with _lock:
        session = _current
        if isinstance(session, DriverSession):
            set_current(None)
            if at_exit and threading.current_thread() is threading.main_thread():
                _close_undisturbed(session)
            else:
                session.close()


def _close_undisturbed(session: DriverSession) -> None:
    # Whoever presses Ctrl-C twice wants the prompt, not the traceback of a clean-up that takes milliseconds.
    signals = sys.modules["_signal"]
    handler = signals.getsignal(signals.SIGINT)
    if handler is not None:
        signals.signal(signals.SIGINT, signals.SIG_IGN)
    try:
        session.close(at_exit=True)
    finally:
        if handler is not None:
            signals.signal(signals.SIGINT, handler)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - it may have been held by a thread that did not survive the fork
    _lock = threading.RLock()
    session = _current
    if isinstance(session, DriverSession):
        session.forked()
        set_current(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(shut_down, at_exit=True)
