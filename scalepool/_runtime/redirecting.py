"""Where a worker's stdout and stderr lead, at both levels: Python's streams, and the descriptors below them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from scalepool._proc import child
from scalepool._runtime.logs import forward
from scalepool._runtime.output import LOG, TaskOutput
from scalepool._store.flight import note_passed
from scalepool._store.written import Written
from scalepool._wire import messages as m
from scalepool._wire.codec import encode

if TYPE_CHECKING:
    from scalepool._net.channel import PeerChannel
    from scalepool._runtime.outlet import Outlet
    from scalepool._runtime.worker import WorkerStation
    from scalepool._store.flight import FlightRecord

__all__ = ["end_output", "redirect_output", "send_output"]


def send_output(channel: PeerChannel, output: Outlet) -> None:
    """Send what was printed."""
    while (piece := output.take()) is not None:
        stream, text, task = piece
        channel.send(encode(m.Output(stream, text.encode("utf-8", "surrogatepass"), task)))


def redirect_output(station: WorkerStation, flight: FlightRecord, mode: str) -> None:
    """From now on what is printed, logged, or written to the descriptors 1 and 2 goes to the driver.

    Parameters
    ----------
    station
        Sends it.
    flight
        Keeps what was said last.
    mode
        The setting ``worker_output``.
    """
    is_shown = mode != "off"
    out = TaskOutput(1, station.output, is_shown=is_shown)
    err = TaskOutput(2, station.output, is_shown=is_shown)
    err.keep = flight.keep_words
    out.written, err.written = files = [Written(fd) for fd in child.outputs]
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file.fd, number)
    child.pass_on_lines()
    marks = _Marks(flight, files, out)
    station.note_passed = marks.sent
    err.switched = marks.switched  # the second of the two
    sys.stdout, sys.stderr = out, err
    station.streams = (out, err)
    resume = _nothing
    if is_shown:
        put = station.output.put
        resume = forward(lambda text: put(LOG, text + "\n", 0))

    def in_child() -> None:
        end_output(station)
        resume()

    os.register_at_fork(after_in_child=in_child)


def end_output(station: WorkerStation) -> None:
    """What is printed from now on is written to the descriptors: nobody sends it, but the zygote finds it there."""
    for number, stream in zip((1, 2), station.streams, strict=False):
        stream.leave_to(os.fdopen(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False))


class _Marks:
    """Keeps in the flight record what of the two files has been sent, and whom the rest belongs to."""

    def __init__(self, flight: FlightRecord, files: list[Written], stream: TaskOutput) -> None:
        self._flight = flight
        self._files = files
        self._stream = stream
        self._sent = (0, 0)

    def sent(self) -> None:
        """What has been taken from the files has been sent."""
        out, err = self._files
        self._sent = out.position, err.position
        self.switched()

    def switched(self) -> None:
        """Another task begins, or goes on."""
        note_passed(self._flight, *self._sent, self._stream.task)


def _nothing() -> None:
    pass
