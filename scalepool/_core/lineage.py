"""Values that are lost are made again, by the tasks that made them.

What a value lies in can be lost: with the host that it was on, or with a file on a damaged disk. So of each task that
may run again (``max_retries``) the hub keeps a *recipe* beside the values that it made: the task itself, as it came. It
is dropped with the last of these values, unless another recipe needs one of them: then what is kept is the recipe
alone, and a value that was forgotten is made once more if what was made of it is lost.

The items of streams are made again as well, by a run of the task beside the one that has, or had, a reader. It ends
with the last item that was lost. See ``items``.

A task that makes a value again counts as another attempt, so that no value is made more often than ``max_retries``
allows. Whoever waits for the value, or needs it, waits on. A value that nobody can make again ends as LOST.

What recipes take is bounded: the oldest are dropped first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from scalepool._base.ids import peer_of
from scalepool._core.actor import ActorTask
from scalepool._core.items import ItemMaking
from scalepool._core.recipes import Items, Recipe
from scalepool._core.streams import Stream
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.messages import CloseMode, Status

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.events import ObjectsLost
    from scalepool._core.items import Ending
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._core.values import ValueRecord

__all__ = ["LIMIT_BYTES", "Lineage", "carry", "stand_back", "wait_again"]

LIMIT_BYTES: Final = 64 << 20
"""What all recipes may take, with the objects that only they keep."""
_RECIPE_BYTES: Final = 600
_HAS_DATA: Final = frozenset({int(Status.VALUE), int(Status.ERROR)})
_OPEN: Final = (None, CloseMode.DRAIN)

_NO_RECIPE: Final = (
    "nothing can make it again: a task may run again where max_retries allows it, calls of actors and put() never"
)
_DROPPED: Final = "how it was made is no longer known, as that would take more than lineage_limit_bytes"
_USED_UP: Final = "its task has run {} times, which is as often as max_retries allows"
_ORPHANED: Final = "the process that submitted its task has ended"
_NEED: Final = "value {} that its task needs is gone, too, and nothing can make that again"


class Lineage:
    """Keeps recipes, and runs them when values are lost. All other state is in HubState."""

    __slots__ = (
        "_endings",
        "_has_dropped",
        "_keeping",
        "_settling",
        "_state",
        "items",
        "limit_bytes",
        "recipes",
        "size_bytes",
    )

    def __init__(self, state: HubState, endings: Endings, keeping: Keeping, limit_bytes: int) -> None:
        self._state = state
        self._endings = endings
        self._keeping = keeping
        self._settling = False
        self._has_dropped = False
        self.limit_bytes = limit_bytes
        self.recipes = state.values.recipes_by_task
        self.size_bytes = 0
        self.items = ItemMaking(state, endings, keeping, self)

    # ---- recipes come and go ----

    def keep(self, task: KeptTask) -> None:
        """A task that may run again has made its values, and still pins what it needs."""
        recipe = self.recipes.get(task.id)
        if recipe is not None:
            recipe.task = task
        elif any(value in self._state.values for value in task.values):
            self.begin(task)

    def begin(self, task: KeptTask, items: Items | None = None) -> Recipe | None:
        """Keep a recipe from now on, if there is room for it; ``task`` pins what it needs."""
        state = self._state
        values = state.values
        needed = {one for need in task.needs if (found := values.get(need)) is not None for one in found.objects}
        references = [one for one in task.references if one not in needed]
        size_bytes = _RECIPE_BYTES + len(task.payload) + 8 * len(task.needs) + _bytes_of(state, references)
        if size_bytes > self.limit_bytes:
            self._has_dropped = True
            return None
        recipe = self.recipes[task.id] = Recipe(task, references, size_bytes)
        recipe.items = items
        for value in recipe.values:
            values.recipes[value] = recipe
            recipe.alive += value in values
        uses = {need: used for need in task.needs if (used := values.recipes.get(need))}
        recipe.uses = list(uses.values())
        for need, used in uses.items():
            used.users += 1
            if used.items is not None and need in used.items.positions:
                used.items.used[need] = used.items.used.get(need, 0) + 1
        state.objects.pin(references)
        values.pin(references)
        self.size_bytes += size_bytes
        while self.size_bytes > self.limit_bytes:
            self._has_dropped = True
            oldest = next((one for one in self.recipes.values() if not one.is_at_work), None)
            if oldest is None:
                break
            self._drop(oldest)
        return self.recipes.get(task.id)

    def ended(self, task: KeptTask, ending: Ending) -> None:
        """A task that may run again has ended, and still pins what it needs."""
        if task.returns > 0 and ending.status == Status.VALUE:
            self.keep(task)
        self.items.ran(task, ending)
        if task.returns > 0 and ending.status != Status.VALUE and (recipe := self.recipes.get(task.id)) is not None:
            self._drop(recipe)  # its values were to be made again, and are settled for good

    def settle(self) -> None:
        """Drop the recipes whose last value was forgotten, and that no other one needs; not by recursion."""
        if self._settling:
            return
        self._settling = True
        loose = self._state.values.loose
        try:
            while loose:
                recipe = loose.pop()
                is_idle = not recipe.alive and not recipe.users and self.recipes.get(recipe.id) is recipe
                # A stream that runs may yield others.
                if is_idle and not (recipe.items is not None and self.items.is_running(recipe)):
                    self._drop(recipe)
        finally:
            self._settling = False

    def _drop(self, recipe: Recipe) -> None:
        values = self._state.values
        del self.recipes[recipe.id]
        for value in recipe.values:
            values.recipes.pop(value, None)
        self.size_bytes -= recipe.size_bytes
        self.items.let_go(recipe)
        for used in recipe.uses:
            used.users -= 1
            if not used.users and not used.alive:
                values.loose.append(used)
        self._endings.unpin(recipe.references)
        self.settle()

    # ---- values are lost ----

    def objects_lost(self, event: ObjectsLost) -> None:
        """Nobody can read these objects any more."""
        gone = set(event.objects)
        self._recover(
            [
                value
                for value, record in self._state.values.items()
                if record.status in _HAS_DATA and not gone.isdisjoint(record.objects)
            ]
        )

    def missing(self, peer: int, message: m.Missing) -> None:
        """A peer cannot read a value: it will be told what becomes of that."""
        self.unreadable(message.value, message.objects)
        self._keeping.want(peer, m.Want((message.value,)))

    def unreadable(self, value: int, objects: Sequence[int]) -> None:
        """Somebody could not read these objects of a value; nothing happens if it has been made again meanwhile."""
        record = self._state.values.get(value)
        if record is not None and record.status in _HAS_DATA and not set(objects).isdisjoint(record.objects):
            self._recover([value])

    def _recover(self, hit: Sequence[int]) -> None:
        """Make these values again, with what is needed for that; those that cannot be made end as LOST."""
        makers: dict[int, int] = {}
        for value in hit:
            record = self._state.values.get(value)
            if record is not None:  # else only another one had a reference to it
                makers[value] = peer_of(record.objects[0])
                self._invalidate(record)
        self._hold_back(makers)
        self.make(makers)

    def make(self, makers: Mapping[int, int]) -> None:
        """Make these pending values again, each with the peer whose memory it was lost from."""
        plan = _Plan()
        hopeless: dict[int, str] = {}
        for value, peer in makers.items():
            if value in self._state.values:
                self.items.miss(value, peer)
                if why := self._add_to(plan, value):
                    hopeless[value] = why
        runs = [(recipe, self._reopen(recipe, plan)) for recipe in plan.recipes.values()]
        for recipe, run in runs:
            self._begin(recipe, run)
        for value, why in hopeless.items():
            self.give_up(value, makers[value], why)
        self._keeping.end_the_doomed()

    def give_up(self, value: int, peer: int, why: str) -> None:
        """Nobody can make ``value`` again."""
        record = self._state.values.get(value)
        if record is not None:
            record.status = int(Status.LOST)
            record.payload = json.dumps({"value": value, "worker": peer, "why": why}).encode()
            self._keeping.spread(value, record, record.wanted or ())
            self.items.found(value)

    def _invalidate(self, record: ValueRecord) -> None:
        """What a value consists of is of no use any more; whoever has been told of it will be told again."""
        objects, values = self._state.objects, self._state.values
        readers = {peer for one in record.objects for peer in objects.holders(one)}
        record.status, record.payload = PENDING, b""
        record.wanted = [peer for peer in record.holders if peer in readers] or None
        loose, record.objects, references, record.references = record.objects, (), record.references, ()
        self._endings.free(objects.unpin(loose))
        self._endings.free(objects.unpin(references))
        self._keeping.let_go(values.unpin(references))

    def _hold_back(self, lost: Container[int]) -> None:
        """Tasks that need these values wait for them once more, those that workers have when they come back."""
        for task in list(self._state.tasks.values()):
            if not isinstance(task, KeptTask):
                continue
            unmet = [need for need in task.needs if need in lost]
            for need in unmet:
                _depend(self._state.values.get(need), task)
            if unmet and task.state is TaskState.QUEUED:
                stand_back(task)

    def _add_to(self, plan: _Plan, value: int) -> str:
        """Add what has to run for a value; return why it cannot, or nothing."""
        state, recipes = self._state, self._state.values.recipes
        first = recipes.get(value)
        if first is None:
            return _DROPPED if self._has_dropped else _NO_RECIPE
        found: dict[int, Recipe] = {}
        needs: list[int] = []
        todo = [(first, value)]
        while todo:
            recipe, wanted = todo.pop()
            task, group = recipe.task, recipe.task.group
            if recipe.id in found or self.items.is_coming(recipe, wanted):
                continue
            made_in = recipe.attempt_of(wanted)
            if made_in > task.terms.max_retries:
                return _USED_UP.format(made_in)
            if state.groups.get(group.id) is not group or group.failure or group.closing not in _OPEN:
                return _ORPHANED
            found[recipe.id] = recipe
            plan.attempts[recipe.id] = max(made_in + 1, plan.attempts.get(recipe.id, 0))
            for need in recipe.needs:
                if need in state.values:
                    continue
                if need not in recipes:
                    return _NEED.format(need)
                needs.append(need)
                todo.append((recipes[need], need))
        plan.recipes.update(found)
        plan.needs.update(needs)
        return ""

    def _reopen(self, recipe: Recipe, plan: _Plan) -> KeptTask:
        """Enter the values that a task will make again: those that are lost, and those that another one needs."""
        values = self._state.values
        task = recipe.again(plan.attempts[recipe.id])
        if task.returns > 0:
            recipe.task = task
        for value in recipe.values:
            record = values.get(value)
            if record is None and value in plan.needs:
                values.reopen(value, task)
                recipe.alive += 1
                self.items.miss(value, peer_of(value))
            elif record is not None and record.status == PENDING and record.maker is None:
                record.maker = task
        return task

    def _begin(self, recipe: Recipe, task: KeptTask) -> None:
        """Let a task run again."""
        state = self._state
        state.tasks[task.id] = task
        if task.returns < 0:
            state.streams[task.id] = Stream()
        state.objects.pin(task.references)
        state.values.pin(task.references)
        if recipe.needs:
            self._keeping.wait(task, recipe.needs)
        else:
            task.group.push((task,))
            state.ready[task.group.id] = task.group


class _Plan:
    """What is to run, and the forgotten values that are to be there again for it."""

    __slots__ = ("attempts", "needs", "recipes")

    def __init__(self) -> None:
        self.attempts: dict[int, int] = {}
        """By recipe: the number of its next run, one more than that in which any of what is wanted was made."""
        self.recipes: dict[int, Recipe] = {}
        self.needs: set[int] = set()


def wait_again(state: HubState, task: KeptTask) -> None:
    """A task has come back to wait: see to it that it is told of all that it needs, and keeps its place."""
    records = [record for need in task.needs if (record := state.values.get(need)) is not None]
    if not task.unmet:
        for record in records:
            if record.status == PENDING:  # it makes an actor anew, and had all that when it ran before
                _depend(record, task)
    if task.unmet and isinstance(task, ActorTask) and task.group.actor is not None:
        task.group.actor.step_back(task)


def stand_back(task: KeptTask) -> None:
    """What a queued task needs has been lost: it leaves the queue, with the calls of an actor that are behind it."""
    group = task.group
    behind: list[KeptTask] = [task]
    if isinstance(task, ActorTask):
        calls = [one for one in group.ready if isinstance(one, ActorTask) and one.state is TaskState.QUEUED]
        behind = [one for one in dict.fromkeys(calls) if one.lane == task.lane and one.id >= task.id]
    for one in behind:
        group.forget_queued()
        group.waiting += 1
        one.move(TaskState.WAITING)
        if isinstance(one, ActorTask) and group.actor is not None:
            group.actor.step_back(one)


def carry(state: HubState, task: KeptTask) -> None:
    """See to it that what the values lie in that ``task`` needs, and that are there, goes to its worker with it."""
    objects: list[int] = []
    for need in task.needs:
        record = state.values.get(need)
        assert record is not None  # pinned
        if record.objects:
            objects.extend(record.objects)
    if not objects:
        return
    fresh = [object_id for object_id in objects if object_id not in task.references]
    if fresh:
        state.objects.pin(fresh)
        task.references = [*task.references, *fresh]


def _depend(record: ValueRecord | None, task: KeptTask) -> None:
    if record is not None:
        record.dependents = record.dependents or []
        record.dependents.append(task)
        task.unmet += 1


def _bytes_of(state: HubState, references: Iterable[int]) -> int:
    """Return how much memory, or disk, these objects and values take."""
    found = list(references)
    for one in references:
        record = state.values.get(one)
        if record is not None:
            found.extend(record.objects)
    return sum(state.objects.size_bytes(one) for one in found)
