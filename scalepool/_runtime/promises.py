"""Futures that stand for values that this process has references to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalepool._runtime.futures import TaskFuture
from scalepool._runtime.recovery import report
from scalepool._store.files import SegmentLost
from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["future_of"]


def future_of(values: Values, ref: ObjectRef[Any]) -> TaskFuture:
    """Return a future for a value."""
    (slot,) = values.slots([ref])
    future = TaskFuture(values.client, None, None, slot.name)
    future.task_id = slot.task
    values.futures.add(future)

    def settle(slot: Slot) -> None:
        values.futures.discard(future)
        if slot.status == Status.CANCELLED:
            future.settle_cancelled()
            return
        try:
            value = values.load(slot)
        except SegmentLost as error:
            report(values, slot, error)
            values.futures.add(future)
            values.watch([slot], settle)
        except BaseException as error:  # noqa: BLE001 - whatever became of it, or loading it raises
            future.settle(None, error)
        else:
            future.settle(value, None)
        _ = ref  # the value must be there until now

    values.watch([slot], settle)
    return future
