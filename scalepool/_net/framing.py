"""Messages in a stream of bytes: eight bytes that say how long, then the message. Pure: no sockets here."""

from __future__ import annotations

import struct
from typing import Final

from scalepool.errors import ProtocolError

__all__ = ["HEADER_BYTES", "Unframer", "header"]

_HEADER: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size

header = _HEADER.pack
"""``header(size_bytes)``: what goes before a message of so many bytes."""


class Unframer:
    """Cuts what arrives into messages.

    Parameters
    ----------
    max_message_bytes
        A message that announces more is refused before any of it is kept.
    """

    __slots__ = ("_head", "_limit_bytes", "_parts", "missing_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._limit_bytes = max_message_bytes
        self._head = b""
        self._parts: list[bytes] = []
        self.missing_bytes = 0
        """What is still to come of a message whose beginning is here; 0 between messages."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what came next; return the messages that are complete now.

        Raises
        ------
        ProtocolError
            A message is announced that is larger than the limit. Nothing that follows can be understood.
        """
        messages: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if not self.missing_bytes:
                if self._head:
                    data, at, end, self._head = self._head + data[at:], 0, len(self._head) + end - at, b""
                if end - at < HEADER_BYTES:
                    self._head = data[at:]
                    break
                (size,) = _HEADER.unpack_from(data, at)
                if size > self._limit_bytes:
                    raise ProtocolError(f"a message of {size} bytes exceeds the limit of {self._limit_bytes}")
                at += HEADER_BYTES
                if size <= end - at:
                    messages.append(data[at : at + size])
                    at += size
                    continue
                self.missing_bytes = size
            part = data[at : at + self.missing_bytes]
            at += len(part)
            self._parts.append(part)
            self.missing_bytes -= len(part)
            if not self.missing_bytes:
                messages.append(b"".join(self._parts))
                self._parts.clear()
        return messages
