"""The one place where user code runs: call a task, capture how it ended, log that before the next one starts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scalepool._base.ids import peer_of
from scalepool._runtime.packing import Packed, Packer
from scalepool._wire.messages import Status
from scalepool._wire.pickling.exceptions import ResultEncodingError, encode_exception
from scalepool._wire.pickling.traceback_text import format_traceback
from scalepool._wire.records import pack_result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalepool._store.files import SegmentRef
    from scalepool._store.flight import FlightRecord

__all__ = ["Executor", "FunctionSlot", "WorkItem"]


class FunctionSlot:
    """A function as it came, loaded when it is first called."""

    __slots__ = ("_data", "_fn", "_places")

    def __init__(self, data: bytes, places: Mapping[int, SegmentRef]) -> None:
        self._data = data
        self._places = places
        self._fn: Callable[..., Any] | None = None

    def load(self, packer: Packer) -> Callable[..., Any]:
        """Return the function; raises what loading it raises."""
        if self._fn is None:
            self._fn = packer.unpack(self._data, self._places)
        return self._fn


class WorkItem:
    """One task as the worker holds it."""

    __slots__ = ("attempt", "group", "payload", "places", "references", "slot", "task")

    def __init__(
        self, task: int, attempt: int, group: int, slot: FunctionSlot, payload: bytes, places: Mapping[int, SegmentRef]
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.group = group
        self.slot = slot
        self.payload = payload
        self.places = places
        self.references: Sequence[int] = ()


class Executor:
    """Runs tasks of one worker, one inside another where a task waits for its own.

    Parameters
    ----------
    packer
        Packs results and unpacks arguments.
    flight
        Where started tasks and finished results are logged, so that they survive a SIGKILL.
    make_room
        Called when the log is full; returns when the hub has everything that is in it.
    sender_of
        Returns the sender number of a peer, see ``Exchange``.
    """

    def __init__(
        self, packer: Packer, flight: FlightRecord, make_room: Callable[[], None], sender_of: Callable[[int], int]
    ) -> None:
        self._sender_of = sender_of
        self._packer = packer
        self._flight = flight
        self._make_room = make_room
        self.group = 0
        self.depth = 0

    def run(self, item: WorkItem) -> tuple[bytes, Packed]:
        """Run one task; return its result record and what was packed for it."""
        outer_group, self.group = self.group, item.group
        self.depth += 1
        self._flight.begin(item.task)
        try:
            status, packed, micros = self._call(item)
            # What else the result refers to (a SharedBuffer) is not made here: who made it keeps it.
            objects = int(packed.segment is not None)
            record = pack_result(item.task, item.attempt, status, objects, micros, packed.data)
            while not self._flight.log_result(record):
                self._make_room()
        finally:
            self._flight.end(item.task)
            self.depth -= 1
            self.group = outer_group
        return record, packed

    def _call(self, item: WorkItem) -> tuple[int, Packed, int]:
        # Who submitted the task reads its result, and knows its own classes by their ids.
        reader = self._sender_of(peer_of(item.task))
        started = time.perf_counter()
        try:
            fn = item.slot.load(self._packer)
            args, kwargs = self._packer.unpack(item.payload, item.places)
            value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are this task's errors, too
            micros = int((time.perf_counter() - started) * 1e6)
            return Status.ERROR, _pack_error(error, reader), micros
        micros = int((time.perf_counter() - started) * 1e6)
        args = kwargs = None
        try:
            return Status.VALUE, self._packer.pack_result(value, reader), micros
        except BaseException as error:  # noqa: BLE001 - a result's __reduce__ may raise anything
            return (*self._salvage(fn, value, error, reader), micros)

    def _salvage(self, fn: Callable[..., Any], value: object, error: BaseException, reader: int) -> tuple[int, Packed]:
        """Pack what can be packed of a result that holds many: ``fn.salvage(value)`` returns it, if ``fn`` has that."""
        salvage = getattr(fn, "salvage", None)
        if salvage is not None and isinstance(error, ResultEncodingError):
            try:
                return Status.VALUE, self._packer.pack_result(salvage(value), reader)
            except ResultEncodingError as again:
                error = again
        return Status.ERROR, _pack_error(error, reader)


def _pack_error(error: BaseException, reader: int) -> Packed:
    # The first frame is this module's: the user's traceback begins below it.
    below = error.__traceback__.tb_next if error.__traceback__ is not None else None
    error = error.with_traceback(below)
    data = encode_exception(error, format_traceback(error), reader=reader)
    return Packed(data, (), None, len(data))
