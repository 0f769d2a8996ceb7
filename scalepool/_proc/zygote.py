"""The zygote: a single-threaded process that forks ready workers and lets none of them outlive the driver.

Started by exec (``launch``), with a socket to the driver as its only argument. The driver's first message, ``load``,
says what code the workers run; ``announce`` where the session's directory will be; ``setup`` what else is to be done
before the first fork. Then it serves fork requests until the driver says stop or is gone.

What it guarantees:

1. A worker's process group is killed when the worker dies, and all of them when the driver dies or the socket ends.
2. The session directory is removed when the driver is gone without having said stop, from before it is made on.
3. Every fork request is answered by ``started`` or ``fork_failed``, every started worker by one ``exited``.
4. A pid is used only while it cannot have been reused: before its process is reaped, by its parent, which is us.

What it is not: it does not look into configurations and never unpickles anything. SIGKILL of the zygote takes its
workers along (parent death signal), their groups are then the driver's to clean up (``death.ProcessWatcher``).

Every import at the top delays the first worker; see the note in ``channel``.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import warnings

from scalepool._proc import child
from scalepool._proc.channel import Channel, Frame, close_fds
from scalepool._proc.ending import kill_group, remove_private_dir, tails
from scalepool._proc.tracker import TrackerPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

# How often a long import looks whether the driver is still there.
_IMPORT_WATCH_S = 0.1
# A killed process is gone in milliseconds, unless the kernel holds it; then it dies later without us.
_KILL_DEADLINE_S = 1.0
_FLUSH_DEADLINE_S = 0.2
_MAX_FDS = 1 << 16


class Worker:
    """A child that has not been reaped yet; ``outputs`` are where its stdout and stderr go."""

    __slots__ = ("outputs", "pid", "pidfd", "worker_id")

    def __init__(self, worker_id: int, pid: int, pidfd: int, outputs: tuple[int, int]) -> None:
        self.worker_id = worker_id
        self.pid = pid
        self.pidfd = pidfd
        self.outputs = outputs


class Job:
    """What a forked child has to run; returned up to ``main`` so that the zygote's frames are left behind."""

    __slots__ = ("config", "entry", "flight_fd", "outputs")

    def __init__(
        self, entry: Callable[[bytes, int], object], config: bytes, flight_fd: int, outputs: tuple[int, int]
    ) -> None:
        self.entry = entry
        self.config = config
        self.flight_fd = flight_fd
        self.outputs = outputs


