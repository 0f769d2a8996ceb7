"""The session's directory: private, locked while its session lives, swept by the next session otherwise."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

__all__ = ["SessionDir"]

_PREFIX: Final = "scalepool-"
_LOCK: Final = "lock"
_YOUNG_S: Final = 60.0
"""A directory without a lock file is left alone for so long: its maker may be about to create one."""
_UNLOCKED_S: Final = 5.0
"""A directory whose lock nobody holds is left alone for so long: its maker may be about to take it."""
_MAX_ROOT_BYTES: Final = 70
"""A root with a longer path leaves no room for ours: that of a Unix socket has at most 107 bytes."""


class SessionDir:
    """A fresh directory that only this user can enter, with a lock file that is held while this process lives."""

    def __init__(self) -> None:
        root = _root()
        sweep(root)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=root))
        flags = os.O_CREAT | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self.path / _LOCK, flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # a sweeping session may hold it for a moment

    def remove(self) -> None:
        """Delete it with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _root() -> Path:
    """Return the user's folder for temporary files, or the usual one where that has too long a path."""
    root = Path(tempfile.gettempdir())
    usual = Path("/tmp")
    return usual if len(os.fsencode(root)) > _MAX_ROOT_BYTES and os.access(usual, os.W_OK | os.X_OK) else root


def sweep(root: Path) -> None:
    """Delete the directories of sessions that ended without a chance to do it themselves."""
    for path in root.glob(f"{_PREFIX}{os.getuid()}-*"):
        if _is_stale(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            return False
        age_s = time.time() - found.st_mtime
        if age_s < _UNLOCKED_S:
            return False
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return age_s > _YOUNG_S
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
    except OSError:
        return False  # it vanished while we looked, or is not ours to judge
    return True
