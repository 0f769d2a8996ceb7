"""The directory of shared objects: where each is, and who still needs it.

An object lives while a task that carries it has not ended, or while some peer holds it (has a handle or a view). Then
its owner is told to free it. The owner may die before that: the hub's host keeps a descriptor of its own, so the object
outlives its creator, and only the telling falls away.

The order of the records is that of their last use, the longest ago first; see ``spilling``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterable, Sequence

__all__ = ["NOBODY", "ObjectDirectory", "ObjectRecord"]

NOBODY = -1
"""Owner of an object that is in the care of the hub's host alone."""


class ObjectRecord:
    """One object. ``place`` is (pid, fd, size_bytes); ``pins`` counts tasks that carry it.

    ``moving``: it is on its way to the disk. ``spilled``: it is there.
    """

    __slots__ = ("holders", "moving", "owner", "pins", "place", "spilled")

    def __init__(self, owner: int, place: tuple[int, int, int]) -> None:
        self.owner = owner
        self.place = place
        self.pins = 0
        self.holders: set[int] = set()
        self.moving = False
        self.spilled = False


class ObjectDirectory:
    """Counts references; says what has become free."""

    __slots__ = ("_records", "memory_bytes", "moving_bytes")

    def __init__(self) -> None:
        self._records: dict[int, ObjectRecord] = {}
        self.memory_bytes = 0
        """Of all objects that are not on the disk."""
        self.moving_bytes = 0
        """Of those of them that are on their way there."""

    def add(self, owner: int, columns: Sequence[int], *, held: bool) -> None:
        """Enter objects given as flat columns of four; with ``held`` ``owner`` holds each of them.

        One that is known keeps its place and its counts.
        """
        for at in range(0, len(columns), 4):
            object_id, pid, fd, size_bytes = columns[at : at + 4]
            if not object_id:
                continue  # lost with its maker
            record = self._records.get(object_id)
            if record is None:
                record = self._records[object_id] = ObjectRecord(owner, (pid, fd, size_bytes))
                self.memory_bytes += size_bytes
            if held:
                record.holders.add(owner)

    def columns(self, objects: Iterable[int]) -> list[int]:
        """Return the places of these objects as flat columns of four; unknown ones are left out."""
        flat: list[int] = []
        for object_id in dict.fromkeys(objects):
            record = self._records.get(object_id)
            if record is not None:
                flat.extend((object_id, *record.place))
        return flat

    def pin(self, objects: Iterable[int]) -> None:
        """A task that carries these objects was submitted."""
        for object_id in objects:
            record = self._records.get(object_id)
            if record is not None:
                record.pins += 1
                self._records[object_id] = self._records.pop(object_id)  # used last

    def unpin(self, objects: Iterable[int]) -> list[tuple[int, int]]:
        """A task that carried these objects ended; return what is free now as (owner, object)."""
        free = []
        for object_id in objects:
            record = self._records.get(object_id)
            if record is not None:
                record.pins -= 1
                free.extend(self._freed(object_id, record))
        return free

    def hold(self, peer: int, objects: Iterable[int]) -> None:
        """``peer`` has a view or handle of these objects now."""
        for object_id in objects:
            record = self._records.get(object_id)
            if record is not None:
                record.holders.add(peer)

    def release(self, peer: int, objects: Iterable[int]) -> list[tuple[int, int]]:
        """``peer`` has none any more; return what is free now as (owner, object)."""
        free = []
        for object_id in objects:
            record = self._records.get(object_id)
            if record is not None:
                record.holders.discard(peer)
                free.extend(self._freed(object_id, record))
        return free

    def sweep(self, objects: Iterable[int]) -> list[tuple[int, int]]:
        """Return those that no task carries and nobody holds as (owner, object): free from the start."""
        free = []
        for object_id in objects:
            record = self._records.get(object_id)
            if record is not None:
                free.extend(self._freed(object_id, record))
        return free

    def forget_peer(self, peer: int) -> list[tuple[int, int]]:
        """``peer`` is gone: it holds nothing any more; return what is free now as (owner, object)."""
        held = [object_id for object_id, record in self._records.items() if peer in record.holders]
        return self.release(peer, held)

    def holders(self, object_id: int) -> Iterable[int]:
        """Who has a view or handle of it; nobody, if it is not known."""
        record = self._records.get(object_id)
        return record.holders if record is not None else ()

    def size_bytes(self, object_id: int) -> int:
        """Its size; 0, if it is not known."""
        record = self._records.get(object_id)
        return record.place[2] if record is not None else 0

    def spilling(self, object_id: int) -> None:
        """It will be written to the disk."""
        record = self._records[object_id]
        record.moving = True
        self.moving_bytes += record.place[2]

    def stays(self, object_id: int) -> None:
        """It could not be written, or not now; of those that could be, it is the last one from here on."""
        record = self._records.pop(object_id, None)
        if record is not None:
            self._arrived(record)
            self._records[object_id] = record

    def spilled(self, object_id: int) -> int:
        """It is on the disk: return who has it in memory still and should let go of it, else `NOBODY`."""
        record = self._records.get(object_id)
        if record is None:
            return NOBODY  # freed meanwhile: its owner has been told so
        self._arrived(record)
        if not record.spilled:
            self.memory_bytes -= record.place[2]
        record.spilled = True
        return record.owner

    def _arrived(self, record: ObjectRecord) -> None:
        if record.moving:
            record.moving = False
            self.moving_bytes -= record.place[2]

    def disown(self, object_id: int) -> None:
        """Its owner need not be told when it is free."""
        if object_id in self._records:
            self._records[object_id].owner = NOBODY

    def _freed(self, object_id: int, record: ObjectRecord) -> list[tuple[int, int]]:
        if record.pins > 0 or record.holders:
            return []
        del self._records[object_id]
        self._arrived(record)
        if not record.spilled:
            self.memory_bytes -= record.place[2]
        return [(record.owner, object_id)]

    def items(self) -> ItemsView[int, ObjectRecord]:
        """All objects by id; for checks."""
        return self._records.items()

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._records

    def __len__(self) -> int:
        return len(self._records)
