"""A zygote that loads its entry from here has something else write to its socket."""

from __future__ import annotations

import contextlib
import os
import stat

from _proc.entries import sleep

__all__ = ["sleep"]

for _fd in range(3, 512):  # the number is the driver's, and may be any
    with contextlib.suppress(OSError):  # no such descriptor
        if stat.S_ISSOCK(os.fstat(_fd).st_mode):
            os.write(_fd, b"\xff" * 100)
