"""Workers' messages between their host and their hub: a `Carry` in a `Said`, packed and read in one step.

Nearly all that crosses a cluster is that. The bytes are those that ``cluster.encode`` makes of the two, without the two
messages and what lies between: a third of the time.
"""

from __future__ import annotations

import struct
from typing import Final

from scalepool._wire.cluster import CARRY, SAID
from scalepool._wire.codec import MAX_MESSAGE_BYTES

__all__ = ["pack_carry", "pack_said", "unpack_carry"]

_SAID_HEAD: Final = struct.Struct("<BqqqqI")
_CARRY_HEAD: Final = struct.Struct("<BqqI")
_BOTH: Final = struct.Struct(_SAID_HEAD.format + _CARRY_HEAD.format[1:])
_CARRY_AT: Final = _SAID_HEAD.size
_DATA_AT: Final = _BOTH.size


def pack_carry(session: int, worker: int, data: bytes) -> bytes:
    """Return a `Carry` as bytes."""
    return _CARRY_HEAD.pack(CARRY, session, worker, len(data)) + data


def pack_said(session: int, node: int, number: int, heard: int, data: bytes) -> bytes:
    """Return a `Said` as bytes."""
    return _SAID_HEAD.pack(SAID, session, node, number, heard, len(data)) + data


def unpack_carry(said: bytes) -> tuple[int, int, int, int, int, bytes] | None:
    """Return session, node, number and what was heard of a `Said`, and worker and data of the `Carry` in it.

    ``None``: it is something else, or does not make sense, which ``cluster.decode`` tells.
    """
    if len(said) < _DATA_AT or said[0] != SAID or said[_CARRY_AT] != CARRY or len(said) > MAX_MESSAGE_BYTES:
        return None
    _, session, node, number, heard, inner_bytes, _, _, worker, data_bytes = _BOTH.unpack_from(said)
    if len(said) != _DATA_AT + data_bytes or inner_bytes != len(said) - _CARRY_AT:
        return None
    return session, node, number, heard, worker, said[_DATA_AT:]
