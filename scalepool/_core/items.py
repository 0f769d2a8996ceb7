"""Items of streams, and of tasks with ``num_returns="dynamic"``, that are lost and made again.

What is yielded at a position by any later run of the task, be it another attempt, takes the place of what was lost that
had this position. A run that has passed it already is of no use: then another one begins. What that yields besides is
dropped at once, and it is closed when nothing is missing any more, so that nobody is told anything twice, or made to
wait for a reader that waits for an item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.commands import Send
from scalepool._core.recipes import Items, RemakingTask
from scalepool._core.task import KeptTask
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.messages import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.keeping import Keeping
    from scalepool._core.lineage import Lineage
    from scalepool._core.recipes import Recipe
    from scalepool._core.state import HubState
    from scalepool._core.task import Task

__all__ = ["Ending", "ItemMaking"]

_VALUE: Final = int(Status.VALUE)
_FEWER: Final = "its task, which was run again for it, yielded {} items only: it should yield the same ones each time"


class Ending(NamedTuple):
    """How a task has ended; ``is_closed``: as it is a stream of which nobody wanted any more."""

    status: int
    payload: bytes
    objects: Sequence[int] = ()
    is_closed: bool = False


class ItemMaking:
    """Knows which items tasks have made, and fills in those that are made again. All other state is in HubState."""

    __slots__ = ("_endings", "_keeping", "_lineage", "_state")

    def __init__(self, state: HubState, endings: Endings, keeping: Keeping, lineage: Lineage) -> None:
        self._state = state
        self._endings = endings
        self._keeping = keeping
        self._lineage = lineage

    # ---- what tasks yield ----

    def recipe_of(self, task: Task, position: int) -> Recipe | None:
        """Return the recipe of a task that yields something at ``position``; it has one from its first item on."""
        if not task.terms.max_retries or task.group.actor is not None or not isinstance(task, KeptTask):
            return None
        if type(task) is RemakingTask:
            return self._lineage.recipes.get(task.id - 1)
        recipe = self._lineage.recipes.get(task.id)
        if recipe is None and position == 0:
            recipe = self._lineage.begin(task, Items(task))
        return recipe

    def made(self, recipe: Recipe, position: int, values: Sequence[int]) -> None:
        """A task has made these, the first of them at ``position``."""
        table, items = self._state.values, recipe.items
        assert items is not None
        for at, value in enumerate(values, position):
            items.positions[value] = at
            table.recipes[value] = recipe
        recipe.alive += len(values)

    def passed(self, recipe: Recipe, task: Task, message: m.Yield) -> None:
        """Some run of a task has yielded these items: they take the place of lost ones."""
        items = recipe.items
        assert items is not None
        items.seen[task.id] = (task.attempt, message.position + len(message.values))
        for at, payload in enumerate(message.payloads, message.position):
            if at in items.lost:
                self._fill(recipe, at, payload, message)

    def remade(self, task: RemakingTask) -> None:
        """A run that has no reader goes on as long as something is missing."""
        stream = self._state.streams[task.id]
        wants = self._state.values.lacks(task.id - 1)
        stream.is_closing = not wants
        self._state.out.command(Send(task.worker, m.Taken(task.id, stream.made if wants else -1)))

    def kept(self, peer: int, message: m.Keep) -> None:
        """A task with ``num_returns="dynamic"`` has made an item."""
        task = self._state.roster.known(peer).held.get(message.task)
        if task is None or task.attempt != message.attempt or task.returns != 1:
            return
        recipe = self.recipe_of(task, message.position)
        if recipe is None or recipe.items is None:
            return
        self.made(recipe, message.position, (message.value,))
        recipe.items.seen[task.id] = (task.attempt, message.position + 1)
        if message.position in recipe.items.lost:
            self._fill(recipe, message.position, message.payload, message)
            self._keeping.end_the_doomed()

    def _fill(self, recipe: Recipe, position: int, payload: bytes, message: m.Yield | m.Keep) -> None:
        """What was lost of this position is there again."""
        assert recipe.items is not None
        for value in recipe.items.lost.pop(position):
            record = self._state.values.get(value)
            if record is not None and record.status == PENDING:
                recipe.items.tries[value] = message.attempt
                record.status = message.status if isinstance(message, m.Keep) else _VALUE
                record.payload = payload
                self._keeping.keep_alive(value, message.references, message.objects[::4])
                self._keeping.spread(value, record, record.wanted or ())

    # ---- runs end ----

    def ran(self, task: KeptTask, ending: Ending) -> None:
        """A run has ended; what it should have made again, and has not, ends as it did, or is left to another run."""
        recipe = self._lineage.recipes.get(task.id - (type(task) is RemakingTask))
        if recipe is None or recipe.items is None:
            return
        items, again = recipe.items, dict[int, int]()
        yielded = items.yielded_by(task)
        items.seen.pop(task.id, None)
        stopped = ending.is_closed or (ending.status == Status.CANCELLED and type(task) is not RemakingTask)
        for position, lost in list(items.lost.items()):
            if self._takes_over(recipe, position, lost):
                continue
            del items.lost[position]
            if position < yielded or stopped:
                again.update(lost)
            else:
                self._end(lost, ending, yielded)
        self._lineage.make({value: peer for value, peer in again.items() if value in self._state.values})
        if not recipe.alive and not recipe.users:
            self._state.values.loose.append(recipe)
            self._lineage.settle()

    def _takes_over(self, recipe: Recipe, position: int, lost: dict[int, int]) -> bool:
        run = self._run_for(recipe, position)
        for value in lost:
            record = self._state.values.get(value)
            if record is not None:
                record.maker = run
        return run is not None

    def _end(self, lost: dict[int, int], ending: Ending, yielded: int) -> None:
        for value, peer in lost.items():
            record = self._state.values.get(value)
            if record is None or record.status != PENDING:
                continue
            if ending.status == _VALUE:
                self._lineage.give_up(value, peer, _FEWER.format(yielded))
                continue
            record.status, record.payload = ending.status, ending.payload
            self._keeping.keep_alive(value, (), ending.objects)
            self._keeping.spread(value, record, record.wanted or ())

    # ---- what is missing ----

    def miss(self, value: int, peer: int) -> None:
        """``value`` is to be made again, if it is an item at all."""
        recipe = self._state.values.recipes.get(value)
        if recipe is not None and recipe.items is not None and value in recipe.items.positions:
            recipe.items.miss(value, peer)

    def found(self, value: int) -> None:
        """It is not any more."""
        recipe = self._state.values.recipes.get(value)
        if recipe is not None and recipe.items is not None and value in recipe.items.positions:
            position = recipe.items.positions[value]
            lost = recipe.items.lost.get(position, {})
            lost.pop(value, None)
            if not lost:
                recipe.items.lost.pop(position, None)

    def is_coming(self, recipe: Recipe, value: int) -> bool:
        """Whether a task is under way that makes ``value`` again."""
        items = recipe.items
        if items is None or value not in items.positions:
            return recipe.id in self._state.tasks
        run = self._run_for(recipe, items.positions[value])
        record = self._state.values.get(value)
        if record is not None:
            record.maker = run
        return run is not None

    def _run_for(self, recipe: Recipe, position: int) -> KeptTask | None:
        """Return the run that yields this position, or at the end of which another one begins."""
        assert recipe.items is not None
        for number in recipe.runs:
            run = self._state.tasks.get(number)
            if isinstance(run, KeptTask):
                is_last = number != recipe.id or recipe.task.returns > 0
                if is_last or (recipe.items.yielded_by(run) <= position and not self._state.streams[number].is_closing):
                    return run
        return None

    def is_running(self, recipe: Recipe) -> bool:
        """Whether a task of this recipe is under way."""
        return any(number in self._state.tasks for number in recipe.runs)

    def let_go(self, recipe: Recipe) -> None:
        """A recipe is dropped: what it needs is forgotten where nothing else needs it."""
        values = self._state.values
        for need in dict.fromkeys(recipe.needs):
            used = values.recipes.get(need)
            if used is None or used.items is None or used not in recipe.uses or need not in used.items.used:
                continue
            used.items.used[need] -= 1
            if not used.items.used[need]:
                del used.items.used[need]
                if need not in values and used.items.forget(need):
                    del values.recipes[need]
