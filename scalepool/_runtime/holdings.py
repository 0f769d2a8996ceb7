"""The tasks that a worker holds and has not started, and the functions they call."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Final

from scalepool._core.functions import Recent
from scalepool._runtime.executor import FunctionSlot, KeptItem, WorkItem
from scalepool._store.files import places_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from scalepool._store.files import SegmentRef
    from scalepool._wire import messages as m

__all__ = ["Holdings"]

KEEP_LOADED: Final = 32
"""Functions that stay loaded: an older one is loaded again from its pickle, should it be called."""

_new_item = partial(tuple.__new__, WorkItem)  # a third of the price of WorkItem(...)


class Holdings:
    """A queue that the main thread takes from while the tick thread may add to it and take back from its end.

    Each step on the deque is one step of the interpreter, so the two never take the same task.
    """

    __slots__ = ("_loaded", "_slots", "queue", "waits", "wanted")

    def __init__(self) -> None:
        self._slots: Recent[FunctionSlot] = Recent()
        self._loaded: deque[FunctionSlot] = deque()
        self.queue: deque[WorkItem] = deque()
        self.waits = 0
        """How many have begun."""
        self.wanted: frozenset[int] | None = None
        """While the main thread waits inside a task: those of the awaited tasks that it may run in place."""

    def begin_wait(self, wanted: Iterable[int]) -> frozenset[int] | None:
        """The task that runs now waits for these; return what the one around it waits for, if there is one."""
        outer, self.wanted = self.wanted, frozenset(wanted)
        self.waits += 1
        return outer

    def may_help(self, message: m.Help) -> None:
        """The hub says what else this wait depends on; it may be over by now, and another one have begun."""
        if message.wait == self.waits and self.wanted is not None:
            self.wanted |= frozenset(message.tasks)

    def add(self, message: m.Run) -> list[WorkItem]:
        """Take in the tasks of ``message``; return those that must go back because the main thread waits.

        They were sent before the hub knew of the wait. Run in place they could themselves wait for something that the
        waiting task has yet to do.
        """
        items = self._items(message)
        wanted = self.wanted
        if wanted is None:
            self.queue.extend(items)
            return []
        self.queue.extend(item for item in items if item.task in wanted)
        return [item for item in items if item.task not in wanted]

    def _items(self, message: m.Run) -> list[WorkItem]:
        places = places_of(message.objects)
        columns = zip(
            message.tasks,
            message.attempts,
            message.groups,
            self._slots_of(message, places),
            message.payloads,
            repeat(places),
            _references(message) if message.reference_counts else repeat(()),
            message.losses or repeat(b""),
            strict=False,
        )
        items = list(map(_new_item, columns))
        return _kept(message, items) if message.returns else items

    def _slots_of(self, message: m.Run, places: dict[int, SegmentRef]) -> list[FunctionSlot]:
        """Return the function of each call, keeping in step with what the hub remembers having sent."""
        blobs = dict(zip(message.functions, message.blobs, strict=True))
        slots: list[FunctionSlot] = []
        last = -1
        for call in message.calls:
            if call != last:
                last = call
                slot = self._slots.use(call)
                if slot is None:
                    slot = FunctionSlot(blobs[call], places)
                    self._slots.add(call, slot)
                    self._loaded.append(slot)
                    if len(self._loaded) > KEEP_LOADED:
                        self._loaded.popleft().unload()
                elif places:
                    slot.places = places
            slots.append(slot)  # type: ignore[arg-type]  # set for the first call at the latest
        return slots

    def unload(self) -> None:
        """Let go of what functions hold: a closure's or a partial's objects. Their pickles stay, for the next call."""
        for slot in self._slots.values():
            slot.unload()

    def take_oldest(self) -> WorkItem | None:
        """Take the next task to run; ``None`` when there is none (any more)."""
        try:
            return self.queue.popleft()
        except IndexError:
            return None

    def take_newest(self, number: int) -> list[WorkItem]:
        """Take up to ``number`` tasks from the end, in the order in which they came."""
        taken: list[WorkItem] = []
        while self.queue and len(taken) < number:
            try:
                taken.append(self.queue.pop())
            except IndexError:
                break  # the main thread took the last one
        return taken[::-1]

    def take_all(self) -> list[WorkItem]:
        """Take everything."""
        return self.take_newest(len(self.queue) + 1)

    def take(self, tasks: Collection[int]) -> tuple[list[WorkItem], Sequence[int]]:
        """Take those of ``tasks`` that are here; return them, and the ids of the others."""
        wanted = set(tasks)
        taken = [item for item in list(self.queue) if item.task in wanted and self._removed(item)]
        return taken, tuple(wanted.difference(item.task for item in taken))

    def _removed(self, item: WorkItem) -> bool:
        try:
            self.queue.remove(item)
        except ValueError:
            return False  # the main thread has just taken it
        return True


def _references(message: m.Run) -> Iterator[Sequence[int]]:
    at = 0
    for count in message.reference_counts:
        yield message.references[at : at + count]
        at += count


def _kept(message: m.Run, items: list[WorkItem]) -> list[WorkItem]:
    """Put the tasks whose results are kept in the place of plain ones, with the values that they need."""
    given = dict(zip(message.values, message.value_payloads, strict=True)).get
    counts = message.need_counts or [0] * len(items)
    at = 0
    for index, (item, returns, count) in enumerate(zip(items, message.returns, counts, strict=True)):
        if returns:
            needs = message.needs[at : at + count]
            items[index] = KeptItem.of(item, returns, needs, [given(need) for need in needs])
        at += count
    return items
