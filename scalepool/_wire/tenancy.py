"""What is said about hosts that leave a cluster, and about how programs share it; see ``cluster`` for the rest."""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple

__all__ = ["Drain", "Drained", "Leave", "Share", "Shift", "Wants"]


class Drain(NamedTuple):
    """A host is to leave the cluster when what runs there has ended, or after so many milliseconds.

    A driver names it by number or name; an agent says it of its own host, without. Who asks as a driver is answered by
    Drained.
    """

    node: int
    host: bytes
    limit_ms: int


class Drained(NamedTuple):
    """The answer: ``node`` leaves, 0: there is no such host, or several; ``text`` says it to a person."""

    node: int
    text: bytes


class Leave(NamedTuple):
    """The head tells an agent that nothing is left on its host: it may end."""


class Wants(NamedTuple):
    """A driver could have so many workers at work now."""

    session: int
    workers: int


class Share(NamedTuple):
    """The head tells a driver how many of its workers may be at work, since others want some, too; 0: any number."""

    session: int
    workers: int


class Shift(NamedTuple):
    """The head tells a driver that so many of its workers would be better placed on another host."""

    session: int
    source: int
    target: int
    workers: int
