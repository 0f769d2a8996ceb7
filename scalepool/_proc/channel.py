"""Framed messages, with file descriptors, over the Unix stream socket between a driver and a zygote.

A frame is a fixed prefix (lengths of header and body, number of descriptors), a JSON header and an opaque body.
No pickle: the zygote must not run code because of what it reads.

Guarantees: frames arrive whole and in order, or not at all; descriptors arrive with the frame they were sent with,
close-on-exec; neither side ever blocks (what does not fit into the socket waits in a queue until ``flush``).

The zygote imports this module, so every import here is paid at start-up: no ``dataclasses``, ``typing`` or
``threading`` (together as long as the bare interpreter's start).
"""

from __future__ import annotations

import _thread
import errno
import json
import os
import socket
import struct
from collections import deque

from scalepool.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_PREFIX = struct.Struct("!IIB")
# A header holds names and paths (sys.path, modules to preload); 1 MiB is far beyond any of them.
MAX_HEADER_BYTES = 1 << 20
# A body is a worker's configuration with the user's initializer arguments in it; a length above this is garbage.
MAX_BODY_BYTES = 1 << 30
MAX_FDS = 8
_CHUNK_BYTES = 1 << 18
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_FDS * 4)
# ETOOMANYREFS: as many descriptors in flight as the user may have open; it passes when the peer reads.
_TRY_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ETOOMANYREFS, errno.ENOBUFS})


class Frame:
    """One received message.

    Attributes
    ----------
    op
        What is asked or told.
    fields
        The rest of the JSON header.
    body
        Opaque bytes.
    fds
        Descriptors that came along; the receiver owns them.
    fds_lost
        True when the kernel could not install the descriptors here (the process has too many open).
    """

    __slots__ = ("body", "fds", "fds_lost", "fields", "op")

    def __init__(self, fields: dict[str, Any], body: bytes, fds: tuple[int, ...] = (), fds_lost: bool = False) -> None:
        self.op = str(fields.get("op", ""))
        self.fields = fields
        self.body = body
        self.fds = fds
        self.fds_lost = fds_lost

    def __repr__(self) -> str:
        return f"<Frame {self.op} {len(self.body)} B, fds {self.fds}>"


def encode_prefix(fields: dict[str, Any], body_bytes: int, fd_count: int) -> bytes:
    """Return prefix and header of a frame whose body of ``body_bytes`` follows.

    Raises
    ------
    ProtocolError
        When a part is larger than the receiver would accept.
    """
    header = json.dumps(fields, separators=(",", ":")).encode("ascii")
    if len(header) > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES or fd_count > MAX_FDS:
        raise ProtocolError(f"frame too large: header {len(header)} B, body {body_bytes} B, {fd_count} descriptors")
    return _PREFIX.pack(len(header), body_bytes, fd_count) + header


class FrameReader:
    """Cuts a byte stream into frames; knows no socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        # One group per frame that carries descriptors, in order: a receive never spans two of them (unix(7)).
        self._fd_groups: deque[tuple[int, ...]] = deque()

    def add_fds(self, fds: Iterable[int]) -> None:
        """Note the descriptors that came with the next bytes; an empty group when the kernel dropped them."""
        self._fd_groups.append(tuple(fds))

    def feed(self, data: bytes) -> list[Frame]:
        """Append ``data`` and return the frames that are complete now.

        Raises
        ------
        ProtocolError
            When the bytes cannot be a frame; the stream is unusable from then on.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _PREFIX.size:
            header_bytes, body_bytes, fd_count = _PREFIX.unpack_from(buffer, start)
            if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES or fd_count > MAX_FDS:
                raise ProtocolError(f"impossible frame: header {header_bytes} B, body {body_bytes} B, {fd_count} fds")
            body_at = start + _PREFIX.size + header_bytes
            if len(buffer) < body_at + body_bytes:
                break
            fields = _decode_header(buffer[start + _PREFIX.size : body_at])
            frames.append(self._frame(fields, bytes(buffer[body_at : body_at + body_bytes]), fd_count))
            start = body_at + body_bytes
        del buffer[:start]
        return frames

    def discard_fds(self) -> None:
        """Close the descriptors of frames that will never be complete."""
        while self._fd_groups:
            close_fds(self._fd_groups.popleft())

    def _frame(self, fields: dict[str, Any], body: bytes, fd_count: int) -> Frame:
        if not fd_count:
            return Frame(fields, body)
        fds = self._fd_groups.popleft() if self._fd_groups else ()
        if len(fds) == fd_count:
            return Frame(fields, body, fds)
        close_fds(fds)
        return Frame(fields, body, fds_lost=True)


