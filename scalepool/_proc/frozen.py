"""Applications that are one executable (PyInstaller, cx_Freeze): the zygote is the application itself, started again.

Such an application has no interpreter that could be started with ``-c``; its only way in is its own main program. So
the zygote is the application with `FLAG` as its first argument, and `freeze_support`, called at the start of the main
program, is where it becomes one.

An application that does not call it would run its main program as the zygote, come to the same call that made its
parent start it, and start a third, and so on. That is stopped in two places. The process that was started as a zygote
and asks for workers instead ends at once. And a parent whose zygote ends, or shows no sign of life, before it has
become one says so with every call, and starts no other.
"""

from __future__ import annotations

import os
import sys
import time

from scalepool.errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

__all__ = ["FLAG", "STARTED_BY", "Application", "catch_freeze_support", "freeze_support", "is_application"]

FLAG: Final = "--scalepool-zygote"
"""First argument of an application that is to become a zygote; the second is the descriptor of its socket."""
STARTED_BY: Final = "SCALEPOOL_STARTED_BY"
"""Variable with the id of the process that has started an application as its zygote; gone once it has become one."""
ASTRAY_EXITCODE: Final = 78  # EX_CONFIG


SILENCE_S: Final = 60.0
"""So long an application may take until its main program calls `freeze_support`: it may be loaded from a slow disk."""

_replaced: list[Callable[[], None]] = []
_refusals: list[str] = []
"""Why this application is not started again: it does not become a zygote."""


class Application:
    """The very application that runs here, started again, until it has become a zygote.

    Attributes
    ----------
    due_s
        When it is given up (monotonic clock).

    Raises
    ------
    SessionError
        When it is known that it would not become one.
    """

    __slots__ = ("due_s",)

    def __init__(self) -> None:
        if is_helper() or os.environ.get(STARTED_BY) == str(os.getppid()):
            # This process was to become one. It ends without a word: its parent raises an error that says all.
            os._exit(ASTRAY_EXITCODE)
        if _refusals:
            raise SessionError(_refusals[0])
        self.due_s = time.monotonic() + SILENCE_S

    def why_ended(self, exitcode: int | None) -> str:
        """Return why it has ended, if that was by itself; it is then not started again."""
        if time.monotonic() >= self.due_s:
            how = f"did nothing else for {SILENCE_S:g} s"
        elif exitcode is not None and exitcode < 0:
            return ""
        else:
            how = "asked for workers itself" if exitcode == ASTRAY_EXITCODE else f"ended with exit code {exitcode}"
        reason = (
            "this application is frozen into an executable and was started again, to be the process from which "
            f"workers are made; but it ran its main program and {how}. Its main program has to begin with "
            "scalepool.multiprocessing.freeze_support(), before it does or parses anything else"
        )
        _refusals[:] = [reason]
        return reason


def is_application(executable: str) -> bool:
    """Tell whether ``executable`` is no interpreter but this application itself."""
    return bool(getattr(sys, "frozen", False)) and executable == sys.executable


def freeze_support() -> None:
    """Become what this process was started for, where it is a frozen application and one of its own has started it.

    To be called first in the main program of an application that is frozen into an executable; anywhere else it does
    nothing. It stands for ``multiprocessing.freeze_support``, too.
    """
    if is_helper():
        _become_zygote(sys.argv[2:])
    if getattr(sys, "frozen", False):
        import multiprocessing

        (_replaced[0] if _replaced else multiprocessing.freeze_support)()


def is_helper() -> bool:
    """Tell whether this process was started to become a zygote."""
    return bool(getattr(sys, "frozen", False)) and sys.argv[1:2] == [FLAG]


def catch_freeze_support() -> None:
    """Let ``multiprocessing.freeze_support``, which such applications call anyway, do what ours does."""
    import multiprocessing

    _replaced.append(multiprocessing.freeze_support)
    multiprocessing.freeze_support = freeze_support


def _become_zygote(arguments: Sequence[str]) -> None:
    from stat import S_ISSOCK

    os.environ.pop(STARTED_BY, None)
    try:
        control_fd = int(arguments[0])
        is_ours = S_ISSOCK(os.fstat(control_fd).st_mode)
    except (IndexError, ValueError, OSError):
        is_ours = False
    if not is_ours:
        sys.exit(f"{FLAG} is for scalepool, which starts this application with it")
    del sys.argv[1:]
    import socket

    from scalepool._proc.channel import Channel
    from scalepool._proc.zygote import main

    told = Channel(socket.socket(fileno=os.dup(control_fd)))
    told.send({"op": "here"})  # the first word on this socket, so there is room for it
    told.close()
    main([str(control_fd)])
