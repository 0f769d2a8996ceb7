"""What a process knows of one value, and waiting for several of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from scalepool._runtime.values import Values
    from scalepool._store.files import SegmentRef

__all__ = ["ENDED", "UNASKED", "WAITING", "Bell", "Gathering", "Slot"]

_VALUE: Final = int(Status.VALUE)
WAITING: Final = -1
"""In place of a status: a reply will come."""
UNASKED: Final = -2
"""In place of a status: the reference came from elsewhere, and nobody here has asked for its value yet."""
ENDED: Final = 1000
"""In place of a status: its session has ended before it."""
_STATES: Final = {_VALUE: "ready", WAITING: "pending", UNASKED: "elsewhere", int(Status.CANCELLED): "cancelled"}


class Slot:
    """One value, as far as this process knows."""

    __slots__ = ("count", "data", "held", "id", "name", "places", "size_bytes", "status", "task", "watchers")

    def __init__(self, value: int, task: int, name: str, status: int) -> None:
        self.id = value
        self.task = task
        """The task that makes it, i.e. that task's first value."""
        self.name = name
        self.status = status
        self.count = 0
        self.held = False
        """Whether the hub knows that this process has references."""
        self.size_bytes = 0
        """Of the arguments of its task, while these are outstanding."""
        self.data = b""
        self.places: Mapping[int, SegmentRef] | None = None
        self.watchers: list[Callable[[Slot], None]] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the value is there, or never will be."""
        return self.status >= 0

    @property
    def task_id(self) -> int:
        """The task to wait for; named as in a TaskFuture."""
        return self.task

    @property
    def state(self) -> str:
        """A word for people."""
        return _STATES.get(self.status, "failed")


class Bell:
    """Lets any number of threads and event loops wait for the next of several events.

    Parameters
    ----------
    lock
        Under which slots are watched.
    """

    __slots__ = ("_lock", "_waited")

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._waited: Slot | None = None

    def ring(self) -> None:
        """Something has happened, and can be seen."""
        with self._lock:  # so that ``slot`` has either seen it, or has left something to be told
            waited, self._waited = self._waited, None
        if waited is not None:
            waited.status = _VALUE
            watchers, waited.watchers = waited.watchers, None
            for watcher in watchers or ():
                watcher(waited)

    def slot(self, is_over: Callable[[], bool], task: int = 0, name: str = "") -> Slot:
        """Return something to watch that is over when it rings, or at once if ``is_over()``."""
        with self._lock:
            slot = self._waited
            if slot is None or is_over():
                slot = Slot(0, task, name, WAITING)
                if is_over():
                    slot.status = _VALUE
                else:
                    self._waited = slot
            return slot


class Gathering:
    """Waits for some of several slots; true when it has ``number`` of them, or as soon as one has failed."""

    __slots__ = ("_eager", "_failed", "_left", "_values", "slots")

    def __init__(self, values: Values, slots: Iterable[Slot], number: int | None = None, *, eager: bool = True) -> None:
        self._values = values
        self.slots = [slot for slot in dict.fromkeys(slots) if slot.status < 0]
        self._left = len(self.slots) if number is None else number
        self._eager = eager
        self._failed = False
        values.watch(self.slots, self._note)

    def _note(self, slot: Slot) -> None:
        self._left -= 1
        if slot.status != _VALUE:
            self._failed = True

    def __call__(self) -> bool:
        return self._left <= 0 or (self._failed and self._eager)

    def needed(self, tasks: int) -> int:
        """Return how many of so many tasks have to end; negative: all, or one with an error. See ``Block``."""
        if self._eager:
            return -tasks
        if self._left >= len(self.slots):
            return tasks
        return self._left if tasks == len(self.slots) else 0

    def wait(self, deadline: float | None) -> bool:
        """Wait until it is true; False when time was up first."""
        try:
            return self() or self._values.client.wait_for(self, self.slots, deadline)
        finally:
            self._values.unwatch(self.slots, self._note)
