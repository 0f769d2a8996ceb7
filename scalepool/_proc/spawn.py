"""The driver's handle on a zygote: tell it what to load, ask it for workers, end it.

Nothing here blocks but ``wait_ready`` and ``close``: a zygote that is busy importing, stopped or stuck must not freeze
the driver. Events come out of ``death.ProcessWatcher``, which reads the other end of the same socket.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from scalepool._base.tuples import NamedTuple
from scalepool._proc.channel import Channel, Frame
from scalepool._proc.groups import process_ended, signal_process
from scalepool._proc.launch import Launched, launch, reap
from scalepool.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Zygote", "ZygoteOptions", "ZygoteReport", "ZygoteSetup"]

# Between a zygote's EOF and its end; killing it earlier could hide its real exit code.
_REAP_GRACE_MS = 200
_KILL_WAIT_MS = 1000


class ZygoteOptions(NamedTuple):
    """What a zygote loads at once.

    Attributes
    ----------
    name
        Tells the zygotes of a session apart in events.
    entry
        ``"module:function"`` called in each worker as ``function(config: bytes, flight_fd: int)``; an integer result
        is the exit code.
    flight_factory
        ``"module:function"`` called in the zygote as ``function(name: str) -> int``, a new descriptor per worker.
    output_factory
        The same for two descriptors, where the worker's stdout and stderr may lead: ``child.outputs`` there.
    sys_path
        Import path of the zygote; None stands for the driver's at the start.
    """

    name: str = "default"
    entry: str = "scalepool._runtime.worker:main"
    flight_factory: str = "scalepool._store.flight:create"
    output_factory: str = "scalepool._store.written:create_outputs"
    sys_path: tuple[str, ...] | None = None


class ZygoteSetup(NamedTuple):
    """What a zygote needs to know before its first fork, and the driver finds out while the zygote loads.

    Attributes
    ----------
    session_dir
        Directory that is removed when the driver is gone; must be ours with mode 0700 by then.
    preload
        Modules to import before the first fork; one that fails is reported, not fatal.
    env_limits
        Variables on top of the driver's environment, e.g. thread limits of BLAS, which are read on import.
    """

    session_dir: str
    preload: tuple[str, ...] = ()
    env_limits: Mapping[str, str] = {}


class ZygoteReport(NamedTuple):
    """What a zygote found out before its first fork.

    Attributes
    ----------
    threads
        Threads in the zygote; more than one means that a preloaded library started some.
    preload_failures
        (module, error text) of each module that could not be imported.
    load_error
        Why the worker's entry cannot be loaded (each fork then fails with it), or empty.
    """

    threads: int
    preload_failures: tuple[tuple[str, str], ...]
    load_error: str


class Zygote:
    """A running zygote process. Thread-safe; useless in a process forked from the driver.

    It loads what ``options`` say at once, and can fork when ``set_up`` has told it the rest.

    Parameters
    ----------
    options
        See ``ZygoteOptions``.
    launched
        The process, if it has been started already.

    Raises
    ------
    SessionError
        When the interpreter to start is unknown or does not start.
    """

    def __init__(self, options: ZygoteOptions, launched: Launched | None = None) -> None:
        if launched is None:
            launched = launch()
        self.options = options
        self.name = options.name
        self.pid = launched.pid
        self.application = launched.application
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: set[int] = set()
        self._asked = False
        self._closing = False
        self._on_backlog: Callable[[], None] | None = None
        self._ready = threading.Event()
        self._report: ZygoteReport | None = None
        self._exitcode: int | None = None
        try:
            # Ours is its parent and has not reaped it: the number cannot have been reused.
            self._pidfd = os.pidfd_open(launched.pid)
        except OSError as error:
            launched.abandon()
            if error.errno in (errno.ENOSYS, errno.EPERM):
                raise SessionError(
                    f"workers cannot be watched here: pidfd_open: {error.strerror}; it needs Linux 5.3 or later, and a "
                    "sandbox that allows it"
                ) from None
            raise
        self.channel = Channel(socket.socket(fileno=launched.take_control()))
        self._introduce()

    @property
    def is_closing(self) -> bool:
        """True once ``close`` has been called: its end is then no event."""
        return self._closing

    @property
    def report(self) -> ZygoteReport | None:
        """What the zygote reported when it became ready, None before."""
        return self._report

    def __repr__(self) -> str:
        state = "closing" if self._closing else "ready" if self._report else "starting"
        return f"<Zygote {self.name} pid {self.pid} {state}>"

    # -- requests

    def announce(self, session_dir: str) -> None:
        """Tell which directory is about to be made, to be removed should we be gone soon. Never blocks."""
        self._send({"op": "announce", "session_dir": session_dir})

    def set_up(self, setup: ZygoteSetup) -> None:
        """Tell what it needs before its first fork: once, before the first request. Never blocks."""
        fields: dict[str, Any] = {
            "op": "setup",
            "session_dir": os.path.abspath(setup.session_dir),  # noqa: PTH100 - pathlib is a heavy import
            "preload": list(setup.preload),
            "env_limits": dict(setup.env_limits),
        }
        self._send(fields)

    def fork(self, worker_id: int, config: bytes) -> None:
        """Ask for a worker; the answer is a ``Started`` or ``ForkFailed`` event. Never blocks.

        Parameters
        ----------
        worker_id
            Chosen by the caller, unique among all zygotes of one watcher.
        config
            Handed to the worker's entry as it is; may be large.

        Raises
        ------
        SessionError
            When the zygote is closed or belongs to another process (we were forked).
        """
        with self._lock:
            if self._closing or os.getpid() != self._owner_pid:
                raise SessionError(f"{self!r} is closed or was inherited through a fork")
            self._asked = True
            self._pending.add(worker_id)
        self._send({"op": "fork", "worker_id": worker_id}, config)

    def kill(self, worker_id: int) -> None:
        """Ask the zygote to SIGKILL a worker's process group (the watcher's ``send_signal`` does not need it)."""
        self._send({"op": "kill", "worker_id": worker_id})

    def wait_ready(self, timeout_s: float | None = None) -> ZygoteReport | None:
        """Wait until the zygote can fork; needs a watcher that reads its reports. None on timeout or death."""
        self._ready.wait(timeout_s)
        return self._report

    def close(self, timeout_s: float = 3.0) -> None:
        """End the zygote, and with it every worker it still has (SIGKILL to their groups).

        The session directory stays: whoever calls this is alive and removes it. Workers' ``Exited`` events still come.

        Parameters
        ----------
        timeout_s
            After this the zygote itself is killed; its workers go with it.
        """
        if os.getpid() != self._owner_pid:
            return  # a forked copy: the zygote is the driver's
        with self._lock:
            self._closing = True
            asked = self._asked
            # A copy, because a watcher closes ours as soon as it sees the end.
            try:
                pidfd = os.dup(self._pidfd) if self._pidfd >= 0 else -1
            except OSError:  # too many open files: it ends by itself when it finds the socket closed
                self._send({"op": "stop"})
                self.channel.finish()
                return
        if pidfd < 0:
            return
        try:
            if asked:
                self._say_stop(pidfd, time.monotonic() + timeout_s)
            # Else it has no worker and never will: do not wait for what it may be importing.
            self._end(pidfd, 0)
        finally:
            os.close(pidfd)
        if self._on_backlog is None:
            self.release()

    # -- for the watcher

    def attach(self, on_backlog: Callable[[], None]) -> None:
        """From now on a watcher reads the socket, and calls ``release`` at its end.

        Parameters
        ----------
        on_backlog
            Called, from any thread, when a message waits for the socket to become writable.
        """
        self._on_backlog = on_backlog

    def note_ready(self, frame: Frame) -> None:
        """Keep the zygote's report."""
        fields = frame.fields
        self._report = ZygoteReport(fields["threads"], tuple(fields["failures"].items()), fields["load_error"])
        self._ready.set()

    def answered(self, worker_id: int) -> None:
        """A fork request has its answer."""
        with self._lock:
            self._pending.discard(worker_id)

    def take_pending(self) -> list[int]:
        """Return, and forget, the fork requests that will never be answered. Later ones are refused."""
        with self._lock:
            self._closing = True
            pending = sorted(self._pending)
            self._pending.clear()
        self._ready.set()
        return pending

    def collect(self) -> int | None:
        """Make sure that the process is gone, and reap it.

        Returns
        -------
        int or None
            Its exit code, negative for a signal, 0 also where somebody else reaped it; None while it resists.
        """
        return self._end(self._pidfd, _REAP_GRACE_MS)

    def release(self) -> None:
        """Close the descriptors."""
        self.channel.close()
        with self._lock:
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1

    # -- inside

    def _introduce(self) -> None:
        options = self.options
        load = {
            "op": "load",
            "entry": options.entry,
            "flight_factory": options.flight_factory,
            "output_factory": options.output_factory,
            "sys_path": list(driver_sys_path() if options.sys_path is None else options.sys_path),
        }
        # Our own pidfd, not our pid: the zygote then cannot miss our death, whatever runs between us and it.
        own = os.pidfd_open(self._owner_pid)
        self.channel.send(load, fds=(own,), close_after=(own,))

    def _send(self, fields: dict[str, Any], body: bytes = b"") -> None:
        if not self.channel.send(fields, body) and self._on_backlog is not None:
            self._on_backlog()

    def _say_stop(self, pidfd: int, deadline_s: float) -> None:
        self._send({"op": "stop"})
        sent = self.channel.finish()
        while not sent and self._on_backlog is None and (left_s := deadline_s - time.monotonic()) > 0:
            select.select([], [self.channel], [], left_s)
            sent = self.channel.finish()
        process_ended(pidfd, max(0, int((deadline_s - time.monotonic()) * 1000)))

    def _end(self, pidfd: int, grace_ms: int) -> int | None:
        if not process_ended(pidfd, grace_ms):
            signal_process(pidfd, signal.SIGKILL)
            process_ended(pidfd, _KILL_WAIT_MS)
        with self._lock:
            if self._exitcode is None:
                self._exitcode = reap(self.pid)
            return self._exitcode


def driver_sys_path() -> tuple[str, ...]:
    """Our ``sys.path`` as another process can use it: entries that are no strings are ignored by imports anyway."""
    entries: list[object] = list(sys.path)
    return tuple(entry for entry in entries if isinstance(entry, str))
