"""Tasks whose results are kept: how they wait for values, and how their own values reach those who need them.

A finished task starts the tasks that wait for it right here, in the hub: nobody else is asked.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from scalepool._core.actor import ActorTask, CreationTask
from scalepool._core.actors import Actors
from scalepool._core.following import note_follower
from scalepool._core.items import Ending
from scalepool._core.lineage import Lineage, carry, wait_again
from scalepool._core.streams import Stream, Streams, abandon, end_stream
from scalepool._core.streams import handlers as stream_handlers
from scalepool._core.task import KeptTask, TaskState
from scalepool._core.values import PENDING, ValueRecord
from scalepool._wire import messages as m
from scalepool._wire.actors import EndActor, FindActor, OpenActor
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import Part
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.functions import FunctionRecord
    from scalepool._core.groups import Group
    from scalepool._core.state import HubState
    from scalepool._core.task import Task, Terms
    from scalepool._core.workers import Worker

__all__ = ["GROW_AFTER_S", "Keeping", "handlers", "may_cancel", "with_children"]

_VALUE: Final = int(Status.VALUE)
_CANCELLED: Final = int(Status.CANCELLED)
GROW_AFTER_S: Final = 0.001
"""How long no worker is started for tasks of a task: mostly it waits for them at once, and runs them itself."""
_LOST: Final = ValueRecord(())
_LOST.status = int(Status.LOST)


class Keeping:
    """Enters kept tasks and settles their values. All state is in HubState."""

    __slots__ = ("_doomed", "_dooming", "_endings", "_state", "actors", "lineage")

    def __init__(self, state: HubState, endings: Endings, lineage_limit_bytes: int) -> None:
        self._state = state
        self._endings = endings
        self._doomed: deque[tuple[KeptTask, ValueRecord]] = deque()
        self._dooming = False
        endings.keeping = self
        self.actors = Actors(state, endings, self)
        self.lineage = Lineage(state, endings, self, lineage_limit_bytes)

    # ---- tasks begin ----

    def submit(
        self,
        peer: int,
        group: Group,
        message: m.Submit,
        functions: Sequence[FunctionRecord],
        carried: Sequence[m.Ints],
        terms: Terms,
    ) -> None:
        """New tasks whose results are kept; those that need nothing that is pending are ready at once."""
        state = self._state
        state.out.keeps = True
        columns = zip(
            message.tasks, functions, message.payloads, carried, message.returns, _needs(message), strict=True
        )
        if group.actor is not None:
            self.actors.submit(peer, group, message, list(columns), terms)
            return
        for task_id, function, payload, references, returns, needs in columns:
            task = KeptTask(task_id, group, function, payload, references)
            task.returns = returns
            task.parent = message.parent
            task.terms = terms
            state.values.open(task.values, group.owner, task)
            state.tasks[task_id] = task
            if returns < 0:
                state.streams[task_id] = Stream()
            if needs:
                self.wait(task, needs)
            else:
                group.push((task,))
        if group.queued:
            state.ready[group.id] = group
        if group.owner != DRIVER:
            group.grow_at = state.now + GROW_AFTER_S

    def wait(self, task: KeptTask, needs: m.Ints) -> None:
        """Let ``task`` wait for what it needs; where something of that has failed, it ends the same way."""
        values, group = self._state.values, task.group
        task.state = TaskState.WAITING
        group.waiting += 1
        task.needs = [need for need in needs if need in values]
        values.pin(task.needs)
        failed = _LOST if len(task.needs) < len(needs) else None
        for need in task.needs:
            record = values.get(need)
            assert record is not None  # pinned
            if record.status == PENDING:
                record.dependents = record.dependents or []
                record.dependents.append(task)
                task.unmet += 1
            elif record.status != _VALUE and failed is None:
                failed = record
        if failed is not None:
            self._fail(task, failed)
        elif task.unmet:
            carry(self._state, task)
            note_follower(self._state, task)
        else:
            self._start(task)

    def _start(self, task: KeptTask, *, first: bool = False) -> None:
        """``task`` has all that it needs."""
        actor = task.group.actor
        if actor is not None and not first and isinstance(task, ActorTask) and task.lane in actor.lanes:
            for each in actor.advance(task.lane):
                self._push(each)
        else:
            self._push(task, first=first or isinstance(task, CreationTask))

    def _push(self, task: KeptTask, *, first: bool = False) -> None:
        group = task.group
        carry(self._state, task)
        group.waiting -= 1
        task.move(TaskState.QUEUED)
        if first:
            group.push_front(task)
        else:
            group.push((task,))
        self._state.ready[group.id] = group

    def came_back(self, task: KeptTask) -> None:
        """A worker has returned ``task``, perhaps because it had been given it ahead of what it needs."""
        task.move(TaskState.WAITING)
        task.group.waiting += 1
        wait_again(self._state, task)
        records = [record for need in task.needs if (record := self._state.values.get(need)) is not None]
        failed = next((record for record in records if record.status not in (PENDING, _VALUE)), None)
        if failed is not None:
            self._fail(task, failed)
        elif not task.unmet:
            self._start(task, first=True)

    def refuse(self, peer: int, message: m.Submit, status: int = _CANCELLED, payload: bytes = b"") -> None:
        """Tasks for a group that is no more: their values will not be."""
        state = self._state
        for task, returns in zip(message.tasks, message.returns, strict=True):
            if task == message.group:
                continue  # what makes an actor that was ended already: its value is there, as there are handles
            values = range(task, task + (returns if returns > 0 else 2))
            state.values.open(values, peer)
            for value in values:
                record = state.values.get(value)
                assert record is not None
                record.status, record.payload = status, payload
                self.tell(peer, value)

    # ---- tasks end ----

    def ended(self, task: KeptTask, status: int, payload: bytes, objects: Sequence[int], parts: Sequence[Part]) -> None:
        """``task`` has ended: its values are there, or never will be. Called by ``Endings.finish``."""
        if isinstance(task, CreationTask):
            self.actors.created(task, status, payload)
            _look_again(self, task.group)
            return
        is_closed = False
        if task.returns < 0:
            is_closed = self._state.streams[task.id].is_closing
            status, payload = end_stream(self._state, task, status, payload)
        elif status == _VALUE and (len(parts) or 1) != task.returns:
            status, payload = int(Status.LOST), b""  # a worker that does not keep to the protocol
        for value, part, mine in _outcomes(task, status, payload, objects, parts):
            self._settle(task, value, status, part, mine)
        if task.terms.max_retries and task.group.actor is None:
            self.lineage.ended(task, Ending(status, payload, objects, is_closed))
        if task.needs:
            self.let_go(self._state.values.unpin(task.needs))
        actor = task.group.actor
        if actor is not None:
            if actor.lanes and isinstance(task, ActorTask):
                for each in actor.advance(task.lane):
                    self._push(each)
            _look_again(self, task.group)
        self.end_the_doomed()

    def _settle(self, task: KeptTask, value: int, status: int, part: Part, objects: Sequence[int]) -> None:
        record = self._state.values.get(value)
        if record is None or record.status != PENDING:
            return  # nobody has a reference any more; or it is another of the task's values that was lost
        record.status, record.payload = status, part.payload
        self.keep_alive(value, part.references, objects)
        owner = task.owner
        told = (owner, *(record.wanted or ())) if owner in record.holders else record.wanted or ()
        self.spread(value, record, told)

    def spread(self, value: int, record: ValueRecord, told: Iterable[int]) -> None:
        """A value has ended: tell these peers, and let tasks that wait for it start, or end likewise."""
        state, status = self._state, record.status
        for peer in dict.fromkeys(told):  # an owner may want it, too: the driver, of what it has inherited
            self.tell(peer, value)
        record.wanted = record.maker = None
        dependents, record.dependents = record.dependents, None
        for dependent in dependents or ():
            if status != _VALUE and isinstance(dependent, ActorTask):
                self._doomed.append((dependent, record))  # and until then nothing lets it, or who is behind it, start
                continue
            dependent.unmet -= 1
            worker = state.roster.workers.get(dependent.worker)
            if worker is not None and not dependent.unmet:
                worker.followers.discard(dependent.id)
            if status != _VALUE:
                self._doomed.append((dependent, record))
            elif not dependent.unmet and dependent.state is TaskState.WAITING:
                self._start(dependent)

    def keep_alive(self, value: int, references: Sequence[int], objects: Sequence[int]) -> None:
        """Pin what a value lies in and what it refers to, for as long as it is kept."""
        state = self._state
        record = state.values.get(value)
        assert record is not None
        if objects:
            record.objects = objects
            state.objects.pin(objects)
        if references:
            record.references = [one for one in references if one in state.values or one in state.objects]
            state.values.pin(record.references)
            state.objects.pin(record.references)

    def end_the_doomed(self) -> None:
        """End the tasks that need what has failed, and those that need these: by a queue, as chains may be long."""
        if self._dooming or not self._doomed:
            return
        self._dooming = True
        try:
            while self._doomed:
                task, failed = self._doomed.popleft()
                if task.state is TaskState.WAITING:
                    self._fail(task, failed)
        finally:
            self._dooming = False

    def _fail(self, task: KeptTask, failed: ValueRecord) -> None:
        """End ``task`` as that has ended which it needs; a large error lies in objects, as values do."""
        self._state.objects.pin(failed.objects)
        self._endings.finish(task, failed.status, 0, failed.payload, failed.objects)

    def tell(self, peer: int, value: int) -> None:
        """Tell a peer how a value has ended."""
        state = self._state
        record = state.values.get(value)
        if record is None:
            state.out.reply(peer, value, Status.LOST, 0, b"")
        elif peer == DRIVER or peer in state.roster.workers:
            state.out.reply(peer, value, record.status, 0, record.payload, record.objects)
            state.objects.hold(peer, record.objects)

    # ---- references come and go ----

    def keep(self, peer: int, message: m.Keep) -> None:
        """The peer made a value of its own."""
        state = self._state
        known = message.value in state.values or message.value in state.tasks
        if known or len(message.objects) % 4 or message.status not in (_VALUE, Status.ERROR):
            raise ProtocolError(f"peer {peer} made value {message.value} twice, or described its objects wrongly")
        state.objects.add(peer, message.objects, held=True)
        state.values.open((message.value,), peer)
        record = state.values.get(message.value)
        assert record is not None
        record.status, record.payload = message.status, message.payload
        self.keep_alive(message.value, message.references, message.objects[::4])
        if message.task:
            self.lineage.items.kept(peer, message)

    def hold(self, peer: int, message: m.Hold) -> None:
        """The peer got references in what a task or a value brought it."""
        self._state.values.hold(peer, message.values)

    def want(self, peer: int, message: m.Want) -> None:
        """The peer wants to know how these end."""
        for value in message.values:
            record = self._state.values.get(value)
            if record is not None and record.status == PENDING:
                self._state.values.hold(peer, (value,))
                record.wanted = record.wanted or []
                if peer not in record.wanted:
                    record.wanted.append(peer)
            else:
                self.tell(peer, value)

    def release(self, peer: int, values: m.Ints) -> None:
        """The peer has no references to these any more."""
        self.let_go(self._state.values.release(peer, values))

    def let_go(self, loose: Sequence[int]) -> None:
        """Unpin the objects that were pinned by values which are forgotten now."""
        if loose:
            self._endings.free(self._state.objects.unpin(loose))
        while self._state.values.abandoned:
            abandon(self._state, self._endings, self._state.values.abandoned.pop())
        if self._state.values.loose:
            self.lineage.settle()

    # ---- whoever is gone ----

    def disinherit(self, worker: Worker) -> None:
        """``worker`` is gone. What others hold of its tasks' values is still made: its groups go to the driver."""
        state = self._state
        self.let_go(state.values.forget_peer(worker.id))
        for group in [group for group in state.groups.values() if group.owner == worker.id]:
            kept = [task for task in state.tasks.values() if task.group is group and _is_needed(state, task)]
            if kept and group.closing in (None, CloseMode.DRAIN):
                group.owner = DRIVER
                group.closing = CloseMode.DRAIN
                for task in [task for task in state.tasks.values() if task.group is group]:
                    if task.state in (TaskState.QUEUED, TaskState.WAITING) and not _is_needed(state, task):
                        self._endings.finish(task, Status.CANCELLED, 0, b"")


