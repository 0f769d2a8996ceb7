"""What tasks print: taken from the worker's ``sys.stdout`` and ``sys.stderr``, shown on those of the driver."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque

__all__ = ["TaskOutput", "show"]

STDOUT = 1
STDERR = 2


def show(stream: int, text: str) -> None:
    """Write ``text`` to what is ``sys.stdout`` (1) or ``sys.stderr`` (2) at this moment."""
    target = sys.stdout if stream == STDOUT else sys.stderr
    if target is None:
        return
    try:
        target.write(text)
        target.flush()
    except (OSError, ValueError, UnicodeEncodeError):
        # The user's stream is closed, full or cannot show the text: losing a printed line must not lose results.
        return


class TaskOutput(io.TextIOBase):
    """Stands in for a standard stream in a worker: passes on whole lines, and the rest when flushed.

    Parameters
    ----------
    stream
        1 for stdout, 2 for stderr.
    queue
        Takes (stream, text) for the next message to the hub.
    """

    def __init__(self, stream: int, queue: deque[tuple[int, str]]) -> None:
        super().__init__()
        self._stream = stream
        self._queue = queue
        self._lock = threading.Lock()
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Any string can be printed, also one with lone surrogates."""
        return "surrogatepass"

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """False: there is no terminal here."""
        return False

    def fileno(self) -> int:
        """Return the descriptor that children of this process inherit, for code that redirects them."""
        return self._stream

    def write(self, text: str) -> int:
        """Take ``text``; whole lines are passed on."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            whole, newline, rest = (self._rest + text).rpartition("\n")
            self._rest = rest
        if newline:
            self._queue.append((self._stream, whole + newline))
        return len(text)

    def flush(self) -> None:
        """Pass on an unfinished line, too."""
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self._queue.append((self._stream, rest))
