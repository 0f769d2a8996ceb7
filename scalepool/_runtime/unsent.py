"""Values of streams that wait to travel together: they are in the flight record until they have been sent.

So whoever reads a stream gets all that was yielded before its worker was killed, whether it had been sent or not.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from scalepool._store.flight import forget_unsent, keep_unsent
from scalepool._wire import messages as m
from scalepool._wire.records import pack_yielded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._store.flight import FlightRecord

__all__ = ["Unsent", "merged"]


class Unsent:
    """Those of one worker.

    Parameters
    ----------
    flight
        The worker's record.
    """

    __slots__ = ("_flight", "_kept", "_lock", "_sent")

    def __init__(self, flight: FlightRecord) -> None:
        self._flight = flight
        self._lock = threading.Lock()  # an actor may yield in several threads
        self._kept = 0
        """How many there have ever been..."""
        self._sent = 0
        """... and how many of them have been sent for sure."""

    @property
    def some(self) -> bool:
        """Whether there may be some."""
        return self._sent != self._kept

    def keep(self, task: int, attempt: int, position: int, value: int, payload: bytes) -> bool:
        """Note one that is in the queue already; ``False``: there is no room, it must be sent at once."""
        with self._lock:
            if self._sent == self._kept:
                forget_unsent(self._flight)
            self._kept += 1
            return keep_unsent(self._flight, pack_yielded(task, attempt, position, value, payload))

    def mark(self) -> int:
        """Return what ``sent`` wants to know, when all that is in the queue now has been sent."""
        return self._kept

    def sent(self, mark: int) -> None:
        """All those have been sent that were in the queue when ``mark`` was asked for."""
        self._sent = mark


def merged(messages: Sequence[m.Message]) -> list[m.Message]:
    """Make one message of those that follow each other with values of one stream, as far as these are plain."""
    out: list[m.Message] = []
    plain: list[m.Yield] = []

    def close() -> None:
        if plain:
            values = [value for one in plain for value in one.values]
            payloads = [payload for one in plain for payload in one.payloads]
            out.append(plain[0]._replace(values=values, payloads=payloads))
            plain.clear()

    for message in messages:
        is_plain = type(message) is m.Yield and not message.references and not message.objects
        if plain and not (is_plain and message[:2] == plain[0][:2]):
            close()
        if is_plain:
            plain.append(message)  # type: ignore[arg-type]  # it is a Yield
        else:
            out.append(message)
    close()
    return out
