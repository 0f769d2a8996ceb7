"""One connected stream socket that carries messages and never makes anybody wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from scalepool._net.framing import Unframer, header

if TYPE_CHECKING:
    import socket

__all__ = ["MessageStream"]

_CHUNK_BYTES: Final = 65_536
"""Asked for at once between messages; below the size from which the allocator maps fresh memory for each buffer."""
_BULK_BYTES: Final = 1 << 20
"""Asked for at once inside a large message."""
_JOIN_BYTES: Final = 65_536
"""Below this size copying a message behind its header is cheaper than handing over two buffers."""


class MessageStream:
    """Sends and receives messages over ``connection``, which it makes non-blocking and owns.

    What the socket does not take at once is kept and goes out with ``flush``, in order. Not thread-safe.

    Parameters
    ----------
    connection
        Connected.
    max_message_bytes
        Larger messages are not accepted from the other side.

    Attributes
    ----------
    unsent_bytes
        How much waits for the other side to read.
    """

    __slots__ = ("_connection", "_unframer", "_unsent", "unsent_bytes")

    def __init__(self, connection: socket.socket, max_message_bytes: int) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._unframer = Unframer(max_message_bytes)
        self._unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0

    @property
    def unsent(self) -> bool:
        """Whether something waits for the other side to read."""
        return bool(self._unsent)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._connection.fileno()

    def send(self, message: bytes) -> None:
        """Send, or keep for ``flush``.

        Raises
        ------
        OSError
            The other side is gone.
        """
        size = len(message)
        if size < _JOIN_BYTES:
            self._send(header(size) + message)
        else:
            self._send(header(size))
            self._send(message)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._keep(memoryview(data))
            return
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def _keep(self, data: memoryview) -> None:
        self._unsent.append(data)
        self.unsent_bytes += len(data)

    def flush(self) -> bool:
        """Send what waits, as far as the socket takes it; return whether all is gone.

        Raises
        ------
        OSError
            The other side is gone.
        """
        unsent = self._unsent
        while unsent:
            try:
                sent = self._connection.send(unsent[0])
            except BlockingIOError:
                return False
            self.unsent_bytes -= sent
            if sent < len(unsent[0]):
                unsent[0] = unsent[0][sent:]
            else:
                unsent.popleft()
        return True

    def receive(self) -> list[bytes] | None:
        """Return the messages that are complete with what is there now, perhaps none; ``None`` when no more will come.

        Raises
        ------
        ProtocolError
            What came is no message, or too large a one: the stream is of no more use.
        """
        wanted = min(max(self._unframer.missing_bytes, _CHUNK_BYTES), _BULK_BYTES)
        try:
            data = self._connection.recv(wanted)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        return self._unframer.feed(data) if data else None

    def close(self) -> None:
        """Close the socket; what waits is dropped."""
        self._unsent.clear()
        self._connection.close()
