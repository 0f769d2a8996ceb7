"""A conversation between a session and its part on a host, over the links that there are; see `_core.conversation`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.conversation import Conversation
from scalepool._wire import cluster as c
from scalepool._wire.carrying import pack_carry, pack_said

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Talk"]


class Talk:
    """One side.

    Parameters
    ----------
    session, node
        Between which it is.
    send
        Sends to the head, which passes it on.

    Attributes
    ----------
    conversation
        What was said and heard.
    """

    __slots__ = ("_node", "_send", "_session", "conversation")

    def __init__(self, session: int, node: int, send: Callable[[bytes], object]) -> None:
        self._session = session
        self._node = node
        self._send = send
        self.conversation = Conversation()

    def say(self, message: c.ClusterMessage) -> None:
        """Have a message arrive there, once, after all that was said before."""
        self._say(c.encode(message))

    def carry(self, worker: int, data: bytes) -> None:
        """Say a `Carry`: what a worker says, or is told."""
        self._say(pack_carry(self._session, worker, data))

    def _say(self, data: bytes) -> None:
        conversation = self.conversation
        number = conversation.say(data)
        if conversation.open:
            self._send(pack_said(self._session, self._node, number, conversation.heard, data))

    def hear(self, said: c.Said) -> bytes | None:
        """Return the message in ``said``; ``None`` when it is not to be taken in (again).

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        return said.data if self.takes(said.number, said.heard, len(said.data)) else None

    def takes(self, number: int, heard: int, size_bytes: int) -> bool:
        """Return whether what was said is to be taken in: not when it came before, or others are missing.

        Parameters
        ----------
        number, heard
            As in `Said`.
        size_bytes
            How much it is.

        Raises
        ------
        ProtocolError
            When it makes no sense.
        """
        conversation = self.conversation
        if conversation.hear(number, heard, size_bytes):
            if conversation.owes:
                self._tell()
            return True
        if conversation.misses(number):
            self._ask()
        return False

    def rest(self) -> None:
        """Say what was heard, if that has not been said; call it from time to time."""
        if self.conversation.owes_at_rest:
            self._tell()

    def renew(self) -> None:
        """The way to the other side is a new one: ask for what did not come."""
        self.conversation.cut()
        self._ask()

    def resume(self, heard: int) -> None:
        """Say again what the other side has not heard.

        Raises
        ------
        ProtocolError
            When it is another one, which has heard nothing.
        """
        conversation = self.conversation
        for number, data in conversation.resume(heard):
            self._send(pack_said(self._session, self._node, number, conversation.heard, data))

    def _ask(self) -> None:
        self._send(c.encode(c.Resume(self._session, self._node, self.conversation.tell())))

    def _tell(self) -> None:
        self._send(c.encode(c.Heard(self._session, self._node, self.conversation.tell())))
