"""Who lives and who died: one thread that reads the zygotes' reports and watches the workers' pidfds.

Guarantees:

1. Every requested worker ends in exactly one ``ForkFailed``, or one ``Started`` followed by exactly one ``Exited``.
2. An exit code comes from the zygote, the only one who can know it. Where the zygote is dead, or does not report
   within ``REPORT_GRACE_S`` what the pidfd shows (stopped by a debugger), ``Exited`` comes without it.
3. When a zygote dies, ``ZygoteDied`` comes first, then its workers' groups are killed, then their ``Exited``.
4. A signal never hits a process that got a dead worker's number (see ``groups``).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from scalepool._base.tuples import NamedTuple
from scalepool._proc.channel import Frame, close_fds
from scalepool._proc.groups import signal_group, signal_process
from scalepool._proc.spawn import Zygote
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "Exited", "ForkFailed", "ProcessWatcher", "Started", "ZygoteDied"]

# A healthy zygote reports a death within a millisecond; this is for one that is stopped or stuck.
REPORT_GRACE_S = 1.0


class Started(NamedTuple):
    """A worker process runs. The receiver owns ``flight_fd``; ``pidfd`` stays the watcher's, open until ``Exited``."""

    worker_id: int
    pid: int
    pidfd: int
    flight_fd: int


class Exited(NamedTuple):
    """A worker process ended; ``exitcode`` is negative for a signal and None where nobody can know it."""

    worker_id: int
    pid: int
    exitcode: int | None


class ForkFailed(NamedTuple):
    """A requested worker could not be started; ``errno`` is 0 where no system call was to blame."""

    worker_id: int
    reason: str
    errno: int


class ZygoteDied(NamedTuple):
    """A zygote ended without having been closed; ``exitcode`` as in ``Exited``."""

    zygote: str
    exitcode: int | None


Event = Started | Exited | ForkFailed | ZygoteDied


class _Watched:
    """A worker between ``Started`` and ``Exited``."""

    __slots__ = ("ended_at_s", "is_polled", "pid", "pidfd", "worker_id", "zygote")

    def __init__(self, worker_id: int, pid: int, pidfd: int, zygote: Zygote) -> None:
        self.worker_id = worker_id
        self.pid = pid
        self.pidfd = pidfd
        self.zygote = zygote
        self.is_polled = True
        self.ended_at_s: float | None = None  # when the pidfd showed the end that the zygote has not reported yet


