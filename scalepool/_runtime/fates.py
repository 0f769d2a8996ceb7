"""What became of a value that is not there, as the error that whoever asks for it gets."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.failures import error_of
from scalepool._runtime.group import ErrorTypes
from scalepool._runtime.slots import ENDED
from scalepool._wire.messages import Status
from scalepool._wire.verdict import unpack_verdict
from scalepool.errors import ObjectLostError, SessionError, TaskCancelledError

if TYPE_CHECKING:
    from scalepool._runtime.slots import Slot
    from scalepool._runtime.values import Values

__all__ = ["error_in"]

_PICKLE: Final = 0x80
_WITH_VERDICT: Final = (Status.WORKER_DIED, Status.TIMED_OUT, Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE)
_ERRORS: Final[Any] = ErrorTypes()


def error_in(slot: Slot, values: Values) -> BaseException:
    """Return what became of a value that is not there."""
    if slot.status == ENDED:
        return SessionError(f"the session was shut down before {slot.name or 'the task'} had ended")
    if slot.status == Status.CANCELLED:
        return TaskCancelledError(f"{slot.name or 'the task'} was cancelled, or a task whose value it needs")
    if slot.status != Status.LOST:
        data = slot.data
        if slot.status == Status.ERROR and data[0] != _PICKLE:
            data = values.client.packer.unpack(data, slot.places or {})
        name = slot.name
        if slot.status in _WITH_VERDICT:
            origin = unpack_verdict(slot.data).facts["task"]
            if origin not in (0, slot.task):  # it only needed what that one was to make
                culprit = values.table.get(origin)
                name = culprit.name if culprit is not None else "a task whose value it needs"
        return error_of(_ERRORS, name, slot.status, data)
    if slot.data:
        return _lost(slot, values)
    return ObjectLostError(
        f"value {slot.id} of {slot.name or 'a task'} is gone: the last reference that the session knew of was dropped. "
        "References are counted when they travel in arguments, results and put(); not in files, queues or exceptions"
    )


def _lost(slot: Slot, values: Values) -> ObjectLostError:
    """Name the value, who made it and where, and say why nobody makes it again."""
    facts = json.loads(slot.data)
    value, worker, host = facts["value"], facts["worker"], os.uname().nodename
    found = slot if value == slot.id else values.table.get(value)
    name = found.name if found is not None and found.name else "a task"
    needs = "" if value == slot.id else f", which {slot.name or 'this task'} needs,"
    maker = f"worker {worker}" if worker else "the driver"
    error = ObjectLostError(
        f"value {value} of {name}{needs} is lost: what {maker} had made on host {host} cannot be read any more, and "
        f"{facts['why']}"
    )
    error.task, error.host = name, host
    return error