class Channel:
    """One end of the socket. ``send`` may be called from any thread, ``receive`` from one.

    Parameters
    ----------
    sock
        A connected AF_UNIX stream socket; the channel owns it from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader()
        self._out: deque[_Outgoing] = deque()
        self._lock = _thread.allocate_lock()
        self._finish = False
        self.eof = False

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def has_backlog(self) -> bool:
        """True while queued frames wait for the socket to become writable."""
        return bool(self._out)

    def send(
        self, fields: dict[str, Any], body: bytes = b"", fds: Sequence[int] = (), close_after: Sequence[int] = ()
    ) -> bool:
        """Queue one frame and write what the socket takes.

        Parameters
        ----------
        fields
            The JSON header, with its ``op``.
        body
            Opaque bytes; kept by reference until written.
        fds
            Descriptors to pass; they must stay open until they are sent.
        close_after
            Descriptors that the channel closes once the frame is sent or given up.

        Returns
        -------
        bool
            False when a backlog remains: call ``flush`` when the socket is writable.
        """
        prefix = encode_prefix(fields, len(body), len(fds))
        with self._lock:
            self._out.append(_Outgoing(prefix, body, fds, close_after))
        return self.flush()

    def flush(self) -> bool:
        """Write what the socket takes; True when nothing is left. A vanished peer empties the queue."""
        with self._lock:
            while self._out:
                try:
                    done = self._out[0].write(self._sock)
                except OSError as error:
                    if error.errno in _TRY_LATER:
                        return False
                    # The peer is gone (EPIPE, ECONNRESET) or we are closed (EBADF): receive() tells, with EOF.
                    self._drop_queue()
                    return True
                if done:
                    self._out.popleft().close_fds()
            if self._finish:
                self._shutdown_writing()
            return True

    def finish(self) -> bool:
        """Send EOF after what is queued. Unlike ``close``, effective even where a forked copy of the socket exists."""
        self._finish = True
        return self.flush()

    def receive(self) -> list[Frame]:
        """Return every frame that is complete; sets ``eof`` when no more can come.

        Raises
        ------
        ProtocolError
            When the peer's bytes are not frames.
        """
        frames: list[Frame] = []
        while not self.eof:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(_CHUNK_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                break
            except ConnectionError:
                data, ancillary, flags = b"", [], 0
            if ancillary or flags & socket.MSG_CTRUNC:
                self._reader.add_fds(_unpack_fds(ancillary))
            if data:
                frames += self._reader.feed(data)
            else:
                self.eof = True
        return frames

    def close(self) -> None:
        """Close the socket and every descriptor that is still queued on either side."""
        with self._lock:
            self._drop_queue()
            self._reader.discard_fds()
            self.eof = True
            self._sock.close()

    def _drop_queue(self) -> None:
        while self._out:
            self._out.popleft().close_fds()

    def _shutdown_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            # ENOTCONN: the peer went first; EBADF: closed already. Either way it has its EOF.
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise


class _Outgoing:
    """A frame on its way out."""

    __slots__ = ("_ancillary", "_buffers", "_close_after")

    def __init__(self, prefix: bytes, body: bytes, fds: Sequence[int], close_after: Sequence[int]) -> None:
        self._buffers = [memoryview(part) for part in (prefix, body) if part]
        rights = struct.pack(f"{len(fds)}i", *fds)
        self._ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if fds else []
        self._close_after = tuple(close_after)

    def write(self, sock: socket.socket) -> bool:
        # MSG_NOSIGNAL: command line tools set SIGPIPE to its default, and a dead zygote must not kill the driver.
        sent = sock.sendmsg(self._buffers, self._ancillary, socket.MSG_NOSIGNAL)
        self._ancillary = []
        while self._buffers and sent >= len(self._buffers[0]):
            sent -= len(self._buffers.pop(0))
        if self._buffers:
            self._buffers[0] = self._buffers[0][sent:]
        return not self._buffers

    def close_fds(self) -> None:
        close_fds(self._close_after)


def close_fds(fds: Iterable[int]) -> None:
    """Close each descriptor."""
    for fd in fds:
        os.close(fd)


def _decode_header(data: bytearray) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise ProtocolError(f"frame header is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError(f"frame header is a {type(fields).__name__}, not an object")
    return fields


def _unpack_fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    return fds
