"""A worker of a few lines at the other end of a pipe: enough to see what values do between two processes.

`Peer` starts one; run as a script this file is one. A request is (function, args) as a payload; the answer is a result
payload or an exception record.
"""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from scalepool._wire.payload import Payload, dumps, loads
from scalepool._wire.pickling.exceptions import decode_exception, encode_exception, encode_result
from scalepool._wire.pickling.exchange import Exchange, current, install
from scalepool._wire.pickling.traceback_text import format_traceback
from scalepool.errors import RemoteTraceback

if TYPE_CHECKING:
    from typing_extensions import Self

DRIVER = 7
THRESHOLD = 1 << 16


def write(stream: BinaryIO, kind: str, payload: Payload | bytes) -> None:
    parts = (kind, payload) if isinstance(payload, bytes) else (kind, payload.data, *map(bytes, payload.buffers))
    frame = pickle.dumps(parts)
    stream.write(struct.pack("<q", len(frame)) + frame)
    stream.flush()


def read(stream: BinaryIO) -> tuple[Any, ...]:
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack("<q", head)[0]))


class Peer:
    """A second process that calls what it is sent."""

    def __init__(self, number: int = 8) -> None:
        if current().sender == 0:
            install(Exchange(DRIVER))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def send(self, function: Any, *args: Any) -> None:
        assert self._process.stdin is not None
        write(self._process.stdin, "call", dumps((function, args), oob_threshold=THRESHOLD))

    def send_raw(self, data: bytes) -> None:
        assert self._process.stdin is not None
        write(self._process.stdin, "call", data)

    def receive(self) -> Any:
        assert self._process.stdout is not None
        kind, data, *buffers = read(self._process.stdout)
        if kind == "error":
            raise decode_exception(data, RemoteTraceback)
        return loads(data, [bytearray(buffer) for buffer in buffers])

    def call(self, function: Any, *args: Any) -> Any:
        self.send(function, *args)
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def main() -> None:
    exchange = Exchange(int(sys.argv[1]))
    install(exchange)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    exchange.namespaces.install_main()
    while True:
        try:
            _, data, *buffers = read(source)
        except EOFError:
            return
        try:
            function, args = loads(data, [bytearray(buffer) for buffer in buffers])
            write(sink, "value", encode_result(function(*args), oob_threshold=THRESHOLD, reader=DRIVER))
        except BaseException as error:
            write(sink, "error", encode_exception(error, format_traceback(error), reader=DRIVER))


if __name__ == "__main__":
    main()
