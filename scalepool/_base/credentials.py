"""Unix sockets in a folder of ours: to listen there, and who is at the other end."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

__all__ = ["is_ours", "listening"]

_ROOT: Final = 0
_CREDENTIALS: Final = struct.Struct("3i")


def listening(path: str, kind: int) -> socket.socket:
    """Return a socket that listens, and never blocks; ``kind`` is one of ``socket.SOCK_...``.

    Raises
    ------
    OSError
        None can be made there.
    """
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        listener.setblocking(False)
        listener.bind(path)
        listener.listen(socket.SOMAXCONN)
    except BaseException:
        listener.close()
        raise
    return listener


def is_ours(connection: socket.socket) -> bool:
    """Whether the other side is a process of this user (or root's), which the mode of the directory should ensure."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in (_ROOT, os.geteuid())
