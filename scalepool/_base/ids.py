"""Integer ids that are unique in a session without asking anyone.

An id is ``peer << 40 | counter``: each peer numbers its own tasks and objects, so two peers never collide and nobody
pays for a uuid (0.5-1.5 us each). 2**40 ids per peer last 12 days at a million per second; an id of peer numbers up
to 2**23 fits a signed 64-bit field of the wire and of the flight record.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

__all__ = ["COUNTER_BITS", "PEER_MAX", "IdSource", "make_id", "peer_of", "take_in_a_row"]

COUNTER_BITS = 40
PEER_MAX = (1 << 63 - COUNTER_BITS) - 1
_COUNTER_MAX = (1 << COUNTER_BITS) - 1


def make_id(peer: int, counter: int) -> int:
    """Return the id number `counter` of `peer`; ValueError when one of them is out of range."""
    if not 0 <= peer <= PEER_MAX:
        raise ValueError(f"peer number {peer} is not in 0..{PEER_MAX}")
    if not 0 <= counter <= _COUNTER_MAX:
        raise ValueError(f"counter {counter} is not in 0..{_COUNTER_MAX}")
    return peer << COUNTER_BITS | counter


def peer_of(any_id: int) -> int:
    """Return the number of the peer that made this id."""
    return any_id >> COUNTER_BITS


class IdSource:
    """Hands out the ids of one peer, from 1 on (0 never names anything).

    Parameters
    ----------
    peer
        Number of the peer, 0 to `PEER_MAX`.
    """

    __slots__ = ("peer", "take")

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.take: Callable[[], int] = itertools.count(make_id(peer, 1)).__next__
        """Returns the next id. Safe in any thread: advancing the counter is one step of the interpreter."""

    def __repr__(self) -> str:
        return f"IdSource(peer={self.peer})"


def take_in_a_row(take: Callable[[], int], count: int) -> int:
    """Take so many ids that follow each other, whoever takes some at the same time; return the first."""
    first = last = take()
    while last - first < count - 1:
        following = take()
        if following != last + 1:
            first = following
        last = following
    return first
