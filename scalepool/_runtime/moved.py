"""Values that lay in a segment of this process until they were moved to the disk: where they are now, the hub knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from scalepool._runtime.fates import error_in
from scalepool._runtime.slots import WAITING
from scalepool._wire import messages as m
from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values
    from scalepool._store.mapping import ViewMode
    from scalepool.errors import StoreError

__all__ = ["read_again"]


def read_again(values: Values, slot: Slot, mode: ViewMode, error: StoreError) -> Any:
    """Ask where a value is that was made here and could not be read, and return it.

    Not in a callback, which would wait for what has to come through itself: then *error* is raised.
    """
    if not _asked_again(values, slot):
        raise error
    if slot.status != Status.VALUE:
        raise error_in(slot, values)
    return values.client.packer.unpack(slot.data, slot.places or {}, mode)


def _asked_again(values: Values, slot: Slot) -> bool:
    own = os.getpid()
    if values.client.pump.is_mine or all(place.pid != own for place in (slot.places or {}).values()):
        return False
    with values.lock:
        if slot.status > 0 or slot.id not in values.table:
            return False
        if slot.status != WAITING:  # else another thread has asked
            slot.status = WAITING
            values.awaited += 1
            values.client.post(m.Want([slot.id]), now=False)
    values.client.pump.kick(now=True)
    return values.client.wait_for(lambda: slot.is_over, [slot], None)
