"""Where a hub may put its socket."""

from __future__ import annotations

import os
from typing import Final

from scalepool.errors import SessionError

__all__ = ["check_socket_path"]

_MAX_PATH: Final = 107
"""Longest path of a Unix socket on Linux."""


def check_socket_path(path: str) -> None:
    """Raise SessionError when no socket can be made at ``path``, or something is there: it would be replaced."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise SessionError(f"the socket path {path!r} is longer than {_MAX_PATH} bytes; set TMPDIR to a shorter folder")
    if os.path.lexists(path):
        raise SessionError(f"refusing to replace {path!r}")
