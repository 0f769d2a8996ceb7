"""How a call of a detached actor has ended that did not end by itself, in the words of the steward's hub.

The steward does not read them, since there may be something of the user's in them: it passes them on, and they become
an error where somebody asks for the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_inline
from scalepool._wire.pickling.exceptions import encode_unread
from scalepool.errors import ObjectLostError, TaskCancelledError

if TYPE_CHECKING:
    from scalepool._runtime.slots import Slot

__all__ = ["told", "told_of"]

_VERDICTS: Final = frozenset({Status.WORKER_DIED, Status.TIMED_OUT, Status.ACTOR_DIED, Status.ACTOR_UNAVAILABLE})


class _Told:
    """Becomes the error when it is unpickled."""

    def __init__(self, status: int, name: str, data: bytes) -> None:
        self._parts = status, name, data

    def __reduce__(self) -> tuple[Any, ...]:
        return told, self._parts


def told(status: int, name: str, data: bytes) -> BaseException:
    """Return the error of a call that ended as this status says."""
    if status == Status.CANCELLED:
        return TaskCancelledError(f"{name} was cancelled")
    if status in _VERDICTS:
        from scalepool._runtime.failures import error_of
        from scalepool._runtime.group import ErrorTypes

        errors: Any = ErrorTypes()
        return error_of(errors, name, status, data)
    return ObjectLostError(f"what {name} has returned is lost")


def told_of(slot: Slot, name: str) -> bytes:
    """Return how a value has not come to be, as the record of an exception; nothing of it is read."""
    what = dumps_inline(_Told(slot.status, name, slot.data))
    return encode_unread(what, "scalepool.errors.ActorDiedError", f"{name} has not ended by itself")
