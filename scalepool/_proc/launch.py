"""The first step of a session: start the interpreter that will be its zygote.

A new interpreter needs 10 ms to come up and as long as the driver to load what both need. So it is started before the
driver loads any of it, and this file imports next to nothing itself: what it did without (``subprocess``, ``socket``,
``signal`` and what these bring) would delay the first result by 10 ms.

`Launched` is told the rest, and watched, by ``spawn.Zygote``.
"""

from __future__ import annotations

import errno
import os
import sys

# Below ``socket``, whose enums and selectors are half of its price.
from _socket import AF_UNIX, SOCK_STREAM, socketpair

from scalepool.errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._proc.frozen import Application

__all__ = ["Launched", "interpreter", "launch"]

# -c and not -m: nothing of the working directory can shadow the standard library, __main__ stays empty, and the
# package is the driver's own copy. Its root is on the path only until the package itself is found.
_BOOTSTRAP = (
    "import sys; sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; import scalepool._proc; del sys.path[0]; "
    "from scalepool._proc.zygote import main; main()"
)
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
_CONTROL_FD = 3
"""Where the zygote finds its end of the socket."""
_OUT_OF_THE_WAY_FD = 10
"""Ours are moved above the child's stdio and its control socket."""
_BLOCKED_SIGNALS = (1, 2, 15)
"""SIGHUP, SIGINT, SIGTERM, which the zygote keeps blocked (see there), from its first instruction on."""


class Launched:
    """A child of ours that is becoming a zygote.

    Attributes
    ----------
    pid
        Its process; ours to reap.
    control_fd
        Our end of the socket; -1 once it has been handed on.
    application
        For what is no interpreter, but this application itself, started again.
    """

    __slots__ = ("application", "control_fd", "pid")

    def __init__(self, pid: int, control_fd: int, application: Application | None = None) -> None:
        self.pid = pid
        self.control_fd = control_fd
        self.application = application

    def take_control(self) -> int:
        """Return the socket, which is the caller's from now on."""
        fd, self.control_fd = self.control_fd, -1
        return fd

    def abandon(self) -> None:
        """Let it end, if nobody has taken control: it does when its socket does, and is reaped here."""
        if self.control_fd >= 0:
            os.close(self.take_control())
            reap(self.pid, block=True)


def launch() -> Launched:
    """Start an interpreter that will be a zygote; returns at once.

    Raises
    ------
    SessionError
        When the interpreter to start is unknown or does not start.
    """
    path = interpreter()
    command = [path, *_interpreter_options(), "-c", _BOOTSTRAP, _PACKAGE_ROOT, str(_CONTROL_FD)]
    environ: Mapping[str, str] = os.environ
    application = None
    if getattr(sys, "frozen", False):
        from scalepool._proc import frozen

        if frozen.is_application(path):
            application = frozen.Application()
            command = [path, frozen.FLAG, str(_CONTROL_FD)]
            environ = {**os.environ, frozen.STARTED_BY: str(os.getpid())}
    ours, theirs = (_move_up(end.detach()) for end in socketpair(AF_UNIX, SOCK_STREAM))
    try:
        pid = os.posix_spawnp(
            path,
            command,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, _CONTROL_FD),
            ],
            setsigmask=_BLOCKED_SIGNALS,
        )
    except OSError as error:
        os.close(ours)
        name = errno.errorcode.get(error.errno or 0, "?")
        raise SessionError(f"cannot start {path}: {name}: {error.strerror}") from error
    finally:
        os.close(theirs)
    return Launched(pid, ours, application)


def interpreter() -> str:
    """Path of the Python to start: what ``multiprocessing.set_executable`` was told, else our own.

    Raises
    ------
    SessionError
        When there is none (an application that embeds Python).
    """
    spawn = sys.modules.get("multiprocessing.spawn")
    path = spawn.get_executable() if spawn is not None else sys.executable
    if not path:
        raise SessionError(
            "sys.executable is empty, so no worker can be started; "
            "set it with multiprocessing.set_executable('/path/to/python')"
        )
    return os.fsdecode(path)


def reap(pid: int, *, block: bool = False) -> int | None:
    """Return the exit code of a child, 0 also where somebody else reaped it; None while it runs, unless ``block``."""
    try:
        reaped, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if reaped else None


def _interpreter_options() -> list[str]:
    """Return options that give a new interpreter the flags of this one."""
    first = sys.orig_argv[1] if len(sys.orig_argv) > 1 else ""
    if sys.orig_argv and not sys.warnoptions and (first in ("-c", "-m") or not first.startswith("-")):
        return []  # it was started without any; what its environment says, the new one reads by itself
    import subprocess  # as late as this: few are started with options, and it is 5 ms

    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return options


def _move_up(fd: int) -> int:
    """Move a descriptor above those that the child gets by number; a driver may run without stdio."""
    if fd >= _OUT_OF_THE_WAY_FD:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY_FD)
    finally:
        os.close(fd)
