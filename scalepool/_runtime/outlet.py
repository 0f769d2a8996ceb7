"""What a worker's tasks have printed and the hub has not taken yet: no more of it than a worker can afford.

A driver that is stopped, or shows text slower than it is printed, takes nothing. Who prints then waits, as with a pipe
that is full. What others have written to the descriptors cannot wait, since nobody holds its writers up: of that is
dropped what is too much, and told how much it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outlet"]

_LIMIT_BYTES: Final = 1 << 26
_PIECE: Final = 1 << 20
"""Characters in a message at most: whoever takes it in makes several copies of it."""
_JOIN: Final = 1 << 16
"""Pieces go together in a message until it has so many characters."""
_LOOK_S: Final = 0.005
_STDERR: Final = 2
_LOG: Final = 3


class Outlet:
    """Pieces of output, as (stream, text, task), on their way to the hub. Thread-safe.

    Parameters
    ----------
    unsent_bytes
        Returns how much has been handed over to the channel that the hub has not taken.
    may_wait
        Tells whether the calling thread may wait: it is not the one that has to send.
    """

    __slots__ = ("_dropped", "_lock", "_may_wait", "_pieces", "_size", "_unsent_bytes")

    def __init__(self, unsent_bytes: Callable[[], int] = int, may_wait: Callable[[], bool] = bool) -> None:
        self._pieces: deque[tuple[int, str, int]] = deque()
        self._size = 0
        self._dropped: dict[tuple[int, int], int] = {}
        """By stream and task: how many characters."""
        self._unsent_bytes = unsent_bytes
        self._may_wait = may_wait
        self._lock = threading.RLock()  # a signal's handler may print in the midst of this

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def is_full(self) -> bool:
        """Whether the hub should first take something."""
        return self._size + self._unsent_bytes() > _LIMIT_BYTES

    def wait_for_room(self) -> None:
        """Wait until it is not full, where this thread may."""
        while self.is_full and self._may_wait():
            time.sleep(_LOOK_S)

    def put(self, stream: int, text: str, task: int) -> None:
        """Queue a piece for ``task`` (0: for whoever watches); when it is full drop it, and say so later."""
        with self._lock:
            if self.is_full:
                self._dropped[stream, task] = self._dropped.get((stream, task), 0) + len(text)
                return
            if self._dropped:
                self._tell_dropped()
            start = 0
            while len(text) - start > _PIECE:
                stop = text.rfind("\n", start, start + _PIECE) + 1 or start + _PIECE
                self._queue(stream, text[start:stop], task)
                start = stop
            self._queue(stream, text[start:] if start else text, task)

    def take(self) -> tuple[int, str, int] | None:
        """Return the next message, of one piece or of several that belong together; ``None``: there is none."""
        with self._lock:
            if self._dropped and not self.is_full:
                self._tell_dropped()
            if not self._pieces:
                return None
            stream, text, task = self._pieces.popleft()
            while self._pieces and self._pieces[0][0] == stream and self._pieces[0][2] == task and len(text) < _JOIN:
                text += self._pieces.popleft()[1]
            self._size -= len(text)
            return stream, text, task

    def _queue(self, stream: int, text: str, task: int) -> None:
        self._pieces.append((stream, text, task))
        self._size += len(text)

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, {}
        for (stream, task), size in dropped.items():
            text = f"... {size} characters dropped: written faster than they could be shown\n"
            self._queue(_STDERR if stream == _LOG else stream, text, task)