class ProcessWatcher:
    """Delivers the events of any number of zygotes.

    Parameters
    ----------
    on_event
        Called with each event in the watcher's thread, one at a time; must be quick. What it raises goes to
        ``threading.excepthook`` and does not end the watch.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self._zygotes: dict[int, Zygote] = {}
        self._workers: dict[int, _Watched] = {}
        self._by_pidfd: dict[int, _Watched] = {}
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._closing = False
        self.peaks_bytes: dict[int, int] = {}
        """Most memory that a worker had, for those that have ended; whoever takes in their end takes it out."""
        self.said: dict[int, tuple[list[list[int]], bytes]] = {}
        """The same for what they wrote to stdout and stderr; see ``ending.tails``."""
        self._serve: dict[str, Callable[[Zygote, Frame], None]] = {
            "here": _note_here,
            "ready": Zygote.note_ready,
            "started": self._started,
            "exited": self._exited,
            "fork_failed": self._fork_failed,
        }
        self._thread = threading.Thread(target=self._run, name="scalepool-watcher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<ProcessWatcher {len(self._zygotes)} zygotes, {len(self._workers)} workers>"

    def add(self, zygote: Zygote) -> None:
        """Watch a zygote from now on; its own end takes it off again."""
        zygote.attach(lambda: self._poll_for(zygote))
        with self._lock:
            self._zygotes[zygote.channel.fileno()] = zygote
            self._epoll.register(zygote.channel.fileno(), select.EPOLLIN)
        self._poll_for(zygote)
        if zygote.application is not None:
            os.eventfd_write(self._wake_fd, 1)  # the thread has to look when that is due

    def send_signal(self, worker_id: int, sig: int, *, group: bool = True) -> bool:
        """Signal a worker, also a stopped one.

        Parameters
        ----------
        worker_id
            As in its ``Started`` event. One that has not started yet is not known here: wait for the event.
        sig
            Signal number.
        group
            Signal the worker's whole process group: everything it started and that did not leave the group.

        Returns
        -------
        bool
            False when the worker is not running (any more).
        """
        with self._lock:  # keeps the pidfd open meanwhile
            watched = self._workers.get(worker_id)
            return watched is not None and _signal(watched, sig, group)

    def close(self) -> None:
        """Deliver what has arrived and stop watching; zygotes that still run are left alone."""
        with self._lock:  # the thread, awake for another reason, might close what we write to
            if not self._closing:
                self._closing = True
                os.eventfd_write(self._wake_fd, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # -- the thread

    def _run(self) -> None:
        while not self._closing:
            self._step(self._timeout_s())
        while self._step(0):
            pass
        with self._lock:
            close_fds(self._by_pidfd)
            self._by_pidfd.clear()
            self._workers.clear()
            self._epoll.close()
            os.close(self._wake_fd)

    def _step(self, timeout_s: float | None) -> int:
        served = 0
        ready = self._epoll.poll(timeout_s)
        if (self._wake_fd, select.EPOLLIN) in ready and not self._closing:
            os.eventfd_read(self._wake_fd)
        # Workers before zygotes: a zygote's reports bring new descriptors, under numbers that this list may hold.
        for fd in [fd for fd, _ in ready if fd in self._by_pidfd]:
            self._pidfd_ready(self._by_pidfd[fd])
            served += 1
        for zygote in [self._zygotes[fd] for fd, _ in ready if fd in self._zygotes]:
            self._zygote_ready(zygote)
            served += 1
        self._give_up_waiting(time.monotonic())
        return served

    def _timeout_s(self) -> float | None:
        due = [
            watched.ended_at_s + REPORT_GRACE_S for watched in self._by_pidfd.values() if watched.ended_at_s is not None
        ]
        due += [zygote.application.due_s for zygote in self._zygotes.values() if zygote.application is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _deliver(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001
            # A broken callback must not leave everybody else's workers unwatched.
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))

    # -- reports of a zygote

    def _zygote_ready(self, zygote: Zygote) -> None:
        try:
            for frame in zygote.channel.receive():
                self._serve[frame.op](zygote, frame)
        except (ProtocolError, LookupError) as error:
            # Not our zygote's doing; whoever writes there, the workers behind it cannot be managed any more.
            import logging  # late, as it is needed for this alone

            logging.getLogger("scalepool.proc").error("%r sent nonsense (%r) and is killed", zygote, error)
            self._zygote_ended(zygote)
            return
        if zygote.channel.eof:
            self._zygote_ended(zygote)
        else:
            zygote.channel.flush()
            self._poll_for(zygote)

    def _poll_for(self, zygote: Zygote) -> None:
        """Ask for writability while there is a backlog, which is looked up under the lock: the last caller is right."""
        with self._lock:
            fd = zygote.channel.fileno()
            if fd in self._zygotes:
                self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if zygote.channel.has_backlog else 0))

    def _started(self, zygote: Zygote, frame: Frame) -> None:
        worker_id, pid = frame.fields["worker_id"], frame.fields["pid"]
        zygote.answered(worker_id)
        if frame.fds_lost:
            zygote.kill(worker_id)
            reason = "the driver has too many open files to watch another worker"
            self._deliver(ForkFailed(worker_id, reason, errno.EMFILE))
            return
        pidfd, flight_fd = frame.fds
        if worker_id in self._workers:  # the caller's mistake; the one that runs must not be lost over it
            signal_process(pidfd, signal.SIGKILL)
            close_fds(frame.fds)
            self._deliver(ForkFailed(worker_id, "a worker of this number is running already", errno.EEXIST))
            return
        watched = _Watched(worker_id, pid, pidfd, zygote)
        with self._lock:
            self._workers[worker_id] = watched
            self._by_pidfd[pidfd] = watched
        self._epoll.register(pidfd, select.EPOLLIN)
        self._deliver(Started(worker_id, pid, pidfd, flight_fd))

    def _exited(self, _zygote: Zygote, frame: Frame) -> None:
        watched = self._workers.get(frame.fields["worker_id"])
        if watched is not None and watched.pid == frame.fields["pid"]:
            self.peaks_bytes[watched.worker_id] = frame.fields.get("peak_kib", 0) * 1024
            if frame.body:
                self.said[watched.worker_id] = frame.fields["said"], frame.body
            self._forget(watched, frame.fields["exitcode"])

    def _fork_failed(self, zygote: Zygote, frame: Frame) -> None:
        worker_id = frame.fields["worker_id"]
        zygote.answered(worker_id)
        self._deliver(ForkFailed(worker_id, frame.fields["reason"], frame.fields["errno"]))

    def _zygote_ended(self, zygote: Zygote) -> None:
        fd = zygote.channel.fileno()
        with self._lock:
            del self._zygotes[fd]
            self._epoll.unregister(fd)
        orphans = [watched for watched in self._workers.values() if watched.zygote is zygote]
        for watched in orphans:
            _signal(watched, signal.SIGKILL, group=True)
        was_closed = zygote.is_closing
        pending = zygote.take_pending()
        exitcode = zygote.collect()
        zygote.release()
        reason = f"zygote {zygote.name} ended before it could fork"
        if zygote.application is not None:
            # First: whoever is told of the end may start the next one at once, which must then know of the reason.
            reason = zygote.application.why_ended(exitcode) or reason
        if not was_closed:
            self._deliver(ZygoteDied(zygote.name, exitcode))
        for worker_id in pending:
            self._deliver(ForkFailed(worker_id, reason, 0))
        for watched in orphans:
            if watched.ended_at_s is not None:
                self._forget(watched, None)

    # -- ends that no zygote reports

    def _pidfd_ready(self, watched: _Watched) -> None:
        self._stop_polling(watched)
        if watched.zygote.channel.fileno() in self._zygotes:
            watched.ended_at_s = time.monotonic()  # the zygote will report, with the exit code
        else:
            self._forget(watched, None)

    def _give_up_waiting(self, now_s: float) -> None:
        for watched in list(self._by_pidfd.values()):
            if watched.ended_at_s is not None and now_s >= watched.ended_at_s + REPORT_GRACE_S:
                _signal(watched, signal.SIGKILL, group=True)
                self._forget(watched, None)
        for zygote in list(self._zygotes.values()):
            if zygote.application is not None and now_s >= zygote.application.due_s:
                self._zygote_ended(zygote)

    def _stop_polling(self, watched: _Watched) -> None:
        if watched.is_polled:
            watched.is_polled = False
            self._epoll.unregister(watched.pidfd)

    def _forget(self, watched: _Watched, exitcode: int | None) -> None:
        self._stop_polling(watched)
        with self._lock:
            del self._workers[watched.worker_id]
            del self._by_pidfd[watched.pidfd]
        self._deliver(Exited(watched.worker_id, watched.pid, exitcode))
        os.close(watched.pidfd)


def _note_here(zygote: Zygote, _frame: Frame) -> None:
    """Note that what was this application, started again, has become a zygote like any other."""
    zygote.application = None


def _signal(watched: _Watched, sig: int, group: bool) -> bool:
    # The zygote's session is its pid, and so are all groups that its workers lead in it.
    reached = group and signal_group(watched.pidfd, watched.pid, watched.zygote.pid, sig)
    # The process itself where it has left its group; for SIGKILL a second one does no harm.
    if not reached or sig == signal.SIGKILL:
        reached = signal_process(watched.pidfd, sig) or reached
    return reached
