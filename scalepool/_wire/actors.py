"""Messages about actors: how they begin, how they are found by name, how they end.

An *actor* is an object in a worker process of its own. It has the number of the group that its calls belong to, of the
first task of that group, which makes the object, and of a value that its handles refer to: so handles are counted as
references are.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TypeAlias

from scalepool._base.tuples import NamedTuple

__all__ = [
    "ActorFound",
    "ActorMessage",
    "Deadlock",
    "EndActor",
    "EndMode",
    "FindActor",
    "OpenActor",
    "PeerGone",
    "Stall",
    "Unstall",
    "WatchPeers",
]


Ints: TypeAlias = Sequence[int]
Blobs: TypeAlias = Sequence[bytes]


class EndMode(enum.IntEnum):
    """How an actor is to end."""

    KILL = 0
    RESTART = 1  # its process is killed, and it begins anew if it may
    EXIT = 2  # it says so itself


class OpenActor(NamedTuple):
    """Open an actor; the peer holds its value. With a ``name`` it is answered by ActorFound.

    The first task of the group ``actor`` has the same number, and makes the object. Its own tasks share the workers of
    the tree of the group ``home``. After the death of its process it may begin anew ``max_restarts`` times (-1: any
    number of times). It runs up to ``concurrency`` calls at once. ``detached``: it lives without handles, too.
    ``label`` is for messages; ``meta`` is what makes a handle, for whoever finds it by its name. Each of its processes
    holds ``amounts`` of ``resources``, as in OpenGroup.
    """

    actor: int
    home: int
    spec: bytes
    max_restarts: int
    concurrency: int
    detached: int
    name: bytes
    label: bytes
    meta: bytes
    resources: Blobs = ()
    amounts: Ints = ()


class FindActor(NamedTuple):
    """Which actor has this name? Answered by ActorFound with the same ``request``."""

    request: int
    name: bytes


class ActorFound(NamedTuple):
    """The actor with that name (0: none), whose value the peer holds now."""

    request: int
    actor: int
    meta: bytes


class EndActor(NamedTuple):
    """End an actor; ``mode`` is an EndMode."""

    actor: int
    mode: int


class WatchPeers(NamedTuple):
    """The peer wants to be told of each worker that is gone, by PeerGone."""


class PeerGone(NamedTuple):
    """The process of this worker is no more; what it had sent has been taken in."""

    peer: int


class Stall(NamedTuple):
    """A thread of an actor, running the call ``task``, waits; ``whole``: it is the one that all calls run in.

    ``number`` is the actor's own for this wait; the rest as in Block.
    """

    number: int
    task: int
    whole: int
    wanted: Ints
    needed: int
    label: bytes


class Unstall(NamedTuple):
    """The wait with this number is over."""

    number: int


class Deadlock(NamedTuple):
    """The wait with this number, of a thread of an actor or of the peer's main thread, can never end: fail it."""

    number: int
    is_thread: int
    text: bytes


ActorMessage: TypeAlias = (
    OpenActor | FindActor | ActorFound | EndActor | WatchPeers | PeerGone | Stall | Unstall | Deadlock
)
