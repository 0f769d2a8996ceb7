"""Processes that tasks of one session have started, found by the mark in their environment.

The zygote ends them with their worker. Only where it was killed together with the driver some may go on; whoever
removes what such a session has left ends them, too.
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["MARK", "kill_marked", "marked"]

MARK = "SCALEPOOL_SESSION"
"""Variable with the name of the session's folder, in the environment of workers and of what they start."""


def marked(session: str) -> list[int]:
    """Return the processes of this user that carry the mark of ``session``, as far as they can be looked into."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_marked(int(name), session)]  # noqa: PTH208


def kill_marked(session: str) -> int:
    """End them; return how many that were."""
    killed = 0
    for pid in marked(session):
        with contextlib.suppress(OSError):  # it has ended
            pidfd = os.pidfd_open(pid)
            try:
                if _is_marked(pid, session):  # looked at again now that the pidfd pins it
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed += 1
            finally:
                os.close(pidfd)
    return killed


def _is_marked(pid: int, session: str) -> bool:
    if pid == os.getpid():
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib is a heavy import
            return f"{MARK}={session}".encode() in file.read().split(b"\0")
    except OSError:
        return False  # it has ended, or is somebody else's
