"""One finished task as bytes: what a worker logs in its flight record, and sends in batches to the hub.

The same bytes serve both: a result is written to the flight record before the next task starts, so that it survives
the worker's SIGKILL, and the hub reads either copy with the same function.

Most results are one payload. One that makes several values, or that has references in it, is a list of parts; all of
them travel in the one record, so that either all values of a task are there or none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "MISSING",
    "PARTS",
    "YIELDED",
    "Part",
    "ResultRecord",
    "has_parts",
    "note_objects",
    "object_count",
    "pack_missing",
    "pack_parts",
    "pack_result",
    "pack_stream_end",
    "pack_yielded",
    "split_noted",
    "unpack_missing",
    "unpack_parts",
    "unpack_result",
    "unpack_stream_end",
    "unpack_yielded",
]

_HEAD: Final = struct.Struct("<qHBBq")
"""task id, attempt, status, number of objects, microseconds in the function."""
_HEAD_BYTES: Final = _HEAD.size
_STATUS_AT: Final = 10
_LAST_STATUS: Final = int(Status.ERROR)
"""A task that a worker finished ended with a value or an error; all other ends are for the hub to tell."""
PARTS: Final = 0x80
"""In place of a status: the task ended with a value, and its payload is a list of parts, which count the objects."""
MISSING: Final = 0x81
"""In place of a status: the task could not begin, as a value that it needs cannot be read; see `pack_missing`."""
YIELDED: Final = 0x82
"""In place of a status: the task has not ended, but has yielded a value that waited to be sent; see `pack_yielded`."""
_YIELDED: Final = struct.Struct("<qq")
_MISSING: Final = struct.Struct("<qq")
_NOTED: Final = 0x40
"""Added to the status of a record in a log that has the numbers of its objects behind it."""
_OBJECT: Final = struct.Struct("<qq")
_COUNT: Final = struct.Struct("<I")
_SENT: Final = struct.Struct("<Q")
_PART: Final = struct.Struct("<III")
"""Bytes of payload, number of objects, number of references."""


class ResultRecord(NamedTuple):
    """How one attempt of a task ended, as its worker says."""

    task: int
    attempt: int
    status: int
    objects: int
    micros: int
    payload: bytes


class Part(NamedTuple):
    """One of the values that a task made; ``references`` are the values and objects that it refers to."""

    payload: bytes
    objects: int = 0
    references: Sequence[int] = ()


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
        if status not in _CHECKS or micros < 0 or objects:
            raise ProtocolError(f"a result record says that task {task} ended as {status} after {micros} us")
        _CHECKS[status](record[_HEAD_BYTES:])  # here, while nothing has been believed yet
    return _new(ResultRecord, (task, attempt, status, objects, micros, record[_HEAD_BYTES:]))


def has_parts(record: bytes) -> bool:
    """Whether the payload of a record is a list of parts."""
    return record[_STATUS_AT] == PARTS


def note_objects(record: bytes, objects: Sequence[tuple[int, int]]) -> bytes:
    """Return a record for the log: with it the ids and sizes of its objects, which else travel in its message."""
    noted = [_OBJECT.pack(*one) for one in objects]
    status = bytes((record[_STATUS_AT] | _NOTED,))
    return b"".join([record[:_STATUS_AT], status, record[_STATUS_AT + 1 :], *noted, _COUNT.pack(len(noted))])


def split_noted(logged: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a record and the ids and sizes of its objects; none where they are not noted, or that makes no sense."""
    if len(logged) <= _HEAD_BYTES or not logged[_STATUS_AT] & _NOTED:
        return logged, []
    status = bytes((logged[_STATUS_AT] ^ _NOTED,))
    end = len(logged) - _COUNT.size
    start = end - _OBJECT.size * _COUNT.unpack_from(logged, end)[0] if end >= _HEAD_BYTES else -1
    if start < _HEAD_BYTES:
        return logged, []  # as unreadable as it is
    record = logged[:_STATUS_AT] + status + logged[_STATUS_AT + 1 : start]
    return record, list(_OBJECT.iter_unpack(logged[start:end]))