def _outcomes(
    task: KeptTask, status: int, payload: bytes, objects: Sequence[int], parts: Sequence[Part]
) -> Iterator[tuple[int, Part, Sequence[int]]]:
    """Yield each value of a task that has ended, how it ends, and the objects that it lies in."""
    if status != _VALUE or not parts or task.returns < 0:
        for value in task.values:
            yield value, Part(payload, len(objects)), objects
        return
    at = 0
    for value, part in zip(task.values, parts, strict=True):
        yield value, part, objects[at : at + part.objects]
        at += part.objects


def handlers(keeping: Keeping) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with the messages about values, streams of them, and actors."""
    actors = keeping.actors
    return {
        m.Keep: keeping.keep,
        m.Hold: keeping.hold,
        m.Want: keeping.want,
        m.Missing: keeping.lineage.missing,
        OpenActor: actors.open,
        FindActor: actors.find,
        EndActor: actors.end,
        **stream_handlers(Streams(keeping._state, keeping._endings, keeping)),
    }


def with_children(state: HubState, tasks: Sequence[int]) -> list[int]:
    """Return ``tasks`` and all that these, as far as they may have started, have submitted, and so on."""
    found = dict.fromkeys(tasks)
    if any((task := state.tasks.get(one)) is not None and task.state is TaskState.ASSIGNED for one in tasks):
        children: dict[int, list[int]] = {}
        for task in state.tasks.values():
            if isinstance(task, KeptTask) and task.parent:
                children.setdefault(task.parent, []).append(task.id)
        todo = list(tasks)
        while todo:
            below = [child for child in children.get(todo.pop(), ()) if child not in found]
            found.update(dict.fromkeys(below))
            todo.extend(below)
    return list(found)


def _needs(message: m.Submit) -> Iterator[m.Ints]:
    """Split the flat column of needs."""
    at = 0
    for count in message.need_counts or [0] * len(message.tasks):
        yield message.needs[at : at + count]
        at += count


def may_cancel(state: HubState, peer: int, task: Task) -> bool:
    """Whether ``peer`` may cancel ``task``: its owner, and whoever holds what it will make."""
    if task.owner == peer:
        return True
    record = state.values.get(task.id) if task.returns else None
    return record is not None and peer in record.holders


def _is_needed(state: HubState, task: Task) -> bool:
    return isinstance(task, KeptTask) and any(value in state.values for value in task.values)


def _look_again(keeping: Keeping, group: Group) -> None:
    """A call of an actor has ended; perhaps its last handle went before."""
    if not group.unfinished:
        keeping.let_go(keeping._state.values.look_again(group.id))
