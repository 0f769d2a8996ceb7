"""How values can be made again: the task that made them, and which of the values that it yields are which.

The items of a stream, and those of a task with ``num_returns="dynamic"``, have numbers of their own, and are known by
their positions: a task that runs again is to yield the same ones, in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.task import KeptTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Items", "Recipe", "RemakingTask"]


class RemakingTask(KeptTask):
    """Another run of a stream, for the sake of items that are lost. It has no reader, and makes no values of its own.

    Its number is that of the right to read the stream, which is none of a task: the stream itself may run still.
    """

    __slots__ = ()

    @property
    def values(self) -> range:
        """None."""
        return range(0)


class Items:
    """The items of one task."""

    __slots__ = ("_first", "lost", "positions", "seen", "tries", "used")

    def __init__(self, task: KeptTask) -> None:
        self._first = task
        self.positions: dict[int, int] = {}
        """By value: where it was among what the task yielded. Those that are kept, or that recipes need."""
        self.lost: dict[int, dict[int, int]] = {}
        """By position: the values that are to be made again, each with the peer whose memory it was lost from."""
        self.seen: dict[int, tuple[int, int]] = {}
        """By run: its attempt, and how many items that has yielded so far."""
        self.tries: dict[int, int] = {}
        """By value, where it has been made again: in which attempt. Each is counted by itself, as they get lost so."""
        self.used: dict[int, int] = {}
        """By value: how many recipes need it."""

    def forget(self, value: int) -> bool:
        """Nobody has a reference to ``value`` any more; return whether it is not needed for others either."""
        if value in self.used or value not in self.positions:
            return False
        del self.positions[value]
        self.tries.pop(value, None)
        return True

    def miss(self, value: int, peer: int) -> None:
        """``value`` is to be made again."""
        self.lost.setdefault(self.positions[value], {})[value] = peer

    def attempt_of(self, value: int) -> int:
        """Return in which attempt ``value`` was made."""
        return self.tries.get(value, self._first.attempt)

    def yielded_by(self, run: KeptTask) -> int:
        """Return how many items this attempt of a run has yielded."""
        attempt, count = self.seen.get(run.id, (0, 0))
        return count if attempt == run.attempt else 0


class Recipe:
    """How a task can be run again. ``references`` are pinned as long as it is kept."""

    __slots__ = ("alive", "id", "items", "needs", "references", "size_bytes", "task", "users", "uses")

    def __init__(self, task: KeptTask, references: Sequence[int], size_bytes: int) -> None:
        self.id = task.id
        self.task = task
        """Its last run; of a stream the one that has, or had, a reader."""
        self.needs = task.needs
        self.references = references
        self.size_bytes = size_bytes
        self.alive = 0
        """How many of the task's values are kept."""
        self.items: Items | None = None
        self.uses: Sequence[Recipe] = ()
        """Recipes of what the task needs."""
        self.users = 0
        """How many recipes have this one among theirs."""

    @property
    def values(self) -> Iterator[int]:
        """What the task makes, as far as it can be made again."""
        if self.task.returns > 0:
            yield from self.task.values
        if self.items is not None:
            yield from self.items.positions

    @property
    def is_at_work(self) -> bool:
        """Whether somebody waits for items that are made again."""
        return self.items is not None and bool(self.items.lost)

    @property
    def runs(self) -> tuple[int, ...]:
        """The numbers of the tasks by which it is run, or was."""
        return (self.id,) if self.task.returns > 0 else (self.id, self.id + 1)

    def attempt_of(self, value: int) -> int:
        """Return in which attempt ``value`` was made."""
        return self.task.attempt if self.items is None else self.items.attempt_of(value)

    def again(self, attempt: int) -> KeptTask:
        """Return the same task, for another attempt."""
        old = self.task
        kind, number = (KeptTask, self.id) if old.returns > 0 else (RemakingTask, self.id + 1)
        task = kind(number, old.group, old.function, old.payload, list(self.references))
        task.returns, task.parent, task.terms = old.returns, old.parent, old.terms
        task.attempt = attempt
        return task

    def __repr__(self) -> str:
        return f"<Recipe of {self.task} alive={self.alive} users={self.users}>"
