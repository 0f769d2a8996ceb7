"""Ends what a run of tests has started when its process is gone, however it went: killed, or at a test's time limit.

All that descends from the process of the tests inherits a mark in its environment. This program watches that process;
when it has ended, it gives the others some time to end by themselves, kills those that have not, and removes the run's
folder.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "SCALEPOOL_TEST_RUN"
_PATIENCE_S = 30.0


def _is_of_run(entry: Path, mark: bytes, folder: str) -> bool:
    if mark in (entry / "environ").read_bytes().split(b"\0"):
        return True
    # One that was forked, and has run no other program since: its environment is not to be seen, but the folder that
    # the process of the tests has open is.
    for link in (entry / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link) == folder:  # noqa: PTH115 - no Path needed
                return True
    return False


def processes_of(mark: str, folder: str) -> list[int]:
    """Return what descends from the process of the tests and runs, without the process that asks."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if _is_of_run(entry, wanted, folder):
                    found.append(int(entry.name))
    return found


def main(watched: int, mark: str, folder: str, grace_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(watched)], [], [])
    ended_at = time.monotonic()
    while (left := processes_of(mark, folder)) and time.monotonic() < ended_at + _PATIENCE_S:
        if time.monotonic() > ended_at + grace_s:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if os.fork() == 0:  # no child of the process of the tests, which may count its children
        main(int(sys.argv[1]), *sys.argv[2:4], float(sys.argv[4]))
