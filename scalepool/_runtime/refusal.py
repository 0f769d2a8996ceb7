"""How to turn down who wants to use a session that is over."""

from __future__ import annotations

import threading

from scalepool.errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["is_ending", "refuse", "stop_at_exit"]


def refuse(text: str, *, at_exit: bool) -> NoReturn:
    """Raise SessionError; see `stop_at_exit` for who never gets it."""
    if at_exit:
        stop_at_exit()
    raise SessionError(text)


def is_ending() -> bool:
    """Whether the interpreter is ending: no thread is waited for any more, and from 3.12 on none can be started."""
    return not threading.main_thread().is_alive()


def stop_at_exit() -> None:
    """While the interpreter ends: return in the main thread only.

    Any other is a daemon thread. It could do nothing with an error any more but print it.
    """
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
