"""What peers submit: groups, tasks, objects, and their wish to be rid of them."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from scalepool._core.commands import Send
from scalepool._core.functions import FunctionRecord, Recent
from scalepool._core.groups import Group
from scalepool._core.keeping import may_cancel, with_children
from scalepool._core.revoking import expect_answer
from scalepool._core.task import Task, TaskState, Terms
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalepool._core.deadlines import Deadlines
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState

__all__ = ["Intake"]


class Intake:
    """Takes in what clients send. All state is in HubState."""

    __slots__ = ("_deadlines", "_dispatcher", "_endings", "_keeping", "_state")

    def __init__(
        self, state: HubState, dispatcher: Dispatcher, endings: Endings, keeping: Keeping, deadlines: Deadlines
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings
        self._keeping = keeping
        self._deadlines = deadlines

    def open_group(self, peer: int, message: m.OpenGroup) -> None:
        """A new view on the workers."""
        groups = self._state.groups
        if message.group in groups:
            raise ProtocolError(f"group {message.group} is open already")
        if message.group <= 0 or message.kind < 0 or message.max_tasks < 0 or message.initializer_ms < 0:
            raise ProtocolError(f"peer {peer} opened a group with a negative number in it: {message[:-1]}")
        group = Group(message, peer, groups.get(message.parent))
        if message.lease:
            from scalepool._core.leasing import account_for  # a program that has only pools has no use for it

            try:
                account_for(self._state, group, message)
            except ProtocolError:
                if group.parent is not None:
                    del group.parent.children[group.id]
                raise
        group.moved_at = self._state.now
        group.references = _pinned(message.references, self._state)
        groups[group.id] = group

    def submit(self, peer: int, message: m.Submit) -> None:
        """New tasks of a group."""
        state = self._state
        group = self._own_group(peer, message.group)
        _check_columns(peer, message, state.tasks)
        if message.max_retries < 0 or message.time_limit_ms < 0:
            raise ProtocolError(f"peer {peer} submitted tasks with a negative number in their terms")
        # Even when the tasks come too late: the peer will not send these functions again.
        functions = self._functions(peer, message)
        if group is None:  # terminated together with the group above it, while this was on its way
            self._answer_too_late(peer, message)
            return
        if message.objects:
            state.objects.add(peer, message.objects, held=False)
        if message.returns:
            references = _per_task(message, state) if message.references else [()] * len(message.tasks)
            self._keeping.submit(peer, group, message, functions, references, self._terms(message))
        else:
            self._enter(group, message, functions)
        if message.objects:
            self._endings.free(state.objects.sweep(message.objects[::4]))
        self._refuse_if_over(group)

    def _enter(self, group: Group, message: m.Submit, functions: list[FunctionRecord]) -> None:
        state = self._state
        references = _per_task(message, state) if message.references else repeat(())
        columns = zip(message.tasks, functions, message.payloads, references, strict=False)
        tasks = [Task(task, group, function, payload, carried) for task, function, payload, carried in columns]
        if message.max_retries or message.time_limit_ms:
            terms = self._terms(message)
            for task in tasks:
                task.terms = terms
        state.tasks.update(zip(message.tasks, tasks, strict=True))
        group.push(tasks)
        if message.tasks:
            state.ready[group.id] = group

    def _terms(self, message: m.Submit) -> Terms:
        terms = Terms(message.max_retries, message.time_limit_ms * 1e-3)
        self._state.has_limits = self._state.has_limits or terms.time_limit_s > 0
        return terms

    def _own_group(self, peer: int, group_id: int) -> Group | None:
        group = self._state.groups.get(group_id)
        if group is not None and group.owner != peer and group.actor is None:
            raise ProtocolError(f"peer {peer} named group {group_id}, which it has not opened")
        return group

    def _functions(self, peer: int, message: m.Submit) -> list[FunctionRecord]:
        """Return the function of each call, keeping in step with what the peer remembers having sent."""
        known = self._state.functions.get(peer) or Recent()
        if message.calls and not message.functions and len(message.calls) == message.calls.count(message.calls[0]):
            function = known.use(message.calls[0])  # the commonest message: calls of one function that is known
            if function is not None:
                return [function] * len(message.calls)
        blobs = dict(zip(message.functions, message.blobs, strict=True))
        before = {call: known.peek(call) for call in set(message.calls)}
        if any(function is None and call not in blobs for call, function in before.items()):
            raise ProtocolError(f"peer {peer} submitted calls of functions that it never sent")
        self._state.functions[peer] = known
        called: list[FunctionRecord] = []
        last: FunctionRecord | None = None
        for call in message.calls:
            if last is None or call != last.id:  # else another use of what was used last: that changes nothing
                function = known.use(call)
                if function is None:
                    function = before[call] or FunctionRecord(call, blobs[call])
                    before[call] = function
                    known.add(call, function)
                last = function
            called.append(last)
        return called

    def _answer_too_late(self, peer: int, message: m.Submit) -> None:
        state = self._state
        if message.returns:
            self._keeping.refuse(peer, message)
        else:
            for task in message.tasks:
                state.out.reply(peer, task, Status.CANCELLED, 0, b"")
        state.objects.add(peer, message.objects, held=False)
        self._endings.free(state.objects.sweep(message.objects[::4]))

    def _refuse_if_over(self, group: Group) -> None:
        if group.failure is not None:
            self._endings.abort_queued(group, *group.failure)
        elif group.closing not in (None, m.CloseMode.DRAIN):
            self._endings.abort_queued(group, Status.CANCELLED, b"")

    def start_workers(self, peer: int, message: m.StartWorkers) -> None:
        """The group wants its workers before it has tasks for them."""
        group = self._own_group(peer, message.group)
        if group is not None and group.closing is None and group.failure is None:
            group.started_min = group.cap
            self._dispatcher.start_minimum(group)

    def close_group(self, peer: int, message: m.CloseGroup) -> None:
        """No more tasks come."""
        try:
            mode = m.CloseMode(message.mode)
        except ValueError as error:
            raise ProtocolError(f"peer {peer} closed a group in mode {message.mode}") from error
        group = self._own_group(peer, message.group)
        if group is not None:
            self._endings.close(group, mode)

    def cancel(self, peer: int, message: m.Cancel | m.Stop) -> None:
        """Cancel what nobody has started, which only its worker knows of an assigned task; or stop all of it."""
        refused, allowed, ask = list[int](), list[int](), dict[int, list[int]]()
        for task_id in dict.fromkeys(message.tasks):
            task = self._state.tasks.get(task_id)
            may = task is not None and may_cancel(self._state, peer, task)
            (allowed if may else refused).append(task_id)
        for task_id in with_children(self._state, allowed) if message.recursive else allowed:
            task = self._state.tasks.get(task_id)
            if task is None:
                continue  # it needed another one of them
            if task.state is not TaskState.ASSIGNED:
                self._endings.finish(task, Status.CANCELLED, 0, b"")
            else:
                task.cancelling = self._state.has_cancels = True
                ask.setdefault(task.worker, []).append(task_id)
        for worker, tasks in ask.items():
            self._state.out.command(Send(worker, m.CancelTasks(tasks)))
            expect_answer(self._state, self._state.roster.workers[worker])
            if type(message) is m.Stop and not self._state.roster.workers[worker].is_actor:
                self._deadlines.stop(self._state.roster.workers[worker], tasks)
        if refused:
            self._state.out.command(Send(peer, m.CancelAnswer(refused)))

    def inquire(self, peer: int, message: m.Inquire) -> None:
        """The peer wants to know which resources there are, or nobody holds."""
        found = self._state.each_host() if message.whole else [(0, self._state.free_resources())]
        rows = [(name.encode(), amount, host) for host, amounts in found for name, amount in amounts.items()]
        names, amounts = [name for name, _, _ in rows], [amount for _, amount, _ in rows]
        hosts = [host for _, _, host in rows] if message.whole else []
        self._state.out.command(Send(peer, m.Inventory(message.request, names, amounts, hosts or ())))

    def put(self, peer: int, message: m.Put) -> None:
        """The peer made objects and holds them."""
        _check_places(peer, message.objects)
        self._state.objects.add(peer, message.objects, held=True)

    def release(self, peer: int, message: m.Release) -> None:
        """The peer has no view, handle or reference of these any more."""
        self._endings.free(self._state.objects.release(peer, message.objects))
        if len(self._state.values):
            self._keeping.release(peer, message.objects)


def _check_columns(peer: int, message: m.Submit, tasks: Mapping[int, Task]) -> None:
    count = len(message.tasks)
    counts, references = message.reference_counts, message.references
    if not (len(message.calls) == len(message.payloads) == count and len(message.functions) == len(message.blobs)):
        raise ProtocolError(f"peer {peer} submitted columns of different lengths")
    if len(set(message.tasks)) != count or not tasks.keys().isdisjoint(message.tasks):
        raise ProtocolError(f"peer {peer} submitted a task twice")
    if (counts and (len(counts) != count or min(counts) < 0)) or sum(counts) != len(references):
        raise ProtocolError(f"peer {peer} submitted references that do not match its tasks")
    _check_places(peer, message.objects)
    if message.returns or message.needs or message.need_counts:
        _check_kept(peer, message)


def _check_kept(peer: int, message: m.Submit) -> None:
    count, counts = len(message.tasks), message.need_counts
    if len(message.returns) != count or 0 in message.returns:
        raise ProtocolError(f"peer {peer} submitted tasks, and not for each of them how many values it makes")
    if (counts and (len(counts) != count or min(counts) < 0)) or sum(counts) != len(message.needs):
        raise ProtocolError(f"peer {peer} submitted needs that do not match its tasks")


def _check_places(peer: int, columns: m.Ints) -> None:
    if len(columns) % 4:
        raise ProtocolError(f"peer {peer} described objects by {len(columns)} numbers, not four for each")


def _per_task(message: m.Submit, state: HubState) -> list[m.Ints]:
    """Split the flat column of references, and pin those that there are."""
    out: list[m.Ints] = []
    at = 0
    for count in message.reference_counts:
        out.append(_pinned(message.references[at : at + count], state))
        at += count
    return out


def _pinned(references: m.Ints, state: HubState) -> m.Ints:
    """Pin objects and values, and return those that there are.

    What is gone already is left out: whoever looks for it will fail, and nothing is unpinned twice.
    """
    if not references:
        return ()
    objects, values = state.objects, state.values
    there = [one for one in references if one in objects or one in values]
    objects.pin(there)
    values.pin(there)
    return there
