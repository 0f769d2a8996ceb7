"""What a zygote does for processes, and for a session, that have ended.

Imported by the zygote, so it is kept as light as that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TAIL_BYTES", "kill_group", "remove_private_dir", "tails"]

TAIL_BYTES = 1 << 16
"""So much of what a worker has written last is told."""


def tails(fds: Sequence[int]) -> tuple[list[tuple[int, int]], bytes]:
    """Return (size, bytes told) of each file, and the last ``TAIL_BYTES`` of each, one after the other."""
    sizes, told = [], b""
    for fd in fds:
        size = os.lseek(fd, 0, os.SEEK_END)
        tail = os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES))
        sizes.append((size, len(tail)))
        told += tail
    return sizes, told


def kill_group(group: int) -> None:
    """SIGKILL the process group of a child that we have not reaped: its number cannot be anybody else's."""
    for kill in (os.killpg, os.kill):  # the process too: it may have left its group
        # The group is empty, or all of it runs under another user by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(group, signal.SIGKILL)


def remove_private_dir(path: str) -> bool:
    """Remove a session directory with its content; True when it is gone.

    Only a real directory of ours that nobody else may enter: a path that leads anywhere else is left alone.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
    if not private:
        sys.stderr.write(f"scalepool: {path} is not a private directory of ours, left alone\n")
        return False
    import shutil  # late: 5 ms of imports that a running zygote never needs

    # Errors are ignored because the session's other zygotes may be at the same work; what counts is the outcome.
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        sys.stderr.write(f"scalepool: could not remove {path}\n")
        return False
    return True
