"""The first process of a host of `live.hosts`: what it exits with ends everything that runs there.

Run with the name of the host and the folders that stay visible below ``/tmp``. It ends when its standard input does,
so nothing outlives who made the host, whatever he died of.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_MS_BIND = 4096
_MS_REC = 16384


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, b""):
        error = ctypes.get_errno()
        raise OSError(error, f"mount on {target}: {os.strerror(error)}")


def own_folders(keep: list[str]) -> None:
    """Give the host a /tmp and a /dev/shm of its own; what is needed of the old /tmp is put where it was."""
    opened = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in keep}
    mount("tmpfs", "/dev/shm", "tmpfs")
    mount("tmpfs", "/tmp", "tmpfs")
    for path, fd in opened.items():
        Path(path).mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, flags=_MS_BIND | _MS_REC)
        os.close(fd)
    Path("/tmp/home").mkdir()


def main() -> None:
    name, *keep = sys.argv[1:]
    socket.sethostname(name)
    own_folders(keep)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # orphans become this process's
        except ChildProcessError:
            continue


if __name__ == "__main__":
    main()
