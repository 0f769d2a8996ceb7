"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

__all__ = ["is_ours"]

_ROOT: Final = 0
_CREDENTIALS: Final = struct.Struct("3i")


def is_ours(connection: socket.socket) -> bool:
    """Whether the other side is a process of this user (or root's), which the mode of the directory should ensure."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in (_ROOT, os.geteuid())
