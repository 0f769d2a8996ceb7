"""How tasks of a worker ended, as far as the hub has not been told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scalepool._wire import messages as m
from scalepool._wire.records import has_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._runtime.executor import WorkItem
    from scalepool._runtime.packing import Packed
    from scalepool._store.mapping import Views

__all__ = ["Results"]


class Results:
    """A queue of results, in the order in which they are in the flight record.

    Attributes
    ----------
    size_bytes
        Of those that wait, about.
    logged
        How many there ever were.
    """

    __slots__ = ("_waiting", "logged", "size_bytes")

    def __init__(self) -> None:
        self._waiting: deque[bytes | tuple[bytes, Packed | None, Sequence[int]]] = deque()
        self.size_bytes = 0
        self.logged = 0

    def add(self, item: WorkItem, record: bytes, packed: Packed | None) -> None:
        """A task has ended."""
        self.logged += 1
        self._waiting.append(record if packed is None and not item.references else (record, packed, item.references))
        self.size_bytes += len(record)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, count: int, views: Views) -> tuple[m.Done, list[int]]:
        """Return the message about the first ``count``, and the values that were kept alive for it."""
        records: list[bytes] = []
        objects: list[int] = []
        held: set[int] = set()
        lent: list[int] = []
        self.size_bytes = 0
        for _ in range(count):
            entry = self._waiting.popleft()
            if isinstance(entry, bytes):
                records.append(entry)
                continue
            record, packed, references = entry
            records.append(record)
            if packed is not None:
                for segment in packed.segments:
                    objects.extend(segment)
                if has_parts(record):
                    lent.extend(packed.references)
            held.update(references)
        live = [object_id for object_id in held if views.live(object_id)] if held else ()
        return m.Done(records, objects, live), lent
