"""Objects that are described in a message and lie elsewhere: brought here before the message is passed on.

Messages of one *lane*, a worker, keep their order: while one waits for its objects, those behind it wait, too. An
object that several wait for, or that is here already, is not brought twice. Everything is asked for by who needs it,
and at most a window of chunks is on its way: nobody can be flooded.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scalepool._core.transfer import Transfer
from scalepool._store.incoming import IncomingSegment
from scalepool._store.segments import SegmentFiles
from scalepool.errors import ProtocolError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.storage import Storage
    from scalepool._store.adopted import AdoptedSegments

__all__ = ["Porter"]


class _Errand:
    """An object that is being brought from ``source``."""

    __slots__ = ("segment", "source", "transfer")

    def __init__(self, source: int, segment: IncomingSegment, transfer: Transfer) -> None:
        self.source = source
        self.segment = segment
        self.transfer = transfer


class Porter:
    """Brings objects, and holds back messages until they are there.

    Parameters
    ----------
    kept
        The objects of others that this process has.
    is_here
        Whether this process has an object that it made itself.
    storage
        This host's part of the store.
    ask
        Called with (source, object, offset, size) to have a part sent; the answer comes to ``chunk``.
    tell
        Called with what a person may want to know.
    """

    def __init__(
        self,
        kept: AdoptedSegments,
        is_here: Callable[[int], bool],
        storage: Storage,
        ask: Callable[[int, int, int, int], object],
        tell: Callable[[str], object],
    ) -> None:
        self._kept = kept
        self._is_here = is_here
        self._budget = storage.budget
        self._files = SegmentFiles(storage.plan.use_memfd, storage.plan.directory)
        self._ask = ask
        self._tell = tell
        self._errands: dict[int, _Errand] = {}
        self._lanes: dict[int, deque[tuple[set[int], Callable[[], object]]]] = {}

    def pass_on(self, lane: int, source: int, columns: Sequence[int], deliver: Callable[[], object]) -> None:
        """Call ``deliver`` when the objects described are here, or cannot be had, and all before it was delivered.

        Parameters
        ----------
        lane
            Whose messages keep their order.
        source
            Where the objects lie.
        columns
            The description: four numbers for each, of which the first and the last count. Empty: there are none.
        """
        missing = {
            columns[at]
            for at in range(0, len(columns), 4)
            if columns[at] and not self._is_here(columns[at]) and self._fetch(source, columns[at], columns[at + 3])
        }
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append((missing, deliver))
        elif missing:
            self._lanes[lane] = deque([(missing, deliver)])
        else:
            deliver()

    def waits(self, lane: int) -> bool:
        """Whether a message of this lane waits."""
        return lane in self._lanes

    def chunk(self, object_id: int, offset: int, data: bytes) -> None:
        """A part of an object came; an empty one says that there is no such object.

        Raises
        ------
        ProtocolError
            When nobody asked for it.
        """
        errand = self._errands.get(object_id)
        if errand is None:
            return  # given up meanwhile
        if not data:
            self._settle(object_id, f"object {object_id} was gone when it was to be brought here")
            return
        errand.transfer.arrived(offset, len(data))
        try:
            errand.segment.write(offset, data)
            if not errand.transfer.complete:
                self._go_on(object_id, errand)
                return
            self._kept.take_in(*errand.segment.finish())
        except StoreError as error:
            self._settle(object_id, str(error))
        else:
            self._settle(object_id)

    def lose_source(self, source: int) -> None:
        """Nothing comes from there any more."""
        for object_id in [one for one, errand in self._errands.items() if errand.source == source]:
            self._settle(object_id, f"object {object_id} was lost with its host")

    def close(self) -> None:
        """Give up everything; nothing is delivered any more."""
        self._lanes.clear()
        for errand in self._errands.values():
            errand.segment.abandon()
        self._errands.clear()

    def _fetch(self, source: int, object_id: int, size_bytes: int) -> bool:
        """Have an object brought; whether it is on its way."""
        if object_id in self._errands:
            return True
        if object_id in self._kept:
            return False
        if size_bytes <= 0:
            raise ProtocolError(f"object {object_id} has {size_bytes} bytes")
        try:
            segment = IncomingSegment(object_id, size_bytes, self._files, self._budget)
        except StoreError as error:
            self._tell(str(error))
            return False
        errand = self._errands[object_id] = _Errand(source, segment, Transfer(size_bytes))
        self._go_on(object_id, errand)
        return True

    def _go_on(self, object_id: int, errand: _Errand) -> None:
        for offset, size in errand.transfer.requests():
            self._ask(errand.source, object_id, offset, size)

    def _settle(self, object_id: int, trouble: str = "") -> None:
        """An object is here, or will not be: deliver what waited for it."""
        self._errands.pop(object_id).segment.abandon()  # which does nothing to one that is finished
        if trouble:
            self._tell(trouble)
        for lane, waiting in list(self._lanes.items()):
            for missing, _ in waiting:
                missing.discard(object_id)
            while waiting and not waiting[0][0]:
                waiting.popleft()[1]()
            if not waiting:
                self._lanes.pop(lane, None)
