"""The steward of a cluster's detached actors, as the head knows it: who may be it, and when one is to be started.

Pure, a part of the switchboard. The steward comes as a host without slots, and says a word that only who has the
head's own secret can know. It is started when a program wants a detached actor for the first time; orders wait for it
meanwhile.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._core.placement import Host
    from scalepool._wire.stewards import Owned

__all__ = ["Stewardship"]

_COMES_S: Final = 30.0
"""How long a steward may take to come once it is wanted."""


class Stewardship:
    """What the head decides about it.

    Parameters
    ----------
    word
        What a steward says; empty: there can be none.

    Attributes
    ----------
    is_wanted
        Whether one is to be started; taken back by whoever does.
    trouble
        Why none could be started, of whoever has tried.
    session
        The steward's own.
    actors
        What it has told of the detached actors.
    """

    def __init__(self, word: bytes = b"") -> None:
        self._word = word
        self._wanted_at: float | None = None
        self.is_wanted = False
        self.trouble = ""
        self.session = 0
        self.actors: list[Any] = []

    def admit(self, word: bytes, present: Host | None) -> None:
        """A host without slots joins.

        Raises
        ------
        ProtocolError
            When it is not the steward, or there is one already.
        """
        if not self._word or word != self._word:
            raise ProtocolError("an agent offered no slots")
        if present is not None:
            raise ProtocolError("a second steward of detached actors came")
        self._wanted_at = None
        self.trouble = ""

    def missing(self, now: float) -> str:
        """A program wants the steward, which is not there; return why it cannot be had; empty: it is waited for."""
        if not self._word:
            return "this head cannot start the steward of detached actors"
        if self._wanted_at is None:
            self._wanted_at, self.is_wanted, self.trouble = now, True, ""
        if not self.trouble and now < self._wanted_at + _COMES_S:
            return ""
        why = self.trouble or f"it has not come within {_COMES_S:g} seconds; its log is beside the head's cluster file"
        if now >= self._wanted_at + _COMES_S or self.trouble:
            self._wanted_at = None  # the next one who wants it has it tried again
        return f"the steward of detached actors could not be started: {why}"

    def owned(self, message: Owned) -> None:
        """The steward tells what it has.

        Raises
        ------
        ProtocolError
            When that makes no sense.
        """
        try:
            actors = json.loads(message.actors)
        except ValueError as error:
            raise ProtocolError(f"the steward told what it has in a way that makes no sense: {error}") from None
        if not isinstance(actors, list):
            raise ProtocolError("the steward told what it has in a way that makes no sense")
        self.session, self.actors = message.session, actors
