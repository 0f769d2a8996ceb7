"""What the processes of a cluster say so that work survives a link, and a head: who was here, and what was heard.

Part of `scalepool._wire.cluster`, where all messages between them are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from scalepool._base.tuples import NamedTuple

__all__ = ["Again", "Drop", "Heard", "Joined", "Renew", "Reopen", "Resume", "Said", "Stranger"]

Ints: TypeAlias = Sequence[int]
Blobs: TypeAlias = Sequence[bytes]


# ---- who was here before -------------------------------------------------------------------------------------------


class Stranger(NamedTuple):
    """The head does not know who says that: introduce yourself, as on a new link."""


class Again(NamedTuple):
    """An agent that was here before, as that ``node``, and has these sessions, with their tokens. Its Offer follows."""

    node: int
    sessions: Ints
    tokens: Blobs


class Joined(NamedTuple):
    """To an agent: it is that node. If it was another before, what it has is nobody's any more."""

    node: int


class Reopen(NamedTuple):
    """A driver that was here before, with that session. Answered by Opened, or by End when it is over.

    ``nodes`` are those that it speaks with, ``workers`` pairs of a worker and its node, and ``orders`` for each of
    these workers the Launch that it was placed by.
    """

    session: int
    settings: bytes
    token: bytes
    nodes: Ints
    workers: Ints
    orders: Blobs


# ---- what was heard ------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """A message of the conversation between a session and its part on ``node``; see `scalepool._core.conversation`.

    ``heard`` of the other side's have come. ``data`` is one of the messages about workers and objects.
    """

    session: int
    node: int
    number: int
    heard: int
    data: bytes


class Heard(NamedTuple):
    """So many have come."""

    session: int
    node: int
    heard: int


class Resume(NamedTuple):
    """So many have come; the rest is to be said (again)."""

    session: int
    node: int
    heard: int


class Renew(NamedTuple):
    """The head, to both sides: the way between you is a new one. Say Resume."""

    session: int
    node: int


class Drop(NamedTuple):
    """A driver has given up its part on ``node``, as nobody there knows of it any more."""

    session: int
    node: int
