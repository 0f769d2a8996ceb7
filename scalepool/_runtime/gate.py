"""The stand-in of one detached actor at the steward: its calls become calls of the steward's session."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.ids import IdSource
from scalepool._core.functions import Recent
from scalepool._runtime.packing import Packed
from scalepool._runtime.parts import renumbered, table_objects
from scalepool._runtime.told import told_of
from scalepool._wire import messages as m
from scalepool._wire.actors import EndMode, OpenActor
from scalepool._wire.codec import decode
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_inline
from scalepool._wire.records import PARTS, Part, pack_parts, pack_result
from scalepool._wire.stewards import ATTACH, Operation, operation_of, parted, way_of
from scalepool.errors import ProtocolError, ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._runtime.gates import GateSession
    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot

__all__ = ["NONSENSE", "Gate", "Row"]

_VALUE: Final = int(Status.VALUE)
_ERROR: Final = int(Status.ERROR)
NONSENSE: Final = (ValueError, TypeError, LookupError)
"""What is raised by what has the wrong length, or is no JSON."""
_ENDED: Final = {_VALUE, _ERROR}


class Row:
    """A call that the program's hub has given to a gate, and what is waited for."""

    __slots__ = ("attempt", "refs", "returns", "slots", "task", "waiting")

    def __init__(self, task: int, attempt: int, returns: int) -> None:
        self.task = task
        self.attempt = attempt
        self.returns = returns
        self.refs: Sequence[ObjectRef[Any]] = ()
        self.slots: list[Slot] = []
        self.waiting = 0


