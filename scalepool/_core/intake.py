"""What peers submit: groups, tasks, objects, and their wish to be rid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalepool._core.commands import Send
from scalepool._core.functions import FunctionRecord, Recent
from scalepool._core.groups import Group
from scalepool._core.task import Task, TaskState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._core.dispatch import Dispatcher
    from scalepool._core.endings import Endings
    from scalepool._core.state import HubState

__all__ = ["Intake"]


class Intake:
    """Takes in what clients send. All state is in HubState."""

    __slots__ = ("_dispatcher", "_endings", "_state")

    def __init__(self, state: HubState, dispatcher: Dispatcher, endings: Endings) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._endings = endings

    def open_group(self, peer: int, message: m.OpenGroup) -> None:
        if message.group in self._state.groups:
            raise ProtocolError(f"group {message.group} is open already")
        group = Group(message, peer, self._state.groups.get(message.parent))
        group.moved_at = self._state.now
        self._state.groups[group.id] = group

    def submit(self, peer: int, message: m.Submit) -> None:
        """New tasks of a group."""
        state = self._state
        group = state.groups.get(message.group)
        if group is None:  # terminated together with the group above it, while this was on its way
            count = len(message.tasks)
            answer = m.Replies(message.tasks, [Status.CANCELLED] * count, [0] * count, [b""] * count)
            state.out.command(Send(peer, answer))
            return
        if group.owner != peer:
            raise ProtocolError(f"peer {peer} submitted to group {message.group}, which it has not opened")
        functions = self._functions(peer, message)
        state.objects.add(peer, message.objects, held=False)
        state.objects.pin(message.references)
        references = _per_task(message)
        for index, task_id in enumerate(message.tasks):
            task = Task(task_id, group, functions[index], message.payloads[index], references[index] if references else ())
            task.max_retries = message.max_retries
            state.tasks[task_id] = task
            group.push(task)
        state.ready[group.id] = group
        self._refuse_if_over(group)

    def _functions(self, peer: int, message: m.Submit) -> list[FunctionRecord]:
        known = self._state.functions.setdefault(peer, Recent())
        for function_id, blob in zip(message.functions, message.blobs, strict=True):
            known.add(function_id, FunctionRecord(function_id, blob))
        called = [known.use(call) for call in message.calls]
        found = [function for function in called if function is not None]
        if len(found) != len(message.tasks) or len(message.payloads) != len(message.tasks):
            raise ProtocolError(f"peer {peer} submitted calls of functions that it never sent")
        return found

    def _refuse_if_over(self, group: Group) -> None:
        if group.failure is not None:
            self._endings.abort(group, Status.INITIALIZER_FAILED, group.failure)
        elif group.closing not in (None, m.CloseMode.DRAIN):
            self._endings.abort(group, Status.CANCELLED, b"")

    def start_workers(self, peer: int, message: m.StartWorkers) -> None:
        group = self._state.groups.get(message.group)
        if group is not None and group.closing is None:
            group.started_min = group.cap
            self._dispatcher.start_minimum(group)

    def close_group(self, peer: int, message: m.CloseGroup) -> None:
        group = self._state.groups.get(message.group)
        if group is not None:
            self._endings.close(group, m.CloseMode(message.mode))

    def cancel(self, peer: int, message: m.Cancel) -> None:
        refused, ask = [], dict[int, list[int]]()
        for task_id in message.tasks:
            task = self._state.tasks.get(task_id)
            if task is None or task.owner != peer:
                refused.append(task_id)
            elif task.state is TaskState.QUEUED:
                self._endings.finish(task, Status.CANCELLED, 0, b"")
            else:
                task.cancelling = True
                ask.setdefault(task.worker, []).append(task_id)
        for worker, tasks in ask.items():
            self._state.out.command(Send(worker, m.CancelTasks(tasks)))
        if refused:
            self._state.out.command(Send(peer, m.CancelAnswer(refused)))

    def put(self, peer: int, message: m.Put) -> None:
        self._state.objects.add(peer, message.objects, held=True)

    def release(self, peer: int, message: m.Release) -> None:
        self._endings.free(self._state.objects.release(peer, message.objects))



def _per_task(message: m.Submit) -> list[m.Ints]:
    """Split the flat column of references; empty when no task has any."""
    out = []
    at = 0
    for count in message.reference_counts:
        out.append(message.references[at : at + count])
        at += count
    return out
