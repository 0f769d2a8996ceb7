"""Messages to bytes and back, without pickle.

Layout of a message: a head of fixed size, then bodies. The head is one byte that names the kind of message and, for
each field in the order of the class, either its integer (8 bytes) or how much of it there is (4 bytes): the length of a
``bytes`` field, the number of entries of a column. The bodies follow in the same order: a ``bytes`` field as it is, a
column of integers with 8 bytes each, a column of blobs with all lengths (4 bytes each) before all bytes. All numbers
are little-endian. So an empty column, of which most messages have many, costs no more than its part of the head.

The promise that the fuzz tests hold it to: any bytes either decode to a message or raise ProtocolError.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from scalepool._wire import actors, messages
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

__all__ = ["BY_NUMBER", "MAX_MESSAGE_BYTES", "decode", "encode", "tables"]

MAX_MESSAGE_BYTES: Final = 256 << 20
"""Upper bound of one message. Payloads above the inline limit travel through the store, but where it has no descriptor
left a large argument travels inline; the bound keeps a broken peer from making the hub allocate without end."""

_INT: Final = struct.Struct("<q")
_COUNT: Final = struct.Struct("<I")
_SWAP: Final = sys.byteorder == "big"
_new: Final = tuple.__new__  # cheaper than calling the class, which takes its arguments by name

# What a field is, by its annotation in the class of the message.
_NUMBER, _BYTES, _INTS, _BLOBS = range(4)
_FIELDS: Final = {"int": _NUMBER, "bytes": _BYTES, "Ints": _INTS, "Blobs": _BLOBS}


def _kinds() -> list[type[Any]]:
    # The order of this list is the protocol: append, never insert.
    return [
        messages.Hello, messages.Welcome, messages.OpenGroup, messages.Submit, messages.StartWorkers, messages.Cancel,
        messages.CloseGroup, messages.Block, messages.Unblock, messages.Run, messages.Recall, messages.CancelTasks,
        messages.Exit, messages.Done, messages.Returned, messages.Sync, messages.InitializerFailed, messages.Output,
        messages.Replies, messages.CancelAnswer, messages.GroupClosed, messages.Release, messages.Free, messages.Put,
        messages.Enter, messages.Stop, messages.Memory, messages.Discard, messages.Trim, messages.Keep, messages.Hold,
        messages.Want, messages.Help, actors.OpenActor, actors.FindActor, actors.ActorFound, actors.EndActor,
        messages.Yield, messages.Yielded, messages.Taken, messages.Inquire, messages.Inventory, messages.Traced,
        messages.Revoke, messages.Missing,
        actors.WatchPeers, actors.PeerGone, actors.Stall, actors.Unstall, actors.Deadlock,
    ]  # fmt: skip


def _spec(kind: type[Any]) -> tuple[struct.Struct, tuple[int, ...]]:
    """Return the head of this kind of message, and what its fields are."""
    fields = tuple(_FIELDS[annotation] for annotation in kind.__annotations__.values())
    return struct.Struct("<B" + "".join("q" if field == _NUMBER else "I" for field in fields)), fields


ByNumber: TypeAlias = "list[tuple[type[Any], struct.Struct, tuple[int, ...]]]"
ByType: TypeAlias = "dict[type[Any], tuple[int, struct.Struct, tuple[int, ...]]]"


def tables(kinds: Sequence[type[Any]]) -> tuple[ByNumber, ByType]:
    """Return what ``decode`` and ``encode`` need for other messages than those between hub and peers.

    Their order is their protocol.
    """
    by_number = [(kind, *_spec(kind)) for kind in kinds]
    return by_number, {kind: (number, head, fields) for number, (kind, head, fields) in enumerate(by_number)}


BY_NUMBER, _BY_TYPE = tables(_kinds())


def encode(message: tuple[Any, ...], by_type: ByType = _BY_TYPE) -> bytes:
    """Return ``message`` as bytes."""
    number, head, fields = by_type[type(message)]
    heads = [number]
    out = [b""]
    for field, value in zip(fields, message, strict=True):
        if field == _NUMBER:
            heads.append(value)
            continue
        count = len(value)
        heads.append(count)
        if not count:
            continue
        if field == _INTS:
            # A single call has columns of one: building an array costs five times as much.
            out.append(_INT.pack(value[0]) if count == 1 else _column("q", value))
        elif field == _BYTES:
            out.append(value)
        else:
            out.append(_COUNT.pack(len(value[0])) if count == 1 else _column("I", [len(blob) for blob in value]))
            out.extend(value)
    out[0] = head.pack(*heads)
    return b"".join(out)


def _column(code: str, values: Sequence[int]) -> bytes:
    column = array(code, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def decode(data: bytes, by_number: ByNumber = BY_NUMBER) -> Message:
    """Return the message in ``data``.

    Raises
    ------
    ProtocolError
        When ``data`` is not exactly one message of this protocol.
    """
    if not data or data[0] >= len(by_number):
        raise ProtocolError("unknown kind of message" if data else "empty message")
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"message of {len(data)} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")
    kind, head, fields = by_number[data[0]]
    at = head.size
    if len(data) < at:
        raise ProtocolError(f"{kind.__name__} message ends too early")
    _, *values = head.unpack_from(data)
    for index, field in enumerate(fields):
        if field == _NUMBER:
            continue
        count = values[index]
        if not count:
            values[index] = b"" if field == _BYTES else ()
        elif field == _INTS:
            values[index], at = _numbers("q", data, at, count, 8)
        elif field == _BYTES:
            values[index] = data[at : at + count]
            at += count
        else:
            values[index], at = _blobs(data, at, count)
    if at != len(data):
        raise ProtocolError(
            f"a {kind.__name__} message ends too early"
            if at > len(data)
            else f"{len(data) - at} bytes too many after a {kind.__name__} message"
        )
    message: Message = _new(kind, values)
    return message


def _numbers(code: str, data: bytes, at: int, count: int, width: int) -> tuple[Sequence[int], int]:
    end = at + count * width
    if end > len(data):
        raise ProtocolError("a column reaches past the end of its message")
    if count == 1:
        return (_INT if width == 8 else _COUNT).unpack_from(data, at), end
    column = array(code)
    column.frombytes(data[at:end])
    if _SWAP:
        column.byteswap()
    return column.tolist(), end


def _blobs(data: bytes, at: int, count: int) -> tuple[Sequence[bytes], int]:
    lengths, at = _numbers("I", data, at, count, 4)
    if at + sum(lengths) > len(data):
        raise ProtocolError("a column of blobs reaches past the end of its message")
    blobs = []
    for length in lengths:
        end = at + length
        blobs.append(data[at:end])
        at = end
    return blobs, at
