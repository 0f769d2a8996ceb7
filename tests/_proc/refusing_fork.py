"""A zygote that loads its entry from here finds the system unable to fork, once."""

from __future__ import annotations

import errno
import os

from _proc.entries import sleep

__all__ = ["sleep"]

_real_fork = os.fork


def _fork() -> int:
    os.fork = _real_fork
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


os.fork = _fork
