"""Worker entries that the tests have their zygotes load by name; see `helpers`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def make_record(name: str) -> int:
    fd = os.memfd_create(name)
    os.write(fd, name.encode())
    return fd


def fail_to_make_record(name: str) -> int:
    raise OSError(24, "no more descriptors")


def sleep(config: bytes, flight_fd: int) -> None:
    time.sleep(600)


def end_with(config: bytes, flight_fd: int) -> int:
    """Return, exit, raise or die as the configuration says."""
    how, _, value = config.decode().partition(":")
    if how == "exit":
        sys.exit(int(value))
    if how == "text":
        sys.exit(value)
    if how == "raise":
        raise ValueError(value)
    if how == "kill":
        os.kill(os.getpid(), int(value))
    return int(value)


def tell(config: bytes, flight_fd: int) -> None:
    """Write what this process is like into the flight record, then wait to be killed."""
    facts = {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "fds": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "sigint_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "sigterm_default": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "config_bytes": len(config),
        "env": os.environ.get("SCALEPOOL_TEST_LIMIT"),
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "flags": [sys.flags.optimize, sys.flags.dev_mode],
    }
    os.pwrite(flight_fd, json.dumps(facts).encode() + b"\n", 0)
    time.sleep(600)


def have_grandchild(config: bytes, flight_fd: int) -> None:
    """Start a process that would outlive us, and tell its pid."""
    grandchild = subprocess.Popen(["sleep", "600"])
    os.pwrite(flight_fd, b"%d\n" % grandchild.pid, 0)
    time.sleep(600)


def write_at_exit(config: bytes, flight_fd: int) -> None:
    """Leave work for the exit: a handler, a thread, a buffer."""
    import atexit
    import threading

    os.ftruncate(flight_fd, 0)
    atexit.register(os.pwrite, flight_fd, b"handler ", 0)
    threading.Thread(target=lambda: (time.sleep(0.05), os.pwrite(flight_fd, b"thread ", 8))).start()
    sys.stdout.write("buffered")


main = sleep


def leave_group(config: bytes, flight_fd: int) -> None:
    """Move into the group whose number is in the configuration."""
    os.setpgid(0, int(config))
    os.pwrite(flight_fd, b"moved\n", 0)
    time.sleep(600)


def tell_flags(config: bytes, flight_fd: int) -> None:
    """Write the interpreter's flags and warning options into the flight record."""
    os.pwrite(flight_fd, f"{list(sys.flags)} {sys.warnoptions}\n".encode(), 0)
    time.sleep(600)
