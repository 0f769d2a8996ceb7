"""The one place where user code runs: call a task, capture how it ended, log that before the next one starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scalepool._base.clock import monotonic_s
from scalepool._base.ids import peer_of
from scalepool._runtime.packing import part_of
from scalepool._runtime.parts import has_arrays
from scalepool._runtime.randomness import seed_torch
from scalepool._runtime.recovery import NeedLost
from scalepool._store.files import SegmentLost
from scalepool._store.flight import LOG_CAPACITY
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_scalar, loads_inline
from scalepool._wire.pickling.exceptions import ResultEncodingError, encode_exception
from scalepool._wire.pickling.traceback_text import format_traceback
from scalepool._wire.records import MISSING, PARTS, note_objects, pack_missing, pack_parts, pack_result, pack_stream_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalepool._runtime.packing import Packed, Packer
    from scalepool._store.files import SegmentRef
    from scalepool._store.flight import FlightRecord

__all__ = ["Executor", "FunctionSlot", "KeptItem", "Revoked", "WorkItem"]


_SCALAR_BYTES: Final = 4096
"""Numbers and strings up to this size are pickled without a look for what may be in them."""
_ERROR_BYTES: Final = 65_536
"""Records of errors up to this size travel inside their message."""
_LOGGED_BYTES: Final = LOG_CAPACITY - 64
_RECENT_COUNT: Final = 2048
_RECENT_BYTES: Final = 4 << 20
_PICKLE: Final = 0x80
_VALUE: Final = int(Status.VALUE)
_ERROR: Final = int(Status.ERROR)


class FunctionSlot:
    """A function as it came, loaded when it is first called."""

    __slots__ = ("_data", "fn", "places")

    def __init__(self, data: bytes, places: Mapping[int, SegmentRef]) -> None:
        self._data = data
        self.places = places
        """Where its large parts were by the latest call."""
        self.fn: Callable[..., Any] | None = None

    def unload(self) -> None:
        """Hold only the pickle, until the next call."""
        self.fn = None

    def load(self, packer: Packer) -> Callable[..., Any]:
        """Return the function; raises what loading it raises."""
        if self.fn is None:
            fn: Callable[..., Any] = packer.unpack(self._data, self.places)
            seed_torch()  # which this may have imported
            if has_arrays(self._data):
                return fn  # its large arrays are this task's own, as arguments are, and go when the task has ended
            self.fn = fn
        return self.fn


class Revoked(Exception):
    """The hub has taken the task back: it must not run here."""


class WorkItem(NamedTuple):
    """One task as the worker holds it."""

    task: int
    attempt: int
    group: int
    slot: FunctionSlot
    payload: bytes
    places: Mapping[int, SegmentRef]
    references: Sequence[int] = ()
    losses: bytes = b""


class KeptItem(WorkItem):
    """One task whose results are kept: it makes ``returns`` values of what it ``needs``, which lies in ``inputs``."""

    returns: int
    needs: Sequence[int]
    inputs: Sequence[bytes | None]
    sent: int = 0
    """How many values it has sent ahead of its end, where it is a stream."""

    @classmethod
    def of(cls, item: WorkItem, returns: int, needs: Sequence[int], inputs: Sequence[bytes | None]) -> KeptItem:
        """Make one of a plain one; what has no input yet will have been made here by the time it runs."""
        kept: KeptItem = tuple.__new__(cls, item)
        kept.returns = returns
        kept.needs = needs
        kept.inputs = inputs
        return kept


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

    Attributes
    ----------
    packer, flight
        As given.
    item
        The task that runs now.
    depth
        How many run inside each other.
    """

    def __init__(
        self, packer: Packer, flight: FlightRecord, make_room: Callable[[], None], sender_of: Callable[[int], int]
    ) -> None:
        self._sender_of = sender_of
        self.packer = packer
        self.flight = flight
        self._make_room = make_room
        self.item: WorkItem | None = None
        self.depth = 0
        self.lend: Callable[[Sequence[int]], Sequence[int]] = lambda references: ()
        """Counts one more reference to each of these values, and returns those that are values."""
        self._recent: dict[int, bytes] = {}
        self._recent_bytes = 0
        self.kept_task = 0
        """The innermost running task whose results are kept; 0: none."""

    @property
    def group(self) -> int:
        """Group of the task that runs now, else 0."""
        return self.item.group if self.item is not None else 0

    def item_slot(self) -> tuple[memoryview, int, bytes]:
        """Where the task that runs now notes which item it works on, and which items it is to leave out.

        See ``FlightRecord.item_slot`` and ``unpack_losses``.
        """
        return (*self.flight.item_slot(), b"" if self.item is None else self.item.losses)

    def run(self, item: WorkItem, revocation: int = 0) -> tuple[bytes, Packed | None]:
        """Run one task; return its result record, and what was packed for it if that is more than the record.

        Parameters
        ----------
        item
            The task.
        revocation
            The last revocation that had been answered when it was taken from the queue.

        Raises
        ------
        Revoked
            There was another one since.
        """
        task = item.task
        flight = self.flight
        if flight.begin(task) != revocation:
            flight.end(task)
            raise Revoked
        outer, self.item = self.item, item
        self.depth += 1
        try:
            status, data, packed, micros = (self._call if type(item) is WorkItem else self._call_kept)(item)
            record = self.log(item, status, data, packed, micros)
        finally:
            self.depth -= 1
            self.item = outer
        # Not if the above failed, which ends this process: the task must not look as if it had never started.
        flight.end(task)
        return record, packed

    def log(self, item: WorkItem, status: int, data: bytes, packed: Packed | None, micros: int) -> bytes:
        """Write down how a task ended, and return the record."""
        # What else the result refers to (a SharedBuffer) is not made here: who made it keeps it.
        objects = 0 if packed is None or status == PARTS else len(packed.segments)
        record = pack_result(item.task, item.attempt, status, objects, micros, data)
        # What never fits (the store had no descriptor left for it) is logged as lost; the message still brings it.
        logged = record if len(record) <= _LOGGED_BYTES else _lost(item, status, micros)
        if packed is not None and packed.segments and logged is record:
            logged = note_objects(record, [(segment.object_id, segment.size_bytes) for segment in packed.segments])
        while not self.flight.log_result(logged):
            self._make_room()
        return record

    def _call(self, item: WorkItem) -> tuple[int, bytes, Packed | None, int]:
        started = monotonic_s()
        try:
            fn = item.slot.fn or item.slot.load(self.packer)
            data = item.payload
            args, kwargs = loads_inline(data) if data[0] == _PICKLE else self.packer.unpack(data, item.places)
            value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are this task's errors, too
            micros = int((monotonic_s() - started) * 1e6)
            return (*self.pack_error(error, item.task), micros)
        micros = int((monotonic_s() - started) * 1e6)
        args = kwargs = None
        scalar = dumps_scalar(value, _SCALAR_BYTES)
        if scalar is not None:
            return _VALUE, scalar, None, micros
        try:
            packed = self.packer.pack_result(value, self._reader(item.task))
        except BaseException as error:  # noqa: BLE001 - a result's __reduce__ may raise anything
            return (*self._salvage(fn, value, error, item.task), micros)
        if packed.references and (part := part_of(packed)).references:
            return PARTS, pack_parts([part]), self._lent(packed, part.references), micros
        return _VALUE, packed.data, packed, micros

    def _lent(self, packed: Packed, references: Sequence[int]) -> Packed:
        """Keep alive what a result refers to until it has been sent; the result itself is dropped earlier."""
        lent = tuple(self.lend(references))
        return packed._replace(references=lent)

    def _remember(self, value: int, data: bytes) -> None:
        """Keep a small value for tasks that come to this worker because it makes what they need."""
        recent = self._recent
        recent[value] = data
        self._recent_bytes += len(data)
        while len(recent) > _RECENT_COUNT or self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= len(recent.pop(next(iter(recent))))

    def lacks(self, item: WorkItem) -> bool:
        """Whether a value is not there that a task needs and that was to be made here, before it."""
        if type(item) is not KeptItem or None not in item.inputs:
            return False
        recent = self._recent
        item.inputs = [
            recent.get(need) if data is None else data for need, data in zip(item.needs, item.inputs, strict=True)
        ]
        return None in item.inputs

    def _call_kept(self, item: WorkItem) -> tuple[int, bytes, Packed | None, int]:
        from scalepool._runtime import kept  # late: most workers never get such a task

        assert isinstance(item, KeptItem)
        outer, self.kept_task = self.kept_task, item.task
        started = monotonic_s()
        try:
            values = kept.call(item, self.packer)
            micros = int((monotonic_s() - started) * 1e6)
            status, data, packed = self.pack_values(item, values)
            if item.returns > 0 and status != PARTS and (packed is None or not packed.segments):
                self._remember(item.task, data)
            return status, data, packed, micros
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are this task's errors, too
            micros = int((monotonic_s() - started) * 1e6)
            return (*self.pack_failure(item, error), micros)
        finally:
            self.kept_task = outer

    def pack_values(self, item: KeptItem, values: list[Any]) -> tuple[int, bytes, Packed | None]:
        """Pack the values that a task made; raises what packing them raises."""
        from scalepool._runtime import kept

        status, data, packed = kept.pack(values, self.packer)
        if packed is not None and status == PARTS:
            packed = self._lent(packed, packed.references)
        return status, data if item.returns > 0 else pack_stream_end(item.sent, data), packed

    def pack_failure(self, item: KeptItem, error: BaseException) -> tuple[int, bytes, Packed | None]:
        """Pack what a task raised whose results are kept."""
        if type(error) is NeedLost:
            return MISSING, pack_missing(error.value, error.object_id), None
        status, data, packed = self.pack_error(error, None)
        return status, data if item.returns > 0 else pack_stream_end(item.sent, data), packed

    def _reader(self, task: int) -> int:
        """Who submitted the task reads its result, and knows its own classes by their ids."""
        return self._sender_of(peer_of(task))

    def _salvage(
        self, fn: Callable[..., Any], value: object, error: BaseException, task: int
    ) -> tuple[int, bytes, Packed | None]:
        """Pack what can be packed of a result that holds many: ``fn.salvage(value)`` returns it, if ``fn`` has that."""
        salvage = getattr(fn, "salvage", None)
        if salvage is not None and isinstance(error, ResultEncodingError):
            try:
                packed = self.packer.pack_result(salvage(value), self._reader(task))
            except ResultEncodingError as again:
                error = again
            else:
                return _VALUE, packed.data, packed
        return self.pack_error(error, task)

    def pack_error(self, error: BaseException, task: int | None) -> tuple[int, bytes, Packed | None]:
        """Return status and payload of a task that raised ``error``; ``None``: of one whose results are kept."""
        if type(error) is SegmentLost:  # what the user's code reads is waited for, and asked for again
            from scalepool._runtime.failures import lost

            error = lost(error, "an argument of this call, or its function,")
        # The first frame is this module's: the user's traceback begins below it.
        below = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = format_traceback(error.with_traceback(below))
        reader = None if task is None else self._reader(task)  # of what is kept, anybody may be the reader
        record = encode_exception(error, text, reader=reader)
        if len(record) <= _ERROR_BYTES:
            return _ERROR, record, None
        try:  # it holds data, which goes where results go
            packed = self.packer.pack_value(record) if reader is None else self.packer.pack_result(record, reader)
        except Exception as full:  # noqa: BLE001 - no memory for it, and the task must have an end all the same
            return _ERROR, encode_exception(full, f"{text}\n\nThis could not be sent:\n{format_traceback(full)}"), None
        return _ERROR, packed.data, packed


def _lost(item: WorkItem, status: int, micros: int) -> bytes:
    """Return a record of a result that cannot be logged: should it be read, its object is not to be had."""
    return pack_result(item.task, item.attempt, _VALUE if status == PARTS else status, 1, micros, b"")
