"""Messages to bytes and back, without pickle.

Layout of a message: one byte that names its kind, then its fields in the order of the class. An integer is 8 bytes; a
``bytes`` field has a 4-byte length before it; a column of integers has a 4-byte count; a column of blobs has its count,
then all lengths, then all bytes. All numbers are little-endian.

The promise that the fuzz tests hold it to: any bytes either decode to a message or raise ProtocolError.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from scalepool._wire import messages
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._wire.messages import Message

__all__ = ["MAX_MESSAGE_BYTES", "decode", "encode"]

MAX_MESSAGE_BYTES: Final = 256 << 20
"""Upper bound of one message. Payloads above the inline limit travel through the store, but where it has no descriptor
left a large argument travels inline; the bound keeps a broken peer from making the hub allocate without end."""

_INT: Final = struct.Struct("<q")
_COUNT: Final = struct.Struct("<I")
_ONE: Final = struct.Struct("<Iq")
_TWO: Final = struct.Struct("<II")
_SWAP: Final = sys.byteorder == "big"

_Put = Callable[[list[bytes], Any], None]
_Take = Callable[[bytes, int], tuple[Any, int]]


def _put_int(out: list[bytes], value: int) -> None:
    out.append(_INT.pack(value))


def _take_int(data: bytes, at: int) -> tuple[int, int]:
    return _INT.unpack_from(data, at)[0], at + 8


def _put_bytes(out: list[bytes], value: bytes) -> None:
    out.append(_COUNT.pack(len(value)))
    out.append(value)


def _take_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 4
    end = start + _COUNT.unpack_from(data, at)[0]
    if end > len(data):
        raise ProtocolError("a field reaches past the end of its message")
    return data[start:end], end


def _put_ints(out: list[bytes], values: Sequence[int]) -> None:
    count = len(values)
    if count == 1:
        out.append(_ONE.pack(1, values[0]))  # the single call: building an array costs five times as much
        return
    out.append(_COUNT.pack(count))
    if count:
        out.append(_column("q", values))


def _take_ints(data: bytes, at: int) -> tuple[Sequence[int], int]:
    count = _COUNT.unpack_from(data, at)[0]
    if not count:
        return (), at + 4
    if count == 1:
        return _INT.unpack_from(data, at + 4), at + 12
    return _numbers("q", data, at + 4, count, 8)


def _put_blobs(out: list[bytes], values: Sequence[bytes]) -> None:
    count = len(values)
    if count == 1:
        out.append(_TWO.pack(1, len(values[0])))
        out.append(values[0])
        return
    out.append(_COUNT.pack(count))
    if count:
        out.append(_column("I", [len(value) for value in values]))
        out.extend(values)


def _take_blobs(data: bytes, at: int) -> tuple[Sequence[bytes], int]:
    count = _COUNT.unpack_from(data, at)[0]
    if not count:
        return (), at + 4
    if count == 1:
        blob, at = _take_bytes(data, at + 4)
        return (blob,), at
    lengths, at = _numbers("I", data, at + 4, count, 4)
    if at + sum(lengths) > len(data):
        raise ProtocolError("a column of blobs reaches past the end of its message")
    blobs = []
    for length in lengths:
        blobs.append(data[at : at + length])
        at += length
    return blobs, at


def _column(code: str, values: Sequence[int]) -> bytes:
    column = array(code, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def _numbers(code: str, data: bytes, at: int, count: int, width: int) -> tuple[list[int], int]:
    end = at + count * width
    if end > len(data):
        raise ProtocolError("a column reaches past the end of its message")
    column = array(code)
    column.frombytes(data[at:end])
    if _SWAP:
        column.byteswap()
    return column.tolist(), end


_FIELDS: Final[dict[Any, tuple[_Put, _Take]]] = {
    int: (_put_int, _take_int),
    bytes: (_put_bytes, _take_bytes),
    messages.Ints: (_put_ints, _take_ints),
    messages.Blobs: (_put_blobs, _take_blobs),
}


def _kinds() -> list[type[Any]]:
    # The order of this list is the protocol: append, never insert.
    return [
        messages.Hello, messages.Welcome, messages.OpenGroup, messages.Submit, messages.StartWorkers, messages.Cancel,
        messages.CloseGroup, messages.Block, messages.Unblock, messages.Run, messages.Recall, messages.CancelTasks,
        messages.Exit, messages.Done, messages.Returned, messages.Sync, messages.InitializerFailed, messages.Output,
        messages.Replies, messages.CancelAnswer, messages.GroupClosed, messages.Release, messages.Free, messages.Put,
        messages.Enter,
    ]  # fmt: skip


def _spec(kind: type[Any]) -> list[tuple[_Put, _Take]]:
    hints = get_type_hints(kind)
    return [_FIELDS[hints[name]] for name in kind._fields]


_BY_NUMBER: Final = [(kind, [take for _, take in _spec(kind)]) for kind in _kinds()]
_BY_TYPE: Final = {kind: (bytes([number]), [put for put, _ in _spec(kind)]) for number, kind in enumerate(_kinds())}


def encode(message: Message) -> bytes:
    """Return ``message`` as bytes."""
    tag, puts = _BY_TYPE[type(message)]
    out = [tag]
    for put, value in zip(puts, message, strict=True):
        put(out, value)
    return b"".join(out)


def decode(data: bytes) -> Message:
    """Return the message in ``data``.

    Raises
    ------
    ProtocolError
        When ``data`` is not exactly one message of this protocol.
    """
    if not data or data[0] >= len(_BY_NUMBER):
        raise ProtocolError("unknown kind of message" if data else "empty message")
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"message of {len(data)} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")
    kind, takes = _BY_NUMBER[data[0]]
    values = []
    at = 1
    try:
        for take in takes:
            value, at = take(data, at)
            values.append(value)
    except struct.error as error:
        raise ProtocolError(f"{kind.__name__} message ends too early") from error
    if at != len(data):
        raise ProtocolError(f"{len(data) - at} bytes too many after a {kind.__name__} message")
    message: Message = kind(*values)
    return message