class Gate:
    """The stand-in of one actor.

    Attributes
    ----------
    rows
        The calls that have not ended, by the program's number.
    """

    def __init__(self, part: GateSession, worker: int) -> None:
        self._part = part
        self._house = part.house
        self._worker = worker
        self._ids = IdSource(worker)
        self._functions: Recent[bytes] = Recent()
        self._actor: ObjectRef[Any] | None = None
        self._is_unmade = False
        """Whether the next call is what makes the actor."""
        self.rows: dict[int, Row] = {}

    # ---- calls ----

    def run(self, run: m.Run) -> None:
        """Take up calls."""
        fresh = dict(zip(run.functions, run.blobs, strict=True))
        values = dict(zip(run.values, run.value_payloads, strict=True))
        needs = _split(run.needs, run.need_counts, len(run.tasks))
        returns = run.returns or (1,) * len(run.tasks)
        last, function = -1, b""
        for task, attempt, call, data, count, mine in zip(
            run.tasks, run.attempts, run.calls, run.payloads, returns, needs, strict=True
        ):
            if call != last:  # as the hub counts uses
                last, known = call, self._functions.use(call)
                function = fresh[call] if known is None else known
                if known is None:
                    self._functions.add(call, function)
            row = self.rows[task] = Row(task, attempt, count)
            try:
                self._begin(row, function, data, [values[need] for need in mine])
            except (ScalepoolError, OSError, *NONSENSE) as error:
                self._fail(row, error)

    def _begin(self, row: Row, function: bytes, data: bytes, needs: Sequence[bytes]) -> None:
        if function == ATTACH:
            self._answer(row, None)
            return
        operation = operation_of(function)
        if operation is not None:
            self._answer(row, self._operate(operation, data))
            return
        if self._actor is None:
            raise ScalepoolError("this is the stand-in of no actor")
        values = [self._house.keep(self._own(need)) for need in needs]
        way = way_of(function)
        if way is None:
            if not self._is_unmade:
                raise ProtocolError("a detached actor was to be made twice")
            self._house.make(self._actor, (function, self._own(function)), self._own(data), values)
            self._is_unmade = False
            self._answer(row, None)
            return
        if row.returns < 0:
            raise ScalepoolError("methods of detached actors cannot stream")
        row.refs = self._house.call(self._actor, way, row.returns, self._own(data), values)
        row.slots = self._house.values.slots(row.refs)
        row.waiting = len(row.slots)
        self._house.values.watch(row.slots, partial(self._one_over, row))

    def _one_over(self, row: Row, _: Slot) -> None:
        row.waiting -= 1
        if not row.waiting:
            self._part.over(self, row)

    def _own(self, data: bytes) -> Packed:
        """Return something packed with copies of what it lies in as objects of the steward's session."""
        numbers: dict[int, int] = {}
        segments = []
        store = self._house.client.store
        for object_id, size_bytes in table_objects(data).items():
            content = _content(self._part.kept.find(object_id), size_bytes)
            segment = store.create(self._house.client.new_object_id(), [content])
            numbers[object_id] = segment.object_id
            segments.append(segment)
        size_bytes = len(data) + sum(segment.size_bytes for segment in segments)
        return Packed(renumbered(data, numbers), tuple(numbers.values()), tuple(segments), size_bytes)

    def cancel(self, tasks: Sequence[int]) -> None:
        """Cancel calls where the steward's hub still can: they end like that then. Here they have begun."""
        slots = [slot for task in tasks if task in self.rows for slot in self.rows[task].slots[:1]]
        if slots:
            self._house.cancel(slots)
        self._part.say(self._worker, m.Returned((), tuple(tasks)))

    # ---- the gate's own ----

    def _operate(self, operation: Operation, data: bytes) -> Any:
        house = self._house
        if operation is Operation.FIND:
            found = house.find(data)
            if found is None:
                return b""
            self._actor = found[0]
            return found[1]
        if operation is Operation.OPEN:
            opened, code = parted(data)
            wanted: Any = decode(opened)
            if type(wanted) is not OpenActor or self._actor is not None:
                raise ProtocolError("not an actor that could be opened here")
            opening = house.open(wanted, json.loads(code))
            self._actor = opening.actor
            self._is_unmade = opening.verdict == "open"
            return opening.verdict, opening.meta, list(opening.details)
        if operation is Operation.CODE:
            name, answer, body = parted(data)
            house.code.add(name.decode(), answer, body)
            return None
        if self._actor is not None:
            house.end(self._actor, EndMode(data[0]))
        return None

    # ---- what calls return ----

    def returned(self, row: Row) -> None:
        """A call has ended at the steward's hub."""
        if self.rows.get(row.task) is not row:
            return
        failed = next((slot for slot in row.slots if slot.status != _VALUE), None)
        if failed is not None and failed.status not in _ENDED:
            self._done(row, _ERROR, told_of(failed, failed.name), ())
            return
        parts: list[Part] = []
        columns: list[int] = []
        for slot, ref in zip(row.slots, row.refs, strict=True) if failed is None else [(failed, row.refs[0])]:
            numbers = {segment.object_id: self._ids.take() for segment in (slot.places or {}).values()}
            for segment in (slot.places or {}).values():
                columns += (numbers[segment.object_id], 0, -1, segment.size_bytes)
            self._part.give({theirs: ours for ours, theirs in numbers.items()}, ref)
            parts.append(Part(renumbered(slot.data, numbers), len(numbers)))
        status = _VALUE if failed is None else _ERROR
        if len(parts) == 1:
            self._done(row, status, parts[0].payload, columns)
        else:
            self._done(row, PARTS, pack_parts(parts), columns)

    def _answer(self, row: Row, value: object) -> None:
        self._done(row, _VALUE, dumps_inline(value), ())

    def _fail(self, row: Row, error: Exception) -> None:
        from scalepool._wire.pickling.exceptions import encode_exception

        self._done(row, _ERROR, encode_exception(error, ""), ())

    def _done(self, row: Row, status: int, payload: bytes, columns: Sequence[int]) -> None:
        self.rows.pop(row.task, None)
        row.refs, row.slots = (), []
        objects = 0 if status == PARTS else len(columns) // 4
        record = pack_result(row.task, row.attempt, status, objects, 0, payload)
        self._part.say(self._worker, m.Done((record,), tuple(columns)))

    # ---- the end ----

    def close(self) -> None:
        """The program's hub has no use for it any more."""
        self.abandon()
        self._part.gone(self._worker)

    def abandon(self) -> None:
        """Nobody calls any more; an actor that was to be made, and of which nobody will say how, ends."""
        self.rows.clear()
        actor, self._actor = self._actor, None
        if self._is_unmade and actor is not None:
            self._house.end(actor, EndMode.KILL)


def _split(flat: Sequence[int], counts: Sequence[int], rows: int) -> Iterator[Sequence[int]]:
    at = 0
    for count in counts or (0,) * rows:
        yield flat[at : at + count]
        at += count


def _content(fd: int | None, size_bytes: int) -> bytearray:
    """Return what an object holds, and close its descriptor."""
    if fd is None:
        raise ScalepoolError("an argument could not be brought to the detached actor: its memory is gone")
    content = bytearray(size_bytes)
    try:
        view, at = memoryview(content), 0
        while at < size_bytes:
            read = os.preadv(fd, [view[at : at + (1 << 28)]], at)
            if not read:
                raise ScalepoolError("an argument could not be brought to the detached actor: it came too short")
            at += read
    finally:
        os.close(fd)
    return content
