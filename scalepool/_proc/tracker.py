"""Who cleans up what the standard library shares by name (semaphores, shared memory) when workers are killed.

The standard library has a process for that, its resource tracker, which each process starts when it first needs one,
unless its parent had one. Started by a worker it would be killed with the worker's process group, and with it the
knowledge of what is to be removed. So all workers of a zygote write to one pipe, and the zygote starts the tracker
when something is in there: for most sessions never. It removes what is left when the zygote and all workers are gone.

Where the driver has a tracker, workers use that one instead, as children of its own would: what the driver made, and
a worker opens, is then the driver's to remove.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["TrackerPipe", "use_tracker"]

_READ_FD = 3
_MODULE = "multiprocessing.resource_tracker"


class TrackerPipe:
    """The pipe to a tracker that runs when there is something to track; made by the zygote.

    Attributes
    ----------
    read_fd
        To be polled until it is readable; then ``start`` is due. -1: it runs.
    write_fd
        For the workers.
    """

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def start(self) -> None:
        """Start the tracker; out of reach of a terminal's signals, and silent: nobody could act on its warnings."""
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        program = f"from {_MODULE} import main; main({_READ_FD})"
        with contextlib.suppress(OSError):  # no processes left: what is tracked then stays, as without a tracker
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-S", "-c", program],
                os.environ,
                file_actions=[*null, (os.POSIX_SPAWN_DUP2, self.read_fd, _READ_FD)],
                setsid=True,
            )
        self.close_reader()

    def finish(self) -> None:
        """The zygote ends: start the tracker if something has been written that nobody has read."""
        if self.read_fd >= 0 and select.select([self.read_fd], [], [], 0)[0]:
            self.start()

    def close_reader(self) -> None:
        """Close the end that only the tracker needs."""
        if self.read_fd >= 0:
            os.close(self.read_fd)
            self.read_fd = -1


def use_tracker(write_fd: int) -> None:
    """Have this worker's standard library report to the driver's tracker, else to the one behind ``write_fd``."""
    from scalepool._base.imports import after_import

    zygote = os.getppid()

    def step(module: ModuleType) -> None:
        tracker = module._resource_tracker
        if tracker._fd is None:
            tracker._fd = _tracker_of(_parent(zygote), write_fd)

    after_import(_MODULE, step)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is a heavy import
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _tracker_of(pid: int, otherwise: int) -> int:
    """Return a descriptor of the pipe to the tracker that the process has started, if it has."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        for thread in threads:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                children = file.read().split()
            for child in map(int, children):
                with open(f"/proc/{child}/cmdline", "rb") as file:  # noqa: PTH123
                    _, found, rest = file.read().partition(b"multiprocessing.resource_tracker import main;main(")
                if found:
                    return os.open(f"/proc/{child}/fd/{int(rest.partition(b')')[0])}", os.O_WRONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        pass  # it ended meanwhile, or may not be looked at
    return otherwise
