"""Values that lay in a segment of this process until they were moved to the disk: where they are now, the hub knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalepool._runtime.slots import WAITING
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["asked_again"]


def asked_again(values: Values, slot: Slot) -> bool:
    """Ask for a value that was made here and could not be read; True when the answer has come.

    Not in a callback, which would wait for what has to come through itself.
    """
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
