"""The session's directory: private, locked while its session lives, swept by the next session otherwise.

Each program that makes a pool comes through here before its first task, so ``tempfile``, ``shutil`` and ``pathlib``
(6 ms) are loaded only where the plain case does not do.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from typing import Final

from scalepool.errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SessionDir", "folder_root", "stale", "sweep"]

_PREFIX: Final = "scalepool-"
_LOCK: Final = "lock"
_YOUNG_S: Final = 60.0
"""A directory without a lock file is left alone for so long: its maker may be about to create one."""
_UNLOCKED_S: Final = 5.0
"""A directory whose lock nobody holds is left alone for so long: its maker may be about to take it."""
_MAX_ROOT_BYTES: Final = 70
"""A root with a longer path leaves no room for ours: that of a Unix socket has at most 107 bytes."""
_USUAL_ROOT: Final = "/tmp"
_OTHER_ROOTS: Final = (_USUAL_ROOT, "/var/tmp", "/dev/shm")
"""Where else it may be: nothing is kept there but a socket and an empty file."""


class SessionDir:
    """A fresh directory that only this user can enter, with a lock file that is held while this process lives.

    Parameters
    ----------
    announce
        Called with its path before it is made: whoever is to remove it should this process be killed must know it by
        then, or it would stay.

    Attributes
    ----------
    path
        Where it is, as an absolute path.
    """

    def __init__(self, announce: Callable[[str], object] = bool) -> None:
        try:
            self.path, self._lock = _make(folder_root(), announce)
        except OSError as error:  # it is full or not what it seems: another will do
            self.path, self._lock = _make_elsewhere(error, announce)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # a sweeping session may hold it for a moment

    def remove(self) -> None:
        """Delete it with everything in it."""
        _remove(self.path)
        os.close(self._lock)


def folder_root() -> str:
    """Return the user's folder for temporary files, or the usual one where that has too long a path."""
    root = _temporary()
    too_long = len(os.fsencode(root)) > _MAX_ROOT_BYTES
    return _USUAL_ROOT if too_long and os.access(_USUAL_ROOT, os.W_OK | os.X_OK) else root


def _temporary() -> str:
    """Return what ``tempfile.gettempdir()`` would: its answer where it has one already or the usual places do not do.

    To find one it writes a file, which would stay if we were killed just then.
    """
    if getattr(sys.modules.get("tempfile"), "tempdir", None) is None:
        for path in (os.environ.get("TMPDIR"), os.environ.get("TEMP"), os.environ.get("TMP"), _USUAL_ROOT):
            if path and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):  # noqa: PTH112
                return os.path.abspath(path)  # noqa: PTH100
    import tempfile

    return tempfile.gettempdir()


def _make_elsewhere(first_error: OSError, announce: Callable[[str], object]) -> tuple[str, int]:
    for root in _OTHER_ROOTS:
        try:
            return _make(root, announce)
        except OSError:
            continue  # the first error is the one to tell
    raise SessionError(
        f"no folder for temporary files can be used ({first_error}); set TMPDIR to one with room that can be written"
    ) from first_error


def _make(root: str, announce: Callable[[str], object]) -> tuple[str, int]:
    """Make the directory and its lock file; return its path and the open file."""
    sweep(root)
    while True:
        path = f"{root}/{_PREFIX}{os.getuid()}-{os.urandom(6).hex()}"
        announce(path)
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
        except FileExistsError:
            continue
        try:
            flags = os.O_CREAT | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            return path, os.open(f"{path}/{_LOCK}", flags, 0o600)
        except OSError:
            os.rmdir(path)  # noqa: PTH106
            raise


def _remove(path: str) -> None:
    """Remove a directory, as far as that is possible."""
    try:
        for entry in os.listdir(path):  # noqa: PTH208
            os.unlink(f"{path}/{entry}")  # noqa: PTH108
        os.rmdir(path)  # noqa: PTH106
    except OSError:
        import shutil  # it holds more than we put there, or is not ours to remove

        shutil.rmtree(path, ignore_errors=True)


def sweep(root: str | os.PathLike[str]) -> None:
    """Delete the directories of sessions that ended without a chance to do it themselves, and end what they started."""
    for path in stale(root):
        from scalepool._proc.marked import kill_marked  # such directories are rare

        kill_marked(os.path.basename(path))  # noqa: PTH119
        _remove(path)


def stale(root: str | os.PathLike[str]) -> list[str]:
    """Return the directories of sessions that ended without a chance to remove them."""
    ours = f"{_PREFIX}{os.getuid()}-"
    try:
        names = os.listdir(root)  # noqa: PTH208
    except PermissionError:
        return []  # we may make entries there and not list them
    return [path for name in names if name.startswith(ours) and _is_stale(path := f"{root}/{name}")]


def _is_stale(path: str) -> bool:
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            return False
        age_s = time.time() - found.st_mtime
        if age_s < _UNLOCKED_S:
            return False
        try:
            lock = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
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
