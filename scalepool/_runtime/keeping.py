"""The objects of a session as the hub's host keeps them: open, whoever made them, and on disk where memory is short."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from scalepool._base.ids import peer_of
from scalepool._core.events import Spilled
from scalepool._store.adopted import AdoptedSegments
from scalepool._store.files import SegmentRef, in_memory
from scalepool._store.spiller import Spiller
from scalepool._wire import messages as m
from scalepool._wire.records import object_count, split_noted, unpack_result
from scalepool.errors import ProtocolError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.storage import Storage
    from scalepool._store.holder import SegmentHolder

__all__ = ["ObjectKeeper"]

_MOST_UNNOTED = 255


class ObjectKeeper:
    """Holds a descriptor of every object.

    Parameters
    ----------
    storage
        The host's own part of the store. What its own client makes stays there; what workers make is kept here.
    on_written
        Called, in another thread, when there is something for `written` to tell.
    """

    __slots__ = ("_adopted", "_made_on_disk", "_spiller", "_storage", "waiting")

    def __init__(self, storage: Storage, on_written: Callable[[], None]) -> None:
        self._storage = storage
        self._spiller = Spiller(storage.budget, on_written)
        self.waiting = self._spiller.written
        """Not empty when `written` has something to tell."""
        host = storage.host
        self._adopted = AdoptedSegments(storage.budget, storage.claim)
        if host is not None:
            host.serve_from(self._adopted.find)
        self._made_on_disk: list[int] = []

    def adopt(self, columns: m.Ints) -> list[int]:
        """Keep the objects that a worker describes, and return where they are now; zeros for one that is lost."""
        if len(columns) % 4:
            raise ProtocolError(f"{len(columns)} numbers are no columns of four")
        adopted: list[int] = []
        for at in range(0, len(columns), 4):
            try:
                ref = self._adopted.adopt(SegmentRef(*columns[at : at + 4]))
            except StoreError:
                # Its maker died this very moment. The hub finds the object missing, and judges.
                adopted.extend((0, 0, 0, 0))
                continue
            adopted.extend(ref)
            self.note_place(ref)
        return adopted

    def salvage(self, logged: Sequence[bytes]) -> tuple[tuple[bytes, ...], list[int]]:
        """Save the results that a dead worker has logged, and nobody was told of.

        Returns
        -------
        tuple
            The records as the hub reads them, and their objects, in columns of four; zeros for one that is lost.
        """
        records: list[bytes] = []
        columns: list[int] = []
        is_sound = True
        for one in logged:
            record, noted = split_noted(one)
            records.append(record)
            try:
                count = object_count(unpack_result(record))
            except ProtocolError:
                continue  # the hub cannot read it either
            if not is_sound:
                continue
            if len(noted) == count:
                columns += [n for number, size_bytes in noted for n in (number, 0, -1, size_bytes)]
            elif count <= _MOST_UNNOTED:
                columns += [0] * (4 * count)
            else:
                is_sound = False  # it was scribbled over, and so may be all behind it
        return tuple(records), self.adopt(columns)

    @property
    def segments(self) -> AdoptedSegments:
        """What is kept."""
        return self._adopted

    def note_place(self, ref: SegmentRef) -> None:
        """See to it that ``made_on_disk`` tells of an object that is there."""
        if self._storage.plan.use_memfd and not in_memory(ref.fd):
            self._made_on_disk.append(ref.object_id)

    def drop(self, objects: Sequence[int]) -> None:
        """Nobody needs these any more."""
        for object_id in objects:
            if peer_of(object_id) != m.DRIVER:
                with contextlib.suppress(KeyError):  # where its adoption had failed
                    self._adopted.drop(object_id)

    def spill(self, objects: Sequence[int]) -> Spilled | None:
        """Begin to move objects to disk; return what can be said of some at once. Of the others `written` tells."""
        there, failed, read = list[int](), list[int](), list[int]()
        for object_id in objects:
            if self._storage.views.live(object_id):
                read.append(object_id)
                continue
            holder = self._holder(object_id)
            try:
                source = holder.begin_spill(object_id)
            except (KeyError, OSError):  # it never came to be, or there is no descriptor left
                failed.append(object_id)
                continue
            if source is None:
                there.append(object_id)
            else:
                self._spiller.order(holder, object_id, source)
        return Spilled(tuple(there), tuple(failed), tuple(read)) if there or failed or read else None

    def written(self) -> Spilled:
        """Put the copies that are there by now into their places, and say which."""
        there, failed = list[int](), list[int]()
        for holder, object_id, copy in self._spiller.take():
            is_there = copy is not None and holder.end_spill(object_id, copy)
            (there if is_there else failed).append(object_id)
        return Spilled(tuple(there), tuple(failed))

    def made_on_disk(self) -> Spilled | None:
        """Objects that found no room in memory: their makers need not keep them, and the hub need not count them."""
        own = self._storage.store.made_on_disk
        if not own and not self._made_on_disk:
            return None
        made = [*self._made_on_disk, *(own.popleft() for _ in range(len(own)))]
        self._made_on_disk.clear()
        return Spilled(tuple(filter(self._is_on_disk, made)))

    def worker_gone(self, worker: int) -> None:
        """A worker has ended: what it leaves is kept and counted here."""
        self._adopted.take_over(worker)
        self._storage.forget(worker)

    def close(self) -> None:
        """Let go of everything."""
        self._spiller.close()
        self._adopted.close()

    def _holder(self, object_id: int) -> SegmentHolder:
        return self._storage.store if peer_of(object_id) == m.DRIVER else self._adopted

    def _is_on_disk(self, object_id: int) -> bool:
        with contextlib.suppress(KeyError):  # it is gone already
            return self._holder(object_id).is_on_disk(object_id)
        return False