class Server:
    """Serves one driver.

    Parameters
    ----------
    channel
        Connected to the driver.
    """

    def __init__(self, channel: Channel) -> None:
        self._pid = os.getpid()
        self._channel = channel
        self._driver_pidfd = -1
        self._session_dir = ""
        self._inbox: list[Frame] = []
        self._workers: dict[int, Worker] = {}
        self._poller = select.poll()
        self._poller.register(channel.fileno(), select.POLLIN)
        self._tracker = TrackerPipe()
        self._poller.register(self._tracker.read_fd, select.POLLIN)
        self._stopping = False
        self._entry: Callable[[bytes, int], object] | None = None
        self._create_flight: Callable[[str], int] | None = None
        self._create_outputs: Callable[[str], tuple[int, int]] | None = None
        self._load_error = ""
        self._threads = 1

    def serve(self) -> Job | None:
        """Serve until the end (None) or until we are a freshly forked worker (its job)."""
        gc.disable()  # faster imports and compact pages; the children switch it on again
        while True:
            self._receive()
            while self._inbox:
                job = self._obey(self._inbox.pop(0))
                if job is not None:
                    return job
            if self._stopping or self._channel.eof or self._wait():
                self._shut_down(remove_session_dir=not self._stopping)
                return None

    # -- before the first fork

    @contextlib.contextmanager
    def _watch_driver(self) -> Iterator[None]:
        """While modules are imported here, do not outlive the driver, and obey when it says stop."""
        signal.signal(signal.SIGALRM, lambda *_: self._look_up())
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_WATCH_S, _IMPORT_WATCH_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _load(self, frame: Frame) -> None:
        # The driver opened it itself: there is no moment in which its death could be missed.
        (self._driver_pidfd,) = frame.fds
        self._poller.register(self._driver_pidfd, select.POLLIN)
        sys.path[:] = frame.fields["sys_path"] or sys.path
        with self._watch_driver():
            try:
                self._create_flight = load(frame.fields["flight_factory"])
                self._create_outputs = load(frame.fields["output_factory"])
                self._entry = load(frame.fields["entry"])
            except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs anybody's code
                # Told with every fork request, so that no caller waits for a worker that cannot be.
                self._load_error = f"cannot load the worker's entry: {type(error).__name__}: {error}"

    def _set_up(self, frame: Frame) -> None:
        os.environ.update(frame.fields["env_limits"])
        with self._watch_driver():
            failures = import_all(frame.fields["preload"])
        # For the workers, which inherit it; only now, since a module may have set handlers of its own. A terminal's
        # Ctrl-C does not reach our session; whoever else sends SIGINT must not print a traceback per worker.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.freeze()  # without a collection first: it finds little, and takes 3 ms that somebody is waiting for
        with contextlib.suppress(OSError):  # without /proc nobody knows
            self._threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib is a heavy import
        ready = {"op": "ready", "failures": failures, "threads": self._threads, "load_error": self._load_error}
        self._channel.send(ready)

    def _look_up(self) -> None:
        """Called between two bytecodes of a long import."""
        self._receive()
        self._stopping |= any(message.op == "stop" for message in self._inbox)
        if self._stopping or self._channel.eof or self._driver_gone():
            self._shut_down(remove_session_dir=not self._stopping)
            os._exit(0)

    # -- requests

    def _receive(self) -> None:
        for frame in self._channel.receive():
            if frame.op in ("announce", "setup"):  # noted now: the driver may die before it is this frame's turn
                self._session_dir = frame.fields["session_dir"]
            self._inbox.append(frame)

    def _obey(self, frame: Frame) -> Job | None:
        if frame.op == "fork":
            return self._fork(frame)
        if frame.op == "load":
            self._load(frame)
        elif frame.op == "setup":
            self._set_up(frame)
        elif frame.op == "kill":
            for worker in self._workers.values():
                if worker.worker_id == frame.fields["worker_id"]:
                    kill_group(worker.pid)
        elif frame.op == "stop":
            self._stopping = True
        return None

    def _fork(self, request: Frame) -> Job | None:
        worker_id: int = request.fields["worker_id"]
        if self._entry is None or self._create_flight is None or self._create_outputs is None:
            self._refuse(worker_id, self._load_error, 0)
            return None
        flight_fd = -1
        try:
            flight_fd = self._create_flight(f"scalepool-flight-{worker_id}")
            outputs = self._create_outputs(f"scalepool-output-{worker_id}")
        except Exception as error:  # noqa: BLE001
            # Not our code: whatever it raises (no descriptors, no memory) means that this worker cannot be.
            close_fds([flight_fd] if flight_fd >= 0 else [])
            self._refuse(worker_id, f"flight record: {error}", getattr(error, "errno", None) or 0)
            return None
        child.flush_stdio()  # or the child would write what is buffered a second time
        try:
            pid = fork_quietly(self._threads)
        except OSError as error:
            close_fds([flight_fd, *outputs])
            self._refuse(worker_id, _errno_text("fork", error), error.errno or 0)
            return None
        if pid == 0:
            return self._become_worker(Job(self._entry, request.body, flight_fd, outputs))
        self._adopt(worker_id, pid, flight_fd, outputs)
        return None

    def _become_worker(self, job: Job) -> Job:
        child.detach(self._pid)
        self._channel.close()
        close_fds([self._driver_pidfd, *self._workers])
        self._tracker.close_reader()
        child.tracker_fd = self._tracker.write_fd
        for sibling in self._workers.values():
            close_fds(sibling.outputs)
        return job

    def _adopt(self, worker_id: int, pid: int, flight_fd: int, outputs: tuple[int, int]) -> None:
        # The child does it too; here for a signal that comes before the child runs.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # ended already, or went on to exec
            os.setpgid(pid, pid)
        try:
            pidfd = os.pidfd_open(pid)
            # The driver's is another: ours may be closed before a busy driver has room for the message.
            for_driver = os.pidfd_open(pid)
        except OSError as error:  # too many open files: a worker that nobody can watch must not be
            kill_group(pid)
            os.waitpid(pid, 0)
            close_fds([flight_fd, *outputs])
            self._refuse(worker_id, _errno_text("pidfd_open", error), error.errno or 0)
            return
        self._workers[pidfd] = Worker(worker_id, pid, pidfd, outputs)
        self._poller.register(pidfd, select.POLLIN)
        started = {"op": "started", "worker_id": worker_id, "pid": pid}
        self._channel.send(started, fds=(for_driver, flight_fd), close_after=(for_driver, flight_fd))

    def _refuse(self, worker_id: int, reason: str, number: int) -> None:
        self._channel.send({"op": "fork_failed", "worker_id": worker_id, "reason": reason, "errno": number})

    # -- deaths

    def _wait(self) -> bool:
        """Sleep until something happens and bury the dead; True when the driver is gone."""
        mask = select.POLLIN | (select.POLLOUT if self._channel.has_backlog else 0)
        self._poller.modify(self._channel.fileno(), mask)
        for fd, _ in self._poller.poll():
            if fd == self._driver_pidfd:
                return True
            if fd in self._workers:
                self._bury(self._workers[fd])
            elif fd == self._tracker.read_fd:
                self._poller.unregister(fd)
                self._tracker.start()
            elif self._channel.has_backlog:
                self._channel.flush()
        return False

    def _bury(self, worker: Worker) -> None:
        kill_group(worker.pid)  # before the number is given back: the group may hold the worker's own children
        _, status, usage = os.wait4(worker.pid, 0)
        self._poller.unregister(worker.pidfd)
        os.close(self._workers.pop(worker.pidfd).pidfd)
        exitcode = os.waitstatus_to_exitcode(status)
        told = {"op": "exited", "worker_id": worker.worker_id, "pid": worker.pid, "exitcode": exitcode}
        sizes, said = tails(worker.outputs)
        close_fds(worker.outputs)
        self._channel.send({**told, "peak_kib": usage.ru_maxrss, "said": sizes}, said)

    def _driver_gone(self) -> bool:
        poller = select.poll()
        poller.register(self._driver_pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def _shut_down(self, remove_session_dir: bool) -> None:
        self._receive()
        for worker in self._workers.values():
            kill_group(worker.pid)
        self._bury_all(time.monotonic() + _KILL_DEADLINE_S)
        self._tracker.finish()
        if remove_session_dir and self._session_dir:
            remove_private_dir(self._session_dir)
        self._flush(time.monotonic() + _FLUSH_DEADLINE_S)

    def _bury_all(self, deadline_s: float) -> None:
        poller = select.poll()
        for pidfd in self._workers:
            poller.register(pidfd, select.POLLIN)
        while self._workers and (left_s := deadline_s - time.monotonic()) > 0:
            for pidfd, _ in poller.poll(left_s * 1000):
                poller.unregister(pidfd)
                self._bury(self._workers[pidfd])

    def _flush(self, deadline_s: float) -> None:
        poller = select.poll()
        poller.register(self._channel.fileno(), select.POLLOUT)
        while not self._channel.flush() and (left_s := deadline_s - time.monotonic()) > 0:
            poller.poll(left_s * 1000)


def import_all(names: Iterable[str]) -> dict[str, str]:
    """Import each module; return the error text of those that could not be, which is not fatal."""
    failures = {}
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
            failures[name] = f"{type(error).__name__}: {error}"
    return failures


def load(target: str) -> Any:
    """Return the object named ``"package.module:attribute"``; the attribute may be dotted."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def fork_quietly(thread_count: int) -> int:
    """Fork without the interpreter's warning about threads.

    Libraries that start threads on import (BLAS) stop them around a fork by handlers of their own, and the number of
    threads has been reported to the driver.
    """
    if thread_count == 1:
        return os.fork()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def open_fds() -> list[int]:
    """Return the descriptors that are open; without /proc all that may be."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - pathlib is a heavy import
    except OSError:
        return list(range(min(os.sysconf("SC_OPEN_MAX"), _MAX_FDS)))


def prepare_process(control_fd: int) -> None:
    """Undo what exec inherits from the driver and a server cannot live with."""
    if os.getsid(0) != os.getpid():
        os.setsid()  # out of reach for what a terminal sends to its foreground processes
    for fd in open_fds():
        # What the driver's user made inheritable, e.g. for a child that waits for its end; ours never are.
        with contextlib.suppress(OSError):  # one of them was the listing's own
            if fd > 2 and fd != control_fd and os.get_inheritable(fd):
                os.close(fd)
    os.set_inheritable(control_fd, False)
    for fd in (0, 1, 2):  # a closed one would be taken by our next open file, and then printed into
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Either may be ignored by the driver. Our children would be reaped before we see their status, or not terminate.
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The driver decides when the workers go: a service manager's SIGTERM to all must not cut its own clean-up short.
    # Blocked and not ignored: what a worker is sent between its fork and `child.detach` then waits, and is not lost.
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry of the process; ``arguments[0]`` is the descriptor of the socket to the driver."""
    control_fd = int((sys.argv[1:] if arguments is None else arguments)[0])
    prepare_process(control_fd)
    channel = Channel(socket.socket(fileno=control_fd))
    job = Server(channel).serve()
    if job is None:
        child.flush_stdio()
        os._exit(0)
    child.outputs = job.outputs
    child.run(job.entry, job.config, job.flight_fd)


def _errno_text(call: str, error: OSError) -> str:
    return f"{call}: {errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"


if __name__ == "__main__":
    main()
