"""The values that the hub keeps: what tasks made for whoever has a reference, and who still needs them.

A value lives while some peer *holds* it (has a reference to it), or while it is *pinned*: by a task that needs it or
carries a reference to it, or by another value that has a reference to it inside. A value that nobody holds is forgotten
even before its task has ended; the task runs on, and what it makes is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._wire.messages import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Sequence

    from scalepool._core.recipes import Recipe
    from scalepool._core.task import KeptTask

__all__ = ["PENDING", "ValueRecord", "ValueTable"]

PENDING: Final = -1
"""In place of a status: the task that makes it has not ended."""


class ValueRecord:
    """One value. ``objects`` are those that it lies in, ``references`` what it has inside: values and objects."""

    # There may be millions of them: the rare ones among these are None until they are needed, holders are a tuple.
    __slots__ = ("dependents", "holders", "maker", "objects", "payload", "pins", "references", "status", "wanted")

    def __init__(self, holders: tuple[int, ...]) -> None:
        self.status: int = PENDING
        self.payload = b""
        self.objects: Sequence[int] = ()
        self.references: Sequence[int] = ()
        self.pins = 0
        self.holders = holders
        self.maker: KeptTask | None = None
        """The task that makes it, until that has ended."""
        self.dependents: list[KeptTask] | None = None
        """Tasks that wait for it."""
        self.wanted: list[int] | None = None
        """Peers, beside the one that submitted its task, that are to be told how it ends."""

    def __repr__(self) -> str:
        return f"<ValueRecord status={self.status} holders={self.holders} pins={self.pins}>"


class ValueTable:
    """Counts references to values; says what falls away with a value."""

    __slots__ = (
        "_records",
        "abandoned",
        "borrowed",
        "busy",
        "dropped",
        "get",
        "handles",
        "loose",
        "recipes",
        "recipes_by_task",
    )

    def __init__(self) -> None:
        self.abandoned: list[KeptTask] = []
        """Streams one of whose two values was forgotten before they have ended, for whoever looks after them."""
        self.borrowed = 0
        """How many holds peers other than the driver have: they will say when they let go."""
        self._records: dict[int, ValueRecord] = {}
        self.handles: dict[int, int] = {}
        """The peer that each actor is itself: what it holds of its own does not keep it alive."""
        self.busy: Callable[[int], bool] = bool
        """Whether an actor has calls that have not ended: what these return may have a handle of it."""
        self.dropped: list[int] = []
        """Actors that nobody has a handle of any more."""
        self.recipes: dict[int, Recipe] = {}
        """How values can be made again, those included that are forgotten and that others were made of."""
        self.recipes_by_task: dict[int, Recipe] = {}
        """The oldest first."""
        self.loose: list[Recipe] = []
        """Recipes whose last value was forgotten, for whoever looks after them."""
        self.get = self._records.get
        """Returns the record of a value; ``None`` when it is not (or no longer) there."""

    def open(self, values: Iterable[int], peer: int, maker: KeptTask | None = None) -> None:
        """Enter values that are to come; ``peer`` holds them."""
        holders = (peer,)
        for value in values:
            record = self._records[value] = ValueRecord(holders)
            record.maker = maker
            self.borrowed += peer != DRIVER

    def reopen(self, value: int, maker: KeptTask) -> None:
        """Enter a value that was forgotten, and that is to be made again for a task that needs it."""
        record = self._records[value] = ValueRecord(())
        record.maker = maker

    def open_handle(self, actor: int, peer: int, payload: bytes) -> None:
        """Enter what the handles of an actor refer to; ``peer`` has one."""
        self.open((actor,), peer)
        record = self._records[actor]
        record.status, record.payload = 0, payload
        self.handles[actor] = 0

    def hold(self, peer: int, values: Iterable[int]) -> None:
        """``peer`` has references to these values."""
        for value in values:
            record = self._records.get(value)
            if record is not None and peer not in record.holders:
                record.holders = (*record.holders, peer)
                self.borrowed += peer != DRIVER

    def release(self, peer: int, values: Iterable[int]) -> list[int]:
        """``peer`` has none any more; return the objects that are pinned by values which are forgotten now."""
        released = []
        for value in values:
            record = self._records.get(value)
            if record is not None and peer in record.holders:
                record.holders = tuple(holder for holder in record.holders if holder != peer)
                self.borrowed -= peer != DRIVER
                if record.wanted is not None and peer in record.wanted:
                    record.wanted.remove(peer)
                released.append(value)
        return self._forget(released)

    def pin(self, values: Iterable[int]) -> None:
        """Something needs these values, or refers to them."""
        for value in values:
            record = self._records.get(value)
            if record is not None:
                record.pins += 1

    def unpin(self, values: Iterable[int]) -> list[int]:
        """It does no longer; return what ``release`` returns."""
        unpinned = []
        for value in values:
            record = self._records.get(value)
            if record is not None:
                record.pins -= 1
                unpinned.append(value)
        return self._forget(unpinned)

    def look_again(self, actor: int) -> list[int]:
        """All calls of an actor have ended; return what ``release`` returns."""
        record = self._records.get(actor)
        return self._forget([actor]) if record is not None and len(record.holders) <= 1 else []

    def forget_peer(self, peer: int) -> list[int]:
        """``peer`` is gone: it holds nothing any more; return what ``release`` returns."""
        return self.release(peer, [value for value, record in self._records.items() if peer in record.holders])

    def _forget(self, candidates: list[int]) -> list[int]:
        """Strike off those that nobody needs, and what was needed only by them; not by recursion: chains are long."""
        loose: list[int] = []
        while candidates:
            value = candidates.pop()
            record = self._records.get(value)
            if record is None or record.pins or (record.holders and not self._is_selfish(value, record)):
                continue
            if value in self.handles and self.busy(value):
                continue  # see ``look_again``
            del self._records[value]
            if value in self.handles:
                del self.handles[value]
                self.dropped.append(value)
                self.borrowed -= len(record.holders)
            if record.maker is not None and record.maker.returns < 0:
                self.abandoned.append(record.maker)
            if self.recipes and (recipe := self.recipes.get(value)) is not None:
                recipe.alive -= 1
                if recipe.items is not None and recipe.items.forget(value):
                    del self.recipes[value]
                if not recipe.alive and not recipe.users:
                    self.loose.append(recipe)
            loose.extend(record.objects)
            for reference in record.references:
                other = self._records.get(reference)
                if other is None:
                    loose.append(reference)
                else:
                    other.pins -= 1
                    candidates.append(reference)
        return loose

    def _is_selfish(self, value: int, record: ValueRecord) -> bool:
        """Whether only an actor itself has a handle of it."""
        own = self.handles.get(value)
        return own is not None and own != DRIVER and record.holders == (own,)

    def lacks(self, task: int) -> bool:
        """Whether somebody needs an item of this task that is to be made again."""
        recipe = self.recipes_by_task.get(task)
        lost = recipe.items.lost.values() if recipe is not None and recipe.items is not None else ()
        return any(value in self._records for values in lost for value in values)

    def items(self) -> ItemsView[int, ValueRecord]:
        """All values by id; for checks."""
        return self._records.items()

    def records(self) -> Iterable[ValueRecord]:
        """All of them; for checks."""
        return self._records.values()

    def __contains__(self, value: int) -> bool:
        return value in self._records

    def __len__(self) -> int:
        return len(self._records)
