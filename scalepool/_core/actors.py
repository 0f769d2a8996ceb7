"""Actors: how they begin, whom they serve, how they begin anew, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._core.actor import Actor, ActorTask, CreationTask
from scalepool._core.commands import Send
from scalepool._core.endings import begin_again, keep_arguments
from scalepool._core.groups import Group
from scalepool._core.leasing import FOR_LIFE, account_for
from scalepool._core.lineage import carry
from scalepool._core.retry import Verdict, after_death
from scalepool._core.streams import Stream
from scalepool._core.task import Task, TaskState
from scalepool._core.workers import LaunchTrouble
from scalepool._wire import messages as m
from scalepool._wire.actors import ActorFound, EndActor, EndMode, FindActor, OpenActor
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.verdict import pack_verdict
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._core.endings import Autopsy, Endings
    from scalepool._core.functions import FunctionRecord
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._core.task import Terms
    from scalepool._core.workers import Worker

__all__ = ["SEEN_MAX", "Actors"]

_VALUE: Final = int(Status.VALUE)
_STUMBLE_S: Final = 0.01
"""The first pause before the next process, where the last one died while it made the object; the next is twice that."""
SEEN_MAX: Final = 60
"""So many running tasks a worker's flight record can tell apart: if it is full, all that the worker held may run."""


