"""One session per process: the driver's, started on first use, or the worker's own.

A session never survives a fork: the child of a driver starts afresh when it uses scalepool, and what it inherited says
so instead of sending into a socket that swallows everything.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from typing import TYPE_CHECKING, Protocol

from scalepool._core.hub import Hub
from scalepool._net.channel import HubChannel
from scalepool._runtime.client import Client
from scalepool._runtime.local import LocalStation
from scalepool._runtime.pump import Pump
from scalepool._runtime.session_dir import SessionDir
from scalepool._wire import messages as m
from scalepool._wire.codec import MAX_MESSAGE_BYTES
from scalepool._wire.pickling.exchange import Exchange, install, sender_number
from scalepool.config import Settings, cpu_count, settings
from scalepool.engines.local import LocalEngine
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DriverSession", "Session", "WorkerSession", "current", "existing", "set_current", "shut_down", "start"]


class Session(Protocol):
    """What a group needs of its session."""

    client: Client
    settings: Settings

    @property
    def cpus(self) -> int:
        """CPUs to plan with."""

    @property
    def parent_group(self) -> int:
        """Group of the task that runs here; 0 for none."""


class DriverSession:
    """Hub, socket, workers and client of a driver.

    Parameters
    ----------
    own
        The session's settings.

    Raises
    ------
    SessionError
        When its directory or socket cannot be made.
    """

    parent_group = 0

    def __init__(self, own: Settings) -> None:
        self.settings = own
        self.cpus = own.num_cpus or cpu_count().count
        self._dir = SessionDir()
        token = secrets.token_bytes(16)
        path = str(self._dir.path / "hub")
        self._channel: HubChannel | None = None
        try:
            self._channel = HubChannel(path, max_message_bytes=MAX_MESSAGE_BYTES)
            self._assemble(self._channel, token, path)
        except BaseException:
            # An open socket would make the collector wait for ever when it finds the context.
            if self._channel is not None:
                self._channel.close()
            self._dir.remove()
            raise
        self.closed = False

    def _assemble(self, channel: HubChannel, token: bytes, path: str) -> None:
        own = self.settings
        install(Exchange(sender_number(token, m.DRIVER)))
        self.client = Client(m.DRIVER, own)
        self.hub = Hub(idle_worker_s=own.idle_worker_s)
        self.station = LocalStation(self.hub, channel, self.client, token)
        self.client.pump = Pump(self.station, "scalepool-helper")
        self.client.blocking_wait = lambda done, futures, deadline: self.client.pump.wait_for(done, deadline)
        self.engine = LocalEngine(str(self._dir.path), path, token.hex(), own, self.station.process_event)
        self.station.engine = self.engine
        self.client.peek = self.engine.is_running

    def close(self, *, at_exit: bool = False) -> None:
        """End all workers, fail what is unfinished, remove everything from the machine.

        With ``at_exit`` nobody is told: only daemon threads are left to wait, and these never run again.
        """
        if self.closed:
            return
        self.closed = True
        self.client.closed = True
        self.client.at_exit = at_exit
        self.client.pump.close()
        self.client.close(SessionError("the scalepool session was shut down"))
        self.engine.close()
        self.station.close()
        self._dir.remove()

    def forked(self) -> None:
        """Be told that the process is a child of the driver's: nothing here may be used."""
        self.closed = True
        self.client.forked()


class WorkerSession:
    """The session as seen from inside a worker."""

    def __init__(self, client: Client, station: _Executing, own: Settings) -> None:
        self.client = client
        self.settings = own
        self.cpus = own.num_cpus or cpu_count().count
        self._station = station

    @property
    def parent_group(self) -> int:
        """Group of the task that runs now."""
        return self._station.executor.group

    @property
    def depth(self) -> int:
        """How many tasks are running inside each other."""
        return self._station.executor.depth


class _Group(Protocol):
    group: int
    depth: int


class _Executing(Protocol):
    @property
    def executor(self) -> _Group: ...


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


def start(arguments: Mapping[str, object]) -> DriverSession | WorkerSession:
    """Start the session unless there is one."""
    with _lock:
        if _current is None:
            set_current(DriverSession(settings(arguments)))
        assert _current is not None
        return _current


def shut_down(*, at_exit: bool = False) -> None:
    """End this process's session; the next use starts a new one. In a worker this does nothing."""
    with _lock:
        session = _current
        if isinstance(session, DriverSession):
            set_current(None)
            session.close(at_exit=at_exit)


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
