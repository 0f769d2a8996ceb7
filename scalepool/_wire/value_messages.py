"""The messages about values that the hub keeps, and about streams of them; see ``messages``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from scalepool._base.tuples import NamedTuple

__all__ = ["Hold", "Keep", "Missing", "Taken", "Want", "Yield", "Yielded"]

Ints: TypeAlias = Sequence[int]
Blobs: TypeAlias = Sequence[bytes]


# ---- values --------------------------------------------------------------------------------------------------------


class Keep(NamedTuple):
    """The peer made a value, and holds it; ``references`` are what it refers to, ``objects`` the new ones of them.

    ``status`` is VALUE, or ERROR for one that raises when it is read. Where ``task`` is not 0 it is what this attempt
    of a task with ``num_returns="dynamic"`` has yielded at ``position``, counted from 0.
    """

    value: int
    payload: bytes
    references: Ints = ()
    objects: Ints = ()
    status: int = 0
    task: int = 0
    attempt: int = 0
    position: int = 0


class Hold(NamedTuple):
    """The peer has references to these values, which came in what a task or another value brought it."""

    values: Ints


class Want(NamedTuple):
    """Tell the peer, by Replies, how each of these values ends; it holds them."""

    values: Ints


class Missing(NamedTuple):
    """The peer was told that ``value`` is there, and cannot read these ``objects`` that it lies in.

    Answered as Want is: once the value has been made again, or cannot be.
    """

    value: int
    objects: Ints


# ---- streams -------------------------------------------------------------------------------------------------------


class Yield(NamedTuple):
    """The worker's task, a stream, made values, the first at this position, counted from 0; the rest as in Keep.

    Where there are ``references`` or ``objects`` it is one value.
    """

    task: int
    attempt: int
    position: int
    values: Ints
    payloads: Blobs
    references: Ints = ()
    objects: Ints = ()


class Yielded(NamedTuple):
    """The next values of a stream that the peer reads; it holds them. Rows of Replies follow that say what they are."""

    task: int
    values: Ints


class Taken(NamedTuple):
    """The reader has taken so many values of a stream; passed on to its worker, which may make more of them.

    -1, from the hub: nobody wants any more.
    """

    task: int
    taken: int
