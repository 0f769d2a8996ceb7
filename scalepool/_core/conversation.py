"""What two processes say to each other over links that break: every message arrives once, and in order.

Pure: one `Conversation` is one side of it. Messages have numbers from 1 on, and are kept until the other side says that
it has heard them: with each message of its own, or by itself when it owes that for many, or when nothing else has been
said for a while. After a break each side says what it has heard, and the other says the rest again. As long as a link
stands, it loses nothing.

What is kept is bounded by whoever speaks: ``is_full`` says when to wait.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from scalepool.errors import ProtocolError

__all__ = ["FULL_BYTES", "Conversation"]

_OWED: Final = 64
_OWED_BYTES: Final = 256 << 10
"""So much is heard before that is said by itself."""
FULL_BYTES: Final = 64 << 20
"""Who can wait before he says more does so while as much is kept."""


class Conversation:
    """One side.

    Attributes
    ----------
    open
        Whether there is a way to the other side, and it is known what that has heard.
    heard
        The number of the last message that has come.
    kept_bytes
        How much was said of which nobody knows whether it was heard.
    """

    __slots__ = ("_asked", "_kept", "_known", "_owed_bytes", "_said", "_told", "heard", "kept_bytes", "open")

    def __init__(self) -> None:
        self.open = True
        self.heard = 0
        self.kept_bytes = 0
        self._said = 0
        self._known = 0
        """The other side has heard so many."""
        self._told = 0
        """The other side was told that we had heard so many."""
        self._asked = -1
        self._owed_bytes = 0
        self._kept: deque[tuple[int, bytes]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether who can wait had better do so."""
        return self.kept_bytes > FULL_BYTES

    @property
    def owes(self) -> bool:
        """Whether to say what was heard, as it was much, and nothing was said meanwhile."""
        return self.heard - self._told >= _OWED or self._owed_bytes >= _OWED_BYTES

    @property
    def owes_at_rest(self) -> bool:
        """Whether to say what was heard when nothing else has been said for a while: else it would be kept on."""
        return self.open and self.heard > self._told

    def say(self, data: bytes) -> int:
        """Return the number of the next message. It is kept; to be sent now only where ``open``."""
        self._said += 1
        self._kept.append((self._said, data))
        self.kept_bytes += len(data)
        if self.open:
            self.tell()
        return self._said

    def tell(self) -> int:
        """Return what was heard, which the other side is told now."""
        self._told = self.heard
        self._owed_bytes = 0
        return self.heard

    def hear(self, number: int, known: int, size_bytes: int) -> bool:
        """Return whether a message is to be taken in: not when it came before, nor when others are missing.

        Raises
        ------
        ProtocolError
            When it speaks of what was never said.
        """
        self.known(known)
        if number != self.heard + 1:
            return False
        self.heard = number
        self._owed_bytes += size_bytes
        return True

    def misses(self, number: int) -> bool:
        """Whether messages before this one are missing, and that has not been said so far."""
        if number <= self.heard + 1 or self._asked == self.heard:
            return False
        self._asked = self.heard
        return True

    def known(self, number: int) -> None:
        """The other side has heard all up to this one.

        Raises
        ------
        ProtocolError
            When it cannot have.
        """
        if number > self._said:
            raise ProtocolError(f"message {number} is said to be heard, of {self._said}")
        kept = self._kept
        while kept and kept[0][0] <= number:
            self.kept_bytes -= len(kept.popleft()[1])
        self._known = max(self._known, number)

    def cut(self) -> None:
        """The way to the other side is gone, or another one: it is not known what it has heard."""
        self.open = False
        self._asked = -1

    def resume(self, heard: int) -> list[tuple[int, bytes]]:
        """The other side has heard so many, and listens again; return what to say again, with its numbers.

        Raises
        ------
        ProtocolError
            When it has forgotten what it had heard before: it is another one, and nothing can be taken up.
        """
        if heard < self._known:
            raise ProtocolError(f"the other side has forgotten what it had heard: {heard} of {self._known}")
        self.known(heard)
        self.open = True
        if self._kept:
            self.tell()
        return list(self._kept)
