"""What a process does when it was told that a value is there, and cannot read it: it asks for it once more.

The hub then has it made again, where its task may run again, or says why not. So whoever reads must be ready to wait
again; that it does not wait for ever is the hub's business, which has no task run more often than it may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.slots import WAITING, Gathering
from scalepool._store.files import SegmentLost
from scalepool._wire.messages import Missing, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values
    from scalepool._store.files import SegmentRef
    from scalepool._store.mapping import ViewMode

__all__ = ["NeedLost", "load", "renew", "report"]

_VALUE: Final = int(Status.VALUE)


class NeedLost(BaseException):
    """A value that a task needs cannot be read: it cannot begin. No error of the user's code, who must not catch it.

    Attributes
    ----------
    value, object_id
        The value, and the object of it that is lost.
    """

    def __init__(self, value: int, object_id: int) -> None:
        super().__init__(value, object_id)
        self.value = value
        self.object_id = object_id


def load(values: Values, slot: Slot, mode: ViewMode, deadline: float | None) -> Any:
    """Return a new object that is the value, or raise what became of it; wait while it has to be made again.

    Raises
    ------
    TimeoutError
        When ``deadline`` has passed before it was.
    """
    while True:
        try:
            return values.load(slot, mode)
        except SegmentLost as error:
            report(values, slot, error)
            if not Gathering(values, [slot]).wait(deadline):
                raise TimeoutError(f"{slot.name or 'a value'} was lost, and not made again in time") from error


def report(values: Values, slot: Slot, error: SegmentLost) -> None:
    """Say that a value cannot be read; it is waited for from now on."""
    with values.lock:
        if slot.status != _VALUE:
            return  # another thread was faster
        places, slot.places = slot.places or {}, None
        slot.status, slot.data = WAITING, b""
        values.awaited += 1
    values.client.post(Missing(slot.id, [error.object_id]), now=True)
    _let_go(values, places)


def renew(values: Values, slot: Slot, data: bytes, places: Mapping[int, SegmentRef]) -> None:
    """A value that is known here has been made again, as another process could not read it."""
    before = slot.places or {}
    if before.keys() == places.keys():
        return
    slot.data, slot.places = data, places
    values.client.outgoing.held.update(places)
    _let_go(values, before)


def _let_go(values: Values, places: Mapping[int, SegmentRef]) -> None:
    values.client.outgoing.held.difference_update(places)
    values.client.outgoing.released.extend(places)
