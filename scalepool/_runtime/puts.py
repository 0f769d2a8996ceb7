"""Values that a process makes by itself, without a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool._runtime.packing import part_of
from scalepool._runtime.refs import ObjectRef
from scalepool._runtime.slots import Slot
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._runtime.packing import Packed
    from scalepool._runtime.values import Values
    from scalepool._store.files import SegmentRef

__all__ = ["Origin", "keep_packed", "put", "put_error"]

_SCALAR_BYTES: Final = 4096
_ERROR_BYTES: Final = 65_536


class Origin(NamedTuple):
    """Whose item a value is: the name of the task, its number, its attempt, and the position of the item."""

    name: str
    task: int = 0
    attempt: int = 0
    position: int = 0


def put(values: Values, value: object, origin: Origin | None = None) -> ObjectRef[Any]:
    """Keep a value, which no task has made where ``origin`` is none; raises as ``Packer.pack_value``."""
    origin = origin or Origin(f"put({type(value).__name__})")
    data = dumps_scalar(value, _SCALAR_BYTES)
    if data is not None:
        return _keep(values, origin, Status.VALUE, data)
    if values.changes:
        values.client.pump.kick(now=True)  # what was dropped just before is memory that can be written again
    return _keep(values, origin, Status.VALUE, values.client.packer.pack_value(value, label="value"))


def put_error(values: Values, record: bytes, origin: Origin) -> ObjectRef[Any]:
    """Keep what raises an error when it is read; a record as of ``encode_exception``."""
    data = record if len(record) <= _ERROR_BYTES else values.client.packer.pack_value(record)
    return _keep(values, origin, Status.ERROR, data)


def keep_packed(values: Values, name: str, packed: Packed) -> ObjectRef[Any]:
    """Keep a value that somebody else has packed."""
    return _keep(values, Origin(name), Status.VALUE, packed)


def _keep(values: Values, origin: Origin, status: Status, made: bytes | Packed) -> ObjectRef[Any]:
    client = values.client
    segments: tuple[SegmentRef, ...] = ()
    references: Sequence[int] = ()
    if isinstance(made, bytes):
        data = made
    else:
        data, segments, references = made.data, made.segments, part_of(made).references
    slot = Slot(client.new_object_id(), 0, origin.name, int(status))
    slot.task = slot.id
    slot.data, slot.count, slot.held = data, 1, True
    if segments:
        slot.places = {segment.object_id: segment for segment in segments}
        client.outgoing.held.update(slot.places)
    values.table[slot.id] = slot
    flat = [number for segment in segments for number in segment]
    client.outgoing.queue.append(m.Keep(slot.id, data, references, flat, int(status), *origin[1:]))
    if segments:  # the hub is to count their memory, and somebody to see when they are dropped, whatever comes next
        client.pump.kick(now=False)
    return ObjectRef(slot.id, values)
