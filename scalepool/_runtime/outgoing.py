"""What a client has to say to the hub, in order; calls in a row become one message."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from scalepool._core.functions import Recent
from scalepool._runtime.unsent import merged
from scalepool._wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.task import Terms
    from scalepool._runtime.functions import Function
    from scalepool._runtime.packing import Packed
    from scalepool._runtime.unsent import Unsent
    from scalepool._runtime.values import Values
    from scalepool._store.mapping import Views

__all__ = ["Call", "KeptCall", "Outgoing"]

Call: TypeAlias = "tuple[int, Terms, int, Function, bytes, Packed | None]"
"""One submitted task on its way out: group, terms, task, function, payload, and what the payload was packed with
when it is more than bytes. A plain tuple: one is made for every task, and the columns of the message are a ``zip``."""


class KeptCall:
    """A task going out whose results are kept: ``returns`` values. It starts when those that it needs are there.

    With a negative number it is a stream, see ``messages``, and has two values.
    """

    __slots__ = ("call", "name", "needs", "parent", "returns", "terms")

    def __init__(self, name: str, returns: int, terms: Terms, parent: int) -> None:
        self.name = name
        self.returns = returns
        self.terms = terms
        self.parent = parent
        self.needs: Sequence[int] = ()
        self.call: Call

    @property
    def count(self) -> int:
        """How many values it has from the start."""
        return self.returns if self.returns > 0 else 2

    @property
    def batch(self) -> tuple[int, Terms, int]:
        """What must be the same for all tasks of a message."""
        return self.call[0], self.terms, self.parent


class Outgoing:
    """A queue that any thread may append to; the pumping thread drains it.

    Parameters
    ----------
    views
        Whose released objects are reported along.
    """

    __slots__ = ("_known", "_views", "changes", "held", "queue", "released", "unsent", "values")

    def __init__(self, views: Views) -> None:
        self._views = views
        self._known: Recent[bool] = Recent()  # by id: to hold a function is to hold the arrays that it carries
        self.queue: deque[m.Message | Call | KeptCall] = deque()
        self.released: deque[int] = deque()
        """Objects of this process whose handle is gone."""
        self.held: set[int] = set()
        """Those that have one, or a reference to a value that lies in them."""
        self.changes: deque[int] = deque()
        """References to values that came, and, as negative numbers, that went; see ``values``."""
        self.values: Values | None = None
        self.unsent: Unsent | None = None
        """The values of streams in the queue that wait to travel together; only of a worker."""

    @property
    def pending(self) -> bool:
        """Whether ``drain`` would return something."""
        return bool(self.queue or self.released or self.changes or self._views.has_released)

    def drain(self) -> list[m.Message]:
        """Take everything that is queued, as messages with many tasks in each, or many values of a stream."""
        out = self._batches()
        if self.unsent is not None and self.unsent.some:
            return merged(out)
        return out

    def _batches(self) -> list[m.Message]:
        hold, dropped = self.values.settle() if self.changes and self.values is not None else ((), ())
        # Taken before the queue: what is released was put before, and the hub must hear of it in this order.
        released = self._take_released() if self.released or self._views.has_released else ()
        out: list[m.Message] = [m.Hold(hold)] if hold else []
        batch: list[Call] = []
        objects: list[int] = []
        kept: list[KeptCall] = []
        queue = self.queue
        group = 0
        terms: Terms | None = None
        while queue:
            item = queue.popleft()
            if type(item) is m.Put:  # goes ahead of all, so it does not part the calls around it
                objects += item.objects
                continue
            if kept and (type(item) is not KeptCall or item.batch != kept[0].batch):
                out.append(self._submit_kept(kept))
                kept = []
            if type(item) is tuple:  # no message is: those are subclasses of it
                call: Call = item  # type: ignore[assignment]  # mypy does not narrow so far
                if (call[0] != group or call[1] is not terms) and batch:
                    out.append(self._submit(batch))
                    batch = []
                group, terms = call[0], call[1]
                batch.append(call)
                continue
            if batch:
                out.append(self._submit(batch))
                batch = []
            if type(item) is KeptCall:
                kept.append(item)
            else:
                out.append(item)  # type: ignore[arg-type]
        if batch:
            out.append(self._submit(batch))
        if kept:
            out.append(self._submit_kept(kept))
        if released or dropped:
            out.append(m.Release([*released, *dropped]))
        return [m.Put(objects), *out] if objects else out

    def _submit_kept(self, kept: list[KeptCall]) -> m.Submit:
        needs = [need for one in kept for need in one.needs]
        return self._submit([one.call for one in kept])._replace(
            parent=kept[0].parent,
            returns=[one.returns for one in kept],
            need_counts=[len(one.needs) for one in kept] if needs else (),
            needs=needs,
        )

    def _take_released(self) -> list[int]:
        """Objects that this process neither has a handle of nor reads, as far as that is news."""
        without_handle: list[int] = []
        while self.released:
            without_handle.append(self.released.popleft())
        self.held.difference_update(without_handle)
        without_view = self._views.drain_released()
        # A view that is alive still reports its end, and so does a handle.
        released = [object_id for object_id in without_handle if not self._views.live(object_id)]
        released += [object_id for object_id in without_view if object_id not in self.held]
        return list(dict.fromkeys(released))

    def _submit(self, calls: list[Call]) -> m.Submit:
        groups, terms, tasks, functions, payloads, packed = zip(*calls, strict=True)
        fresh = self._fresh(functions)
        objects: list[int] = []
        if any(packed):
            for one in packed:
                if one is not None:
                    for segment in one.segments:
                        objects.extend(segment)
        counts, references = _references(functions, packed)
        return m.Submit(
            group=groups[0],
            max_retries=terms[0].max_retries,
            functions=[function.id for function in fresh],
            blobs=[function.packed.data for function in fresh],
            tasks=tasks,
            calls=[function.id for function in functions],
            payloads=payloads,
            reference_counts=counts,
            references=references,
            objects=objects,
            time_limit_ms=_in_ms(terms[0].time_limit_s),
        )

    def _fresh(self, functions: tuple[Function, ...]) -> list[Function]:
        """Note the use of each, and return those that the hub does not have (any more)."""
        fresh = []
        last = None
        for function in functions:
            if function is last:
                continue  # using the newest entry again changes nothing, at neither end
            last = function
            if self._known.use(function.id) is None:
                self._known.add(function.id, True)
                fresh.append(function)
        return fresh


def _in_ms(limit_s: float) -> int:
    """Return a limit as it travels: never shorter than it was, and 0 only when there is none."""
    return -int(-limit_s * 1000 // 1)


def _references(functions: tuple[Function, ...], packed: tuple[Packed | None, ...]) -> tuple[list[int], list[int]]:
    """Every object that each call needs, its function's included, as (counts, flat ids); empty when none does."""
    if not any(packed) and not any(function.packed.references for function in set(functions)):
        return [], []
    each = [
        (*(one.references if one is not None else ()), *function.packed.references)
        for function, one in zip(functions, packed, strict=True)
    ]
    return [len(one) for one in each], [object_id for one in each for object_id in one]
