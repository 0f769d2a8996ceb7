"""One finished task as bytes: what a worker logs in its flight record, and sends in batches to the hub.

The same bytes serve both: a result is written to the flight record before the next task starts, so that it survives
the worker's SIGKILL, and the hub reads either copy with the same function.
"""

from __future__ import annotations

import struct
from typing import Final

from scalepool._base.tuples import NamedTuple
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

__all__ = ["ResultRecord", "pack_result", "unpack_result"]

_HEAD: Final = struct.Struct("<qHBBq")
"""task id, attempt, status, number of objects, microseconds in the function."""
_HEAD_BYTES: Final = _HEAD.size
_LAST_STATUS: Final = int(Status.ERROR)
"""A task that a worker finished ended with a value or an error; all other ends are for the hub to tell."""


class ResultRecord(NamedTuple):
    """How one attempt of a task ended, as its worker says."""

    task: int
    attempt: int
    status: int
    objects: int
    micros: int
    payload: bytes


_new = tuple.__new__  # half the price of ResultRecord(...), which looks at its arguments by name


def pack_result(task: int, attempt: int, status: int, objects: int, micros: int, payload: bytes) -> bytes:
    """Return the record as bytes."""
    return _HEAD.pack(task, attempt, status, objects, micros) + payload


def unpack_result(record: bytes) -> ResultRecord:
    """Return what :func:`pack_result` packed.

    Raises
    ------
    ProtocolError
        When ``record`` is shorter than a record's head, or says what no worker can know.
    """
    try:
        task, attempt, status, objects, micros = _HEAD.unpack_from(record)
    except struct.error as error:
        raise ProtocolError("a result record ends too early") from error
    if status > _LAST_STATUS or micros < 0:
        raise ProtocolError(f"a result record says that task {task} ended as {status} after {micros} us")
    return _new(ResultRecord, (task, attempt, status, objects, micros, record[_HEAD_BYTES:]))
