"""Objects that are described in a message and lie elsewhere: brought here before the message is passed on.

Messages of one *lane*, a worker, keep their order: while one waits for its objects, those behind it wait, too. An
object that several wait for, or that is here already, is not brought twice. Everything is asked for by who needs it,
and at most a window of chunks is on its way: nobody can be flooded.

Objects come over the link to the head, in chunks, or directly from another host, where that is possible: see
`scalepool._runtime.direct`. One that began to come directly can go on over the head, from where it is.
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
    from scalepool._store.incoming import Filled

__all__ = ["Porter"]


class _Errand:
    """An object that is being brought: directly when it has ``filled``, else from ``source``, in chunks."""

    __slots__ = ("filled", "is_sought", "segment", "size_bytes", "source", "transfer")

    def __init__(self, source: int, segment: IncomingSegment, size_bytes: int) -> None:
        self.source = source
        self.segment = segment
        self.size_bytes = size_bytes
        self.transfer: Transfer | None = None
        self.filled: Filled | None = None
        self.is_sought = False

    def end(self) -> None:
        """Let go of it; of one that is whole others have what it was filled through."""
        self.segment.abandon()
        if self.filled is not None:
            self.filled.end()


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

    Attributes
    ----------
    seek
        Called with (source, object, bytes): whether somebody will say by ``directly`` or ``relay`` how it is to come.
    settled
        Called with (object, whether it is here) at the end of what ``seek`` had said yes to.
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
        self.seek: Callable[[int, int, int], bool] = lambda source, object_id, size_bytes: False
        self.settled: Callable[[int, bool], object] = lambda object_id, is_here: None
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

    def brings_from(self, source: int) -> bool:
        """Whether something is on its way from there."""
        return any(errand.source == source for errand in self._errands.values())

    def chunk(self, object_id: int, offset: int, data: bytes) -> None:
        """A part of an object came; an empty one says that there is no such object.

        Raises
        ------
        ProtocolError
            When nobody asked for it.
        """
        errand = self._errands.get(object_id)
        if errand is None or errand.transfer is None:
            return  # given up meanwhile
        if not data:
            self._settle(object_id, f"object {object_id} was gone when it was to be brought here")
            return
        errand.transfer.arrived(offset, len(data))
        try:
            errand.segment.write(offset, data)
        except StoreError as error:
            self._settle(object_id, str(error))
            return
        if errand.transfer.complete:
            self._finish(object_id, errand)
        else:
            self._go_on(object_id, errand, errand.transfer)

    # ---- objects that come directly ----

    def directly(self, object_id: int) -> Filled | None:
        """An object is to come directly: return what it is to be written through; ``None`` when nobody waits for it."""
        errand = self._errands.get(object_id)
        if errand is None or errand.transfer is not None:
            return None
        if errand.filled is None:
            try:
                errand.filled = errand.segment.filled()
            except StoreError:
                self.relay(object_id)  # which needs no further descriptor
        return errand.filled

    def filling(self, object_id: int) -> Filled | None:
        """Return what an object is written through that comes directly now; from any thread."""
        errand = self._errands.get(object_id)
        return None if errand is None or errand.transfer is not None else errand.filled

    def relay(self, object_id: int) -> None:
        """What is missing of an object is to come from its source, over the head."""
        errand = self._errands.get(object_id)
        if errand is None or errand.transfer is not None:
            return
        there_bytes = 0
        if errand.filled is not None:
            errand.filled.end()
            there_bytes, errand.filled = errand.filled.there_bytes, None
        errand.transfer = Transfer(errand.size_bytes, there_bytes=there_bytes)
        self._go_on(object_id, errand, errand.transfer)

    def filled(self, object_id: int, trouble: str = "") -> None:
        """An object is here that came directly; or will not come, as there is no room for it."""
        errand = self._errands.get(object_id)
        if errand is None:
            return
        if trouble:
            self._settle(object_id, trouble)
        else:
            self._finish(object_id, errand)

    def give_up(self, object_id: int) -> bool:
        """Nobody needs an object any more; whether it was on its way."""
        if object_id not in self._errands:
            return False
        self._settle(object_id)
        return True

    def lose_source(self, source: int) -> None:
        """Nothing comes from there any more; what comes directly may come from elsewhere."""
        lost = [one for one, errand in self._errands.items() if errand.source == source and errand.transfer is not None]
        for object_id in lost:
            self._settle(object_id, f"object {object_id} was lost with its host")

    def close(self) -> None:
        """Give up everything; nothing is delivered any more."""
        self._lanes.clear()
        for errand in self._errands.values():
            errand.end()
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
        errand = self._errands[object_id] = _Errand(source, segment, size_bytes)
        errand.is_sought = self.seek(source, object_id, size_bytes)
        if not errand.is_sought:
            self.relay(object_id)
        return True

    def _go_on(self, object_id: int, errand: _Errand, transfer: Transfer) -> None:
        for offset, size in transfer.requests():
            self._ask(errand.source, object_id, offset, size)

    def _finish(self, object_id: int, errand: _Errand) -> None:
        try:
            self._kept.take_in(*errand.segment.finish())
        except StoreError as error:
            self._settle(object_id, str(error))
        else:
            self._settle(object_id)

    def _settle(self, object_id: int, trouble: str = "") -> None:
        """An object is here, or will not be: deliver what waited for it."""
        errand = self._errands.pop(object_id)
        errand.end()
        if errand.is_sought:
            self.settled(object_id, object_id in self._kept)
        if trouble:
            self._tell(trouble)
        for lane, waiting in list(self._lanes.items()):
            for missing, _ in waiting:
                missing.discard(object_id)
            while waiting and not waiting[0][0]:
                waiting.popleft()[1]()
            if not waiting:
                self._lanes.pop(lane, None)
