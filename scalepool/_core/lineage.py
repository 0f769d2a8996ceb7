"""Values that are lost are made again, by the tasks that made them.

What a value lies in can be lost: with the host that it was on, or with a file on a damaged disk. So of each task that
may run again (``max_retries``) the hub keeps a *recipe* beside the values that it made: the task itself, as it came. It
is dropped with the last of these values, unless another recipe needs one of them: then what is kept is the recipe
alone, and a value that was forgotten is made once more if what was made of it is lost.

A task that makes a value again counts as another attempt, so that no value is made more often than ``max_retries``
allows. Whoever waits for the value, or needs it, waits on. A value that nobody can make again ends as LOST.

What recipes take is bounded: the oldest are dropped first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from scalepool._base.ids import peer_of
from scalepool._core.actor import ActorTask
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING
from scalepool._wire import messages as m
from scalepool._wire.messages import CloseMode, Status

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.events import ObjectsLost
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._core.values import ValueRecord

__all__ = ["LIMIT_BYTES", "Lineage", "Recipe", "carry", "stand_back", "wait_again"]

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


class Recipe:
    """How a task can be run again. ``references`` are pinned as long as it is kept."""

    __slots__ = ("alive", "needs", "references", "size_bytes", "task", "users", "uses")

    def __init__(self, task: KeptTask, references: Sequence[int], size_bytes: int) -> None:
        self.task = task
        self.needs = task.needs
        self.references = references
        self.size_bytes = size_bytes
        self.alive = 0
        """How many of the task's values are kept."""
        self.uses: Sequence[Recipe] = ()
        """Recipes of what the task needs."""
        self.users = 0
        """How many recipes have this one among theirs."""

    def again(self) -> KeptTask:
        """Return the same task, for another attempt."""
        old = self.task
        task = KeptTask(old.id, old.group, old.function, old.payload, list(self.references))
        task.returns, task.parent, task.terms = old.returns, old.parent, old.terms
        task.attempt = old.attempt + 1
        return task

    def __repr__(self) -> str:
        return f"<Recipe of {self.task} alive={self.alive} users={self.users}>"


class Lineage:
    """Keeps recipes, and runs them when values are lost. All other state is in HubState."""

    __slots__ = ("_endings", "_has_dropped", "_keeping", "_settling", "_state", "limit_bytes", "recipes", "size_bytes")

    def __init__(self, state: HubState, endings: Endings, keeping: Keeping) -> None:
        self._state = state
        self._endings = endings
        self._keeping = keeping
        self._settling = False
        self._has_dropped = False
        self.limit_bytes = LIMIT_BYTES
        self.recipes: dict[int, Recipe] = {}
        """By task, the oldest first."""
        self.size_bytes = 0

    # ---- recipes come and go ----

    def keep(self, task: KeptTask) -> None:
        """A task that may run again has made its values, and still pins what it needs."""
        state = self._state
        recipe = self.recipes.get(task.id)
        if recipe is not None:
            recipe.task = task
            return
        alive = sum(value in state.values for value in task.values)
        if not alive:
            return
        needed = {one for need in task.needs if (found := state.values.get(need)) is not None for one in found.objects}
        references = [one for one in task.references if one not in needed]
        size_bytes = _RECIPE_BYTES + len(task.payload) + 8 * len(task.needs) + _bytes_of(state, references)
        if size_bytes > self.limit_bytes:
            self._has_dropped = True
            return
        recipe = self.recipes[task.id] = Recipe(task, references, size_bytes)
        recipe.alive = alive
        for value in task.values:
            state.values.recipes[value] = recipe
        recipe.uses = [used for need in dict.fromkeys(task.needs) if (used := state.values.recipes.get(need))]
        for used in recipe.uses:
            used.users += 1
        state.objects.pin(references)
        state.values.pin(references)
        self.size_bytes += size_bytes
        while self.size_bytes > self.limit_bytes:
            self._has_dropped = True
            self._drop(next(iter(self.recipes.values())))

    def discard(self, task: KeptTask) -> None:
        """A task that was to make its values again has failed: these are settled for good."""
        recipe = self.recipes.get(task.id)
        if recipe is not None:
            self._drop(recipe)

    def settle(self) -> None:
        """Drop the recipes whose last value was forgotten, and that no other one needs; not by recursion."""
        if self._settling:
            return
        self._settling = True
        loose = self._state.values.loose
        try:
            while loose:
                recipe = loose.pop()
                if not recipe.alive and not recipe.users and self.recipes.get(recipe.task.id) is recipe:
                    self._drop(recipe)
        finally:
            self._settling = False

    def _drop(self, recipe: Recipe) -> None:
        values = self._state.values
        del self.recipes[recipe.task.id]
        for value in recipe.task.values:
            values.recipes.pop(value, None)
        self.size_bytes -= recipe.size_bytes
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
        plan = _Plan()
        hopeless: dict[int, str] = {}
        for value in makers:
            if value in self._state.values and (why := self._add_to(plan, value)):
                hopeless[value] = why
        for recipe in plan.recipes.values():
            self._reopen(recipe, plan)
        for recipe in plan.recipes.values():
            self._begin(recipe)
        for value, why in hopeless.items():
            record = self._state.values.get(value)
            assert record is not None  # nothing has been let go of since
            record.status = int(Status.LOST)
            record.payload = json.dumps({"value": value, "worker": makers[value], "why": why}).encode()
            self._keeping.spread(value, record, record.wanted or ())
        self._keeping.end_the_doomed()

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
        todo = [first]
        while todo:
            recipe = todo.pop()
            task, group = recipe.task, recipe.task.group
            if task.id in found or task.id in plan.recipes or task.id in state.tasks:
                continue
            if task.attempt > task.terms.max_retries:
                return _USED_UP.format(task.attempt)
            if state.groups.get(group.id) is not group or group.failure or group.closing not in _OPEN:
                return _ORPHANED
            found[task.id] = recipe
            for need in task.needs:
                if need in state.values:
                    continue
                if need not in recipes:
                    return _NEED.format(need)
                needs.append(need)
                todo.append(recipes[need])
        plan.recipes.update(found)
        plan.needs.update(needs)
        return ""

    def _reopen(self, recipe: Recipe, plan: _Plan) -> None:
        """Enter the values that a task will make again: those that are lost, and those that another one needs."""
        values = self._state.values
        recipe.task = task = recipe.again()
        for value in task.values:
            record = values.get(value)
            if record is None and value in plan.needs:
                values.reopen(value, task)
                recipe.alive += 1
            elif record is not None and record.status == PENDING:
                record.maker = task

    def _begin(self, recipe: Recipe) -> None:
        """Let a task run again."""
        state, task = self._state, recipe.task
        state.tasks[task.id] = task
        state.objects.pin(task.references)
        state.values.pin(task.references)
        if recipe.needs:
            self._keeping.wait(task, recipe.needs)
        else:
            task.group.push((task,))
            state.ready[task.group.id] = task.group


class _Plan:
    """What is to run, and the forgotten values that are to be there again for it."""

    __slots__ = ("needs", "recipes")

    def __init__(self) -> None:
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
        objects.extend(record.objects)
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