def object_count(result: ResultRecord) -> int:
    """How many objects a result has."""
    return sum(part.objects for part in unpack_parts(result.payload)) if result.status == PARTS else result.objects


def pack_parts(parts: Sequence[Part]) -> bytes:
    """Return the payload of a record whose status is ``PARTS``."""
    references = [reference for part in parts for reference in part.references]
    flat = struct.pack(f"<{len(references)}q", *references)
    heads = [_PART.pack(len(part.payload), part.objects, len(part.references)) for part in parts]
    return b"".join([_COUNT.pack(len(parts)), *heads, flat, *(part.payload for part in parts)])


def unpack_parts(data: bytes) -> list[Part]:
    """Return what :func:`pack_parts` packed: one part at least.

    Raises
    ------
    ProtocolError
        When ``data`` is anything else.
    """
    try:
        (count,) = _COUNT.unpack_from(data)
        start = _COUNT.size + count * _PART.size
        heads = list(_PART.iter_unpack(data[_COUNT.size : start]))
    except struct.error as error:
        raise ProtocolError("the parts of a result end too early") from error
    total = sum(references for _, _, references in heads)
    at = start + 8 * total
    if not count or len(heads) != count or len(data) != at + sum(size for size, _, _ in heads):
        raise ProtocolError(f"{len(data)} bytes are not the {count} parts of a result that they should be")
    flat = struct.unpack_from(f"<{total}q", data, start)
    parts = []
    first = 0
    for size, objects, references in heads:
        parts.append(Part(data[at : at + size], objects, flat[first : first + references]))
        at += size
        first += references
    return parts


def pack_missing(value: int, object_id: int) -> bytes:
    """Return the payload of a record whose status is ``MISSING``: the value, and the object of it that is lost."""
    return _MISSING.pack(value, object_id)


def unpack_missing(data: bytes) -> tuple[int, int]:
    """Return what :func:`pack_missing` packed.

    Raises
    ------
    ProtocolError
        When ``data`` is anything else.
    """
    if len(data) != _MISSING.size:
        raise ProtocolError(f"{len(data)} bytes do not say which value is missing")
    value, object_id = _MISSING.unpack(data)
    return int(value), int(object_id)


def pack_stream_end(sent: int, payload: bytes) -> bytes:
    """Return the payload of the record with which a stream ends: it also says how many values were sent before."""
    return _SENT.pack(sent) + payload


def unpack_stream_end(data: bytes) -> tuple[int, bytes]:
    """Return what :func:`pack_stream_end` packed; where ``data`` is something else, more values than there can be."""
    if len(data) < _SENT.size:
        return 1 << 63, b""
    return int(_SENT.unpack_from(data)[0]), data[_SENT.size :]


def pack_yielded(task: int, attempt: int, position: int, value: int, payload: bytes) -> bytes:
    """Return a record whose status is ``YIELDED``: the value at this position of a stream."""
    return _HEAD.pack(task, attempt, YIELDED, 0, 0) + _YIELDED.pack(position, value) + payload


def unpack_yielded(data: bytes) -> tuple[int, int, bytes]:
    """Return the position, the value and its payload, given the payload of a record that ``pack_yielded`` packed.

    Raises
    ------
    ProtocolError
        When ``data`` is anything else.
    """
    if len(data) < _YIELDED.size:
        raise ProtocolError(f"{len(data)} bytes do not say what a stream has yielded")
    position, value = _YIELDED.unpack_from(data)
    return int(position), int(value), data[_YIELDED.size :]


_CHECKS: Final[dict[int, Callable[[bytes], object]]] = {
    PARTS: unpack_parts,
    MISSING: unpack_missing,
    YIELDED: unpack_yielded,
}
