"""What is written to a worker's stdout and stderr by who knows nothing of us: C code, child processes, a crash.

Each of the two descriptors leads to a nameless file that everybody appends to. Unlike a pipe it takes what code writes
that holds the interpreter, it needs no reader to be there, and what was written last can be read when all writers are
dead. What has been read is given back to the system.
"""

from __future__ import annotations

import fcntl
import os

from scalepool._store.files import HAS_MEMFD, anonymous_file
from scalepool.errors import StoreError

__all__ = ["Written", "create_outputs"]

_CHUNK_BYTES = 1 << 20
_LINE_BYTES = 1 << 16
"""A line that is longer is taken in parts."""
BACKLOG_BYTES = 1 << 26
"""What is written faster than it is read is kept up to this."""
_FREE_BYTES = 1 << 20
_PUNCH_HOLE_KEEP_SIZE = 3


def create_outputs(name: str, *, use_memfd: bool = HAS_MEMFD) -> tuple[int, int]:
    """Open the files for stdout and stderr of a worker; the descriptors are the caller's to close.

    Parameters
    ----------
    name
        For debugging.
    use_memfd
        As in ``files.anonymous_file``.

    Raises
    ------
    StoreError
        There is no descriptor for them.
    """
    out = anonymous_file(f"{name}-1", 0, use_memfd=use_memfd)
    try:
        err = anonymous_file(f"{name}-2", 0, use_memfd=use_memfd)
    except StoreError:
        os.close(out)
        raise
    for fd in (out, err):
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return out, err


class Written:
    """Reads such a file from its start, lines at a time.

    Parameters
    ----------
    fd
        Of the file; stays the caller's.

    Attributes
    ----------
    size
        How long the file was when it was last looked at.
    position
        Up to where it has been taken.
    """

    __slots__ = ("_freed", "fd", "position", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0
        self.position = 0
        self._freed = 0

    @property
    def has_grown(self) -> bool:
        """Whether something was written since the last ``take``; one system call."""
        return os.lseek(self.fd, 0, os.SEEK_END) != self.size

    @property
    def is_too_much(self) -> bool:
        """Whether so much is there that most of it is to be dropped."""
        return os.lseek(self.fd, 0, os.SEEK_END) - self.position > BACKLOG_BYTES

    def take(self, *, everything: bool = False) -> bytes:
        """Return the lines that are whole by now, with ``everything`` also the beginning of the next."""
        self.size = size = os.lseek(self.fd, 0, os.SEEK_END)
        if size < self.position:  # somebody opened it by its path and truncated it, as a shell does for >/dev/stderr
            self.position = self._freed = 0
        dropped = b""
        if size - self.position > BACKLOG_BYTES:
            dropped = b"... %d bytes dropped: written faster than they could be shown\n" % (
                size - _CHUNK_BYTES - self.position
            )
            self.position = size - _CHUNK_BYTES
        parts = [dropped]
        while data := os.pread(self.fd, min(size - self.position, _CHUNK_BYTES), self.position):
            end = len(data) if everything else data.rfind(b"\n") + 1
            if not end and len(data) < _LINE_BYTES:
                break
            part = data[:end] if end else data
            self.position += len(part)
            parts.append(part)
        if self.position - self._freed > _FREE_BYTES:
            self._free()
        return b"".join(parts)

    def _free(self) -> None:
        # To truncate it would be simpler, and would lose what somebody appends at that moment.
        import ctypes

        start, self._freed = self._freed & -4096, self.position & -4096
        fallocate = ctypes.CDLL(None).fallocate
        offset, length = ctypes.c_longlong(start), ctypes.c_longlong(self._freed - start)
        fallocate(self.fd, _PUNCH_HOLE_KEEP_SIZE, offset, length)  # where it cannot be, the pages stay
