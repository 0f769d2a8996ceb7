"""Which objects are moved from memory to disk, and when.

Memory is needed by those who make objects, and they do not ask: they look at the account of the session, and write to
the disk when it is full. So the hub sees to it that there is room. When the objects that are in memory exceed the upper
mark it lets everybody give back idle memory, and has objects spilled until they are below the lower one.

Only such as nobody maps are worth it: memory that is mapped is not free before its last reader is gone. First those
that no task carries, used longest ago first; then those whose tasks wait in a queue, the last in line first, since
theirs is the longest wait.

A disk takes its time, so the host copies beside its other work and tells of each object when it is there. What is on
its way counts as if it were gone already: it is not ordered again, nor is another one in its place. What could not be
written is the last to be tried again, and not before some room may have been made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._core.commands import Send, Spill
from scalepool._core.objects import NOBODY
from scalepool._wire.messages import DRIVER, Discard, Trim

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from scalepool._core.events import Spilled
    from scalepool._core.objects import ObjectDirectory
    from scalepool._core.state import HubState

__all__ = ["Spilling", "candidates"]

_TRIM: Final = 1 / 2
_UPPER: Final = 3 / 4
_LOWER: Final = 5 / 8
_TRIM_EVERY_S: Final = 0.5
_BARREN_S: Final = 0.02
"""After a look that found nothing that could be spilled, the next one waits so long."""
_FULL_S: Final = 1.0
"""And so long when the disk has no room."""


def candidates(objects: ObjectDirectory, busy: Container[int]) -> Iterator[tuple[int, int]]:
    """Yield (object, size in bytes) of what may be spilled, the best first.

    Parameters
    ----------
    busy
        What some worker has been given a task for: it may be mapped.
    """
    waiting = []
    for object_id, record in objects.items():
        if record.spilled or record.moving or object_id in busy or not record.holders <= {record.owner}:
            continue
        if record.pins:
            waiting.append((object_id, record.place[2]))
        else:
            yield object_id, record.place[2]
    yield from reversed(waiting)


class Spilling:
    """Keeps the objects in memory below a limit, as far as that is possible.

    Parameters
    ----------
    limit_bytes
        What the session may use; ``None``: nothing is ever spilled.
    """

    __slots__ = ("_barren_until", "_limit_bytes", "_seen_bytes", "_state", "_trimmed_at")

    def __init__(self, state: HubState, limit_bytes: int | None) -> None:
        self._state = state
        self._limit_bytes = limit_bytes
        self._seen_bytes = 0
        self._trimmed_at = self._barren_until = float("-inf")

    def look(self) -> None:
        """Order what is to be done; to be called after each event."""
        objects, limit = self._state.objects, self._limit_bytes
        in_memory, seen = objects.memory_bytes, self._seen_bytes
        self._seen_bytes = in_memory
        if limit is None or in_memory <= seen or in_memory <= _TRIM * limit:
            return  # it is more objects that make it necessary
        self._trim()
        staying = in_memory - objects.moving_bytes
        if staying > _UPPER * limit and self._state.now >= self._barren_until:
            self._spill(staying - int(_LOWER * limit))

    def _trim(self) -> None:
        state = self._state
        if state.now < self._trimmed_at + _TRIM_EVERY_S:
            return
        self._trimmed_at = state.now
        for peer in (DRIVER, *state.roster.workers):
            state.out.command(Send(peer, Trim()))

    def _spill(self, surplus_bytes: int) -> None:
        state = self._state
        busy = {
            object_id
            for worker in state.roster.workers.values()
            for task in worker.held.values()
            for object_id in task.references
        }
        for worker in state.roster.workers.values():  # whose initializer may have kept what it was given
            if worker.key < 0 and (group := state.groups.get(-worker.key)) is not None:
                busy.update(group.references)
        chosen = []
        for object_id, size_bytes in candidates(state.objects, busy):
            chosen.append(object_id)
            surplus_bytes -= size_bytes
            if surplus_bytes <= 0:
                break
        for object_id in chosen:
            state.objects.spilling(object_id)
        if chosen:
            state.out.command(Spill(tuple(chosen)))
        else:
            self._barren_until = state.now + _BARREN_S

    def done(self, event: Spilled) -> None:
        """Objects are on the disk: nobody need have them in memory. Or they are not, and stay."""
        state = self._state
        for object_id in (*event.failed, *event.read):
            state.objects.stays(object_id)
        if event.failed or event.read:
            pause_s = _FULL_S if event.failed else _BARREN_S
            self._barren_until = max(self._barren_until, state.now + pause_s)
        told: dict[int, list[int]] = {}
        for object_id in event.objects:
            owner = state.objects.spilled(object_id)
            if owner not in (DRIVER, NOBODY):
                state.objects.disown(object_id)
                told.setdefault(owner, []).append(object_id)
        for owner, freed in told.items():
            if owner in state.roster.workers:
                state.out.command(Send(owner, Discard(freed)))
