"""What programs and the steward of a cluster say to each other about detached actors.

The *steward* is a process beside the head that owns the detached actors. To a program it looks like a host without room
for tasks; on it the program has *gates*, each the stand-in of one detached actor, to which the program's hub says what
it would say to the actor's worker. The steward passes calls and results on, and unpickles nothing: what is in here is
bytes in a row, and JSON.

A gate's calls are told apart by the first byte of their function: an *operation* of the gate itself, a *call* of a
method with its terms in front, or else what makes the object.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ATTACH", "GATE", "STEWARD", "Operation", "Owned", "Way", "joined", "operation_of", "parted", "way_of"]

STEWARD: Final = -1
"""In place of a host's number, where a worker is ordered: the steward."""
GATE: Final = b"\xff\xff\xff\xffgate"
"""What a gate's worker is to be; no spec of a worker begins like that."""

ATTACH: Final = b"\x00attach"
"""In place of the function that makes the object, where the gate's own hub wants one."""

_OPERATION: Final = b"\x00"
_CALL: Final = b"\x02"
_LENGTH: Final = struct.Struct("<I")


class Owned(NamedTuple):
    """The steward tells the head which session is its own, and which actors there are, as JSON."""

    session: int
    actors: bytes


class Operation(enum.Enum):
    """What a gate is asked itself."""

    FIND = "find"  # name -> what a handle needs; empty: there is none
    OPEN = "open"  # an OpenActor, and the code that its program has -> see `gates`
    CODE = "code"  # a bundle of code
    KILL = "kill"  # an EndMode

    @property
    def function(self) -> bytes:
        """What stands in place of the function that is called."""
        return _OPERATION + self.value.encode()


class Way(NamedTuple):
    """A call of a method.

    Attributes
    ----------
    label
        What errors call it.
    retries, limit_s
        Its terms, which are the steward's hub's to keep.
    function
        The method, packed as for a worker.
    """

    label: str
    retries: int
    limit_s: float
    function: bytes

    def encode(self) -> bytes:
        """Return what stands in place of the function that is called."""
        return _CALL + joined([json.dumps([self.label, self.retries, self.limit_s]).encode(), self.function])


def operation_of(function: bytes) -> Operation | None:
    """Return which operation is called; ``None``: none.

    Raises
    ------
    ProtocolError
        When there is no such operation.
    """
    if function[:1] != _OPERATION:
        return None
    try:
        return Operation(function[1:].decode())
    except ValueError:
        raise ProtocolError(f"a gate cannot do {function[1:33]!r}") from None


def way_of(function: bytes) -> Way | None:
    """Return the call of a method; ``None``: it is something else.

    Raises
    ------
    ProtocolError
        When it makes no sense.
    """
    if function[:1] != _CALL:
        return None
    try:
        terms, method = parted(function[1:])
        label, retries, limit_s = json.loads(terms)
        way = Way(str(label), int(retries), float(limit_s), method)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"not a call of a method: {error}") from None
    if way.retries < 0 or not 0 <= way.limit_s < float("inf"):
        raise ProtocolError("a call of a method with a negative number in its terms")
    return way


def joined(parts: Sequence[bytes]) -> bytes:
    """Return bytes in a row as bytes."""
    return b"".join(one for part in parts for one in (_LENGTH.pack(len(part)), part))


def parted(data: bytes) -> list[bytes]:
    """Return what ``joined`` was given.

    Raises
    ------
    ProtocolError
        When ``data`` is anything else.
    """
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ProtocolError("bytes in a row end too early")
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            raise ProtocolError("bytes in a row end too early")
        parts.append(data[at : at + size])
        at += size
    return parts
