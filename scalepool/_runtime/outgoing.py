"""What a client has to say to the hub, in order; calls in a row become one message."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from scalepool._core.functions import Recent
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from scalepool._runtime.functions import Function
    from scalepool._runtime.packing import Packed
    from scalepool._store.mapping import Views

__all__ = ["Call", "Outgoing"]


class Call(NamedTuple):
    """One submitted task on its way out."""

    group: int
    max_retries: int
    task: int
    function: Function
    packed: Packed


class Outgoing:
    """A queue that any thread may append to; the pumping thread drains it.

    Parameters
    ----------
    views
        Whose released objects are reported along.
    """

    __slots__ = ("_known", "_views", "queue", "released")

    def __init__(self, views: Views) -> None:
        self._views = views
        self._known: Recent[Function] = Recent()
        self.queue: deque[m.Message | Call] = deque()
        self.released: deque[int] = deque()

    @property
    def pending(self) -> bool:
        """Whether ``drain`` would return something."""
        return bool(self.queue or self.released or self._views.has_released)

    def drain(self) -> list[m.Message]:
        """Take everything that is queued, as messages with many tasks in each."""
        out: list[m.Message] = []
        batch: list[Call] = []
        queue = self.queue
        while queue:
            item = queue.popleft()
            if type(item) is Call:
                if batch and batch[0].group != item.group:
                    out.append(self._submit(batch))
                    batch = []
                batch.append(item)
                continue
            if batch:
                out.append(self._submit(batch))
                batch = []
            out.append(item)  # type: ignore[arg-type]  # mypy does not narrow on type() is
        if batch:
            out.append(self._submit(batch))
        if self.released or self._views.has_released:
            released = self._views.drain_released()
            while self.released:
                released.append(self.released.popleft())
            if released:
                out.append(m.Release(released))
        return out

    def _submit(self, calls: list[Call]) -> m.Submit:
        functions, blobs = [], []
        objects: list[int] = []
        for call in calls:
            function = call.function
            if self._known.use(function.id) is None:
                self._known.add(function.id, function)
                functions.append(function.id)
                blobs.append(function.packed.data)
            segment = call.packed.segment
            if segment is not None:
                objects.extend((segment.object_id, segment.pid, segment.fd, segment.size_bytes))
        counts, references = _references(calls)
        return m.Submit(
            group=calls[0].group,
            max_retries=calls[0].max_retries,
            functions=functions,
            blobs=blobs,
            tasks=[call.task for call in calls],
            calls=[call.function.id for call in calls],
            payloads=[call.packed.data for call in calls],
            reference_counts=counts,
            references=references,
            objects=objects,
        )


def _references(calls: list[Call]) -> tuple[list[int], list[int]]:
    """Every object that each call needs, its function's included, as (counts, flat ids); empty when none does."""
    each = [(*call.packed.references, *call.function.packed.references) for call in calls]
    if not any(each):
        return [], []
    return [len(one) for one in each], [object_id for one in each for object_id in one]