class Actors:
    """Decides on actors. All state is in HubState."""

    __slots__ = ("_endings", "_keeping", "_state")

    def __init__(self, state: HubState, endings: Endings, keeping: Keeping) -> None:
        self._state = state
        self._endings = endings
        self._keeping = keeping
        endings.actors = self

    # ---- they begin ----

    def open(self, peer: int, message: OpenActor) -> None:
        """A peer wants a new actor; its name may be taken."""
        state, actor_id = self._state, message.actor
        if actor_id <= 0 or actor_id in state.groups or actor_id in state.values or message.max_restarts < -1:
            raise ProtocolError(f"peer {peer} opened actor {actor_id}, which is there already or makes no sense")
        if message.name:
            taken = state.names.get(message.name)
            if taken is not None:
                self._answer(peer, actor_id, taken)
                return
            state.names[message.name] = actor_id
        home = state.groups.get(message.home)
        asked = (message.resources, message.amounts)
        opened = m.OpenGroup(actor_id, 0, 0, 1, 1, 0, message.spec, 0, 0, FOR_LIFE if asked[0] else 0, *asked)
        group = Group(opened, DRIVER, None)
        if opened.lease:
            account_for(state, group, opened)
        group.moved_at = state.now
        group.actor = actor = Actor(message, peer, 0 if home is None else home.root.id)
        actor.group = group
        state.groups[actor_id] = group
        state.values.open_handle(actor_id, peer, message.meta)
        if actor.detached:
            state.values.pin((actor_id,))
        if message.name:
            self._answer(peer, actor_id, actor_id)

    def find(self, peer: int, message: FindActor) -> None:
        """A peer looks for an actor by its name."""
        self._answer(peer, message.request, self._state.names.get(message.name, 0))

    def _answer(self, peer: int, request: int, found: int) -> None:
        meta = b""
        if found:
            actor = self._state.groups[found].actor
            assert actor is not None
            meta = actor.meta
            self._state.values.hold(peer, (found,))
        self._state.out.command(Send(peer, ActorFound(request, found, meta)))

    def submit(
        self, peer: int, group: Group, message: m.Submit, columns: Sequence[tuple[Any, ...]], terms: Terms
    ) -> None:
        """New calls; the first of an actor is what makes it."""
        state, actor = self._state, group.actor
        assert actor is not None
        if group.failure is not None:
            self._keeping.refuse(peer, message, *group.failure)
            for row in columns:
                self._endings.unpin(row[3])
            return
        for task_id, function, payload, references, returns, needs in columns:
            if task_id == group.id:
                self._begin(group, actor, (task_id, function, payload, references, needs), message.parent)
                continue
            task = ActorTask(task_id, group, function, payload, references)
            task.caller, task.parent, task.returns, task.terms = peer, message.parent, returns, terms
            state.values.open(task.values, peer, task)
            state.tasks[task_id] = task
            if returns < 0:
                state.streams[task_id] = Stream()
            held_up = actor.line_up(task)
            if needs or held_up:
                self._keeping.wait(task, needs)
                if not held_up and task.state is TaskState.WAITING:
                    actor.hold_up(task)
            else:
                group.push((task,))
        if group.queued:
            state.ready[group.id] = group

    def _begin(
        self, group: Group, actor: Actor, row: tuple[int, FunctionRecord, bytes, m.Ints, m.Ints], parent: int
    ) -> None:
        task_id, function, payload, references, needs = row
        if actor.creation is not None:
            raise ProtocolError(f"actor {group.id} is to be made twice")
        actor.creation = task = CreationTask(task_id, group, function, payload, references)
        task.parent = parent
        self._state.tasks[task_id] = task
        if needs:
            self._keeping.wait(task, needs)
        else:
            group.push_front(task)  # whoever has found the actor by its name may have called it already

    def forsake(self, opener: int) -> None:
        """A peer is gone: the actors that it has opened, and not told how to make, will never be."""
        for group in list(self._state.groups.values()):
            actor = group.actor
            if actor is not None and actor.creation is None and actor.opener == opener and group.failure is None:
                self._die(group, _facts(actor, "the process that was about to make it has ended"))

    def created(self, task: CreationTask, status: int, payload: bytes) -> None:
        """The task that makes an actor has ended; called by ``Keeping.ended``."""
        group = task.group
        actor = group.actor
        assert actor is not None
        if group.failure is None and status == _VALUE:
            actor.created = True
            actor.stumbles = 0
            self._tell_opener(actor, _VALUE, actor.meta)
            if actor.restarts_left:
                actor.template = task
                self._pin(task.references)  # the task itself lets go of them now
                return
        self._keeping.let_go(self._state.values.unpin(task.needs))
        if group.failure is None and status != _VALUE:
            worker = actor.worker
            reason = "its constructor failed" if status == Status.ERROR else "what its constructor needs was not made"
            self._die(group, _facts(actor, reason, cause=status), arguments=payload)
            if worker is not None:
                self._endings.dismiss(worker)

    def _tell_opener(self, actor: Actor, status: int, payload: bytes) -> None:
        if not actor.told:
            actor.told = True
            record = self._state.values.get(actor.group.id)
            if record is not None and actor.opener in record.holders:
                self._state.out.reply(actor.opener, actor.group.id, status, 0, payload)

    def _pin(self, references: Sequence[int]) -> None:
        self._state.objects.pin(references)
        self._state.values.pin(references)

    # ---- their workers die ----

    def lost(self, worker: Worker, group: Group, tasks: Sequence[Task], autopsy: Autopsy) -> None:
        """The worker of an actor is gone; these tasks it had."""
        actor = group.actor
        assert actor is not None
        if actor.worker is worker:
            actor.worker = None
        actor.pid = autopsy.pid or actor.pid
        if group.failure is not None or (group.closing is not None and not group.unfinished):
            return
        running = autopsy.running
        if len(running) >= SEEN_MAX:
            running = {**dict.fromkeys((task.id for task in tasks), 0), **running}
        creation = next((task for task in tasks if isinstance(task, CreationTask)), None)
        if not actor.created and (creation is None or creation.id not in running):
            self._endings.requeue(tasks)  # it had not even begun
            return
        if not actor.restarts_left:
            self._die_with(group, tasks, autopsy._replace(running=running))
            return
        actor.restarts_left -= actor.restarts_left > 0
        actor.restarts += 1
        actor.created = False
        again = []
        for task in tasks:
            if task is creation:
                continue
            verdict = after_death(started=task.id in running, attempt=task.attempt, max_retries=task.terms.max_retries)
            if verdict is Verdict.FAIL:
                payload = _verdict(_facts(actor, autopsy.reason, autopsy.exitcode), autopsy.report, task)
                self._endings.finish(task, Status.ACTOR_UNAVAILABLE, 0, payload)
                continue
            if verdict is Verdict.RETRY:
                begin_again(task, self._state)
            again.append(task)
        self._endings.requeue(again)
        self._create_again(group, actor, creation)

    def _create_again(self, group: Group, actor: Actor, creation: CreationTask | None) -> None:
        state = self._state
        if group.id not in state.groups or (group.closing is not None and not (group.unfinished - bool(creation))):
            if creation is not None:
                self._endings.finish(creation, Status.CANCELLED, 0, b"")
            return
        if creation is not None:  # it died of that very task
            actor.stumbles += 1
            trouble = state.trouble.setdefault(group.key, LaunchTrouble())
            trouble.retry_at = state.now + min(1.0, _STUMBLE_S * 2.0 ** min(actor.stumbles, 10))
            group.assigned -= 1
            del state.tasks[creation.id]
        else:
            creation, actor.template = actor.template, None
            assert creation is not None  # kept for this
        actor.creation = task = creation.again()
        carry(state, task)  # what it needs may have been lost, and made again
        state.tasks[task.id] = task
        group.push_front(task)
        state.ready[group.id] = group

    def _die_with(self, group: Group, tasks: Sequence[Task], autopsy: Autopsy) -> None:
        """The process is gone, and may not come again: what ran in it is told what it died of."""
        actor = group.actor
        assert actor is not None
        facts = _facts(actor, autopsy.reason, autopsy.exitcode)
        group.failure = (Status.ACTOR_DIED, _verdict(facts, autopsy.report))
        for task in tasks:
            if task.id in autopsy.running and not isinstance(task, CreationTask):
                self._endings.finish(task, Status.ACTOR_DIED, 0, _verdict(facts, autopsy.report, task))
        self._die(group, facts, autopsy.report)

    # ---- they end ----

    def end(self, peer: int, message: EndActor) -> None:
        """A peer wants an actor to end, or it does so itself."""
        group = self._state.groups.get(message.actor)
        actor = group.actor if group is not None else None
        if group is None or actor is None or group.failure is not None:
            return
        worker = actor.worker
        if message.mode == EndMode.RESTART and worker is not None:
            self._endings.kill(worker, force=True)
        elif message.mode == EndMode.EXIT:
            if worker is None or worker.id != peer:
                raise ProtocolError(f"peer {peer} is not actor {message.actor}, which it wants to exit")
            self._die(group, _facts(actor, "it called exit_actor()"))
            self._endings.dismiss(worker)
        elif message.mode != EndMode.RESTART:
            self._die(group, _facts(actor, "it was ended by scalepool.kill()"))
            if worker is not None:
                self._endings.kill(worker, force=True)

    def never_started(self, group: Group, autopsy: Autopsy) -> None:
        """No process can be started for it."""
        actor = group.actor
        assert actor is not None
        if group.failure is None:
            self._die(group, _facts(actor, autopsy.reason, autopsy.exitcode), autopsy.report)

    def reap(self) -> None:
        """Close the actors that nobody has a handle of any more; what was called is still done."""
        dropped = self._state.values.dropped
        while dropped:
            group = self._state.groups.get(dropped.pop())
            if group is not None and group.actor is not None:
                self._unname(group.actor)
                self._endings.close(group, CloseMode.DRAIN)

    def struck(self, actor: Actor) -> None:
        """Its group is no more."""
        self._unname(actor)
        self._forget_template(actor)

    def _die(self, group: Group, facts: Mapping[str, Any], report: bytes = b"", arguments: bytes = b"") -> None:
        """End all calls of an actor, those to come too; its process is left to the caller."""
        actor = group.actor
        assert actor is not None
        payload = _verdict(facts, report, arguments=arguments)
        group.failure = (Status.ACTOR_DIED, payload)
        self._unname(actor)
        self._tell_opener(actor, int(Status.ACTOR_DIED), payload)
        if actor.worker is not None:
            keep_arguments(self._state, [actor.worker])
        self._endings.stop(group, Status.ACTOR_DIED, payload, (), force=False)
        self._forget_template(actor)
        if actor.detached:
            actor.detached = False
            self._keeping.let_go(self._state.values.unpin((group.id,)))
        actor.lanes.clear()
        self._endings.close_if_done(group)

    def _unname(self, actor: Actor) -> None:
        if actor.name and self._state.names.get(actor.name) == actor.group.id:
            del self._state.names[actor.name]

    def _forget_template(self, actor: Actor) -> None:
        template, actor.template = actor.template, None
        if template is not None:
            self._keeping.let_go(self._state.values.unpin(template.needs))
            self._endings.unpin(template.references)


def _facts(actor: Actor, reason: str, exitcode: int | None = None, cause: int = 0) -> dict[str, Any]:
    pid = actor.worker.pid if actor.worker is not None else actor.pid
    return {
        "actor": actor.label.decode(), "number": actor.group.id, "name": actor.name.decode().replace("\0", "/"),
        "restarts": actor.restarts, "reason": reason, "pid": pid, "exitcode": exitcode,
        "cause": cause, "attempt": 1, "item": 0, "task": 0,
    }  # fmt: skip


def _verdict(facts: Mapping[str, Any], report: bytes, task: Task | None = None, arguments: bytes = b"") -> bytes:
    if task is not None:
        facts = {**facts, "task": task.id, "attempt": task.attempt}
        arguments = task.payload
    return pack_verdict(facts, report, arguments)
