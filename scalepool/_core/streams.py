"""Tasks that yield their values one by one, to a reader that takes them at its own pace.

A stream is a task with two values of its own: its end, and the right to read it, which only its submitter has. What it
yields become values as others, each told to the reader at once and held by it. The worker may be so many of them ahead
of the reader; it is told what was taken, in numbers counted from the start, so that no message can count twice.

When the reader lets go of its right, or the task is cancelled, a stream that has not started ends. One that has is told
to close: it ends at the next value that it would yield. A stream that is tried again begins anew; what it had yielded
before is not told twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scalepool._core.commands import Send
from scalepool._core.recipes import RemakingTask
from scalepool._core.task import TaskState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import unpack_yielded
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalepool._core.endings import Endings
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._core.task import KeptTask, Task
    from scalepool._core.workers import Worker
    from scalepool._wire.records import ResultRecord

__all__ = [
    "LOST_AFTER_S",
    "Stream",
    "Streams",
    "abandon",
    "close_stream",
    "end_stream",
    "handlers",
    "is_short",
    "salvage",
]

LOST_AFTER_S: Final = 1.0
"""How long a task some of whose results were lost waits for news of its worker's death; then it is judged without."""
_OWN: Final = (int(Status.VALUE), int(Status.ERROR))
"""How its worker says that a stream has ended."""


class Stream:
    """What the hub knows of one."""

    __slots__ = ("is_cancelled", "is_closing", "lost_attempt", "made", "taken")

    def __init__(self) -> None:
        self.made = 0
        """Values told to the reader."""
        self.taken = 0
        """Those of them that it has taken."""
        self.is_closing = False
        """Whether nobody wants any more of them."""
        self.is_cancelled = False
        """Whether that is because its task was cancelled."""
        self.lost_attempt = 0
        """The attempt of which a value could not be read: what that yields later is of no use."""

    def __repr__(self) -> str:
        return f"<Stream made={self.made} taken={self.taken}{' closing' if self.is_closing else ''}>"


class Streams:
    """Takes in what streams yield, and what their readers take. All state is in HubState."""

    __slots__ = ("_endings", "_keeping", "_state")

    def __init__(self, state: HubState, endings: Endings, keeping: Keeping) -> None:
        self._state = state
        self._endings = endings
        self._keeping = keeping

    def yielded(self, peer: int, message: m.Yield) -> None:
        """A value of a stream."""
        state = self._state
        worker = state.roster.known(peer)
        if len(message.objects) % 4:
            raise ProtocolError(f"worker {peer} described objects by {len(message.objects)} numbers, not four for each")
        if len(message.values) != len(message.payloads) or not message.values:
            raise ProtocolError(
                f"worker {peer} yielded {len(message.values)} values, and {len(message.payloads)} payloads"
            )
        if len(message.values) > 1 and (message.objects or message.references):
            raise ProtocolError(f"worker {peer} yielded several values with objects or references")
        state.objects.add(peer, message.objects, held=False)
        task, stream = worker.held.get(message.task), state.streams.get(message.task)
        if task is None or stream is None or task.attempt != message.attempt or stream.is_closing:
            state.out.command(Send(peer, m.Taken(message.task, -1)))
        elif stream.lost_attempt != message.attempt:
            known = stream.made - message.position
            if known > 0 and message.position == 0 and stream.taken:  # it was tried again
                state.out.command(Send(peer, m.Taken(task.id, stream.taken)))
            self._take_in(worker, task, stream, message)
        self._endings.free(state.objects.sweep(message.objects[::4]))

    def _take_in(self, worker: Worker, task: Task, stream: Stream, message: m.Yield) -> None:
        """Keep the next values, all but those that are known, and tell the reader; have lost ones replaced."""
        state, objects, items = self._state, message.objects[::4], self._keeping.lineage.items
        known = max(0, stream.made - message.position)
        values = message.values[known:]
        if message.position > stream.made or any(value in state.values or value in state.tasks for value in values):
            raise ProtocolError(f"worker {worker.id} yielded values {list(values)}, or one before, twice or not at all")
        recipe = items.recipe_of(task, message.position)
        wants = bool(values) or (recipe is not None and recipe.is_at_work)
        if wants and any(one not in state.objects for one in objects):
            # They were in the memory of a worker that is dead or dying, or nobody can open them; see ``reports``.
            stream.lost_attempt = message.attempt
            worker.lost.append(task.id)
            worker.lost_at = state.now
            state.alarm(worker.lost_at + LOST_AFTER_S)
            return
        if recipe is not None:
            items.passed(recipe, task, message)
        if type(task) is RemakingTask:
            stream.made = max(stream.made, message.position + len(message.values))
            items.remade(task)
        elif values:
            _open(state, task, stream, values, message.payloads[known:])
            if objects or message.references:
                self._keeping.keep_alive(values[0], message.references, objects)
            if recipe is not None:
                items.made(recipe, message.position + known, values)
            for value in values:
                self._keeping.tell(task.owner, value)

    def taken(self, peer: int, message: m.Taken) -> None:
        """The reader has taken values; the worker may make others in their place."""
        state = self._state
        task, stream = state.tasks.get(message.task), state.streams.get(message.task)
        if task is None or stream is None or task.owner != peer:
            return  # it has ended meanwhile
        stream.taken = max(stream.taken, min(message.taken, stream.made))
        if task.state is TaskState.ASSIGNED:
            state.out.command(Send(task.worker, m.Taken(task.id, stream.taken)))


def salvage(state: HubState, keeping: Keeping, worker: Worker, results: Iterable[ResultRecord]) -> None:
    """Take in values that a worker had yielded, and not sent, when it died; most of them, or all, may be known."""
    for result in results:
        task, stream = worker.held.get(result.task), state.streams.get(result.task)
        if task is None or stream is None or task.attempt != result.attempt or stream.is_closing:
            continue
        position, value, payload = unpack_yielded(result.payload)
        is_next = position == stream.made and stream.lost_attempt != result.attempt
        if type(task) is RemakingTask or not is_next or value in state.values or value in state.tasks:
            continue
        _open(state, task, stream, (value,), (payload,))
        recipe = keeping.lineage.items.recipe_of(task, position)
        if recipe is not None:
            keeping.lineage.items.made(recipe, position, (value,))
        keeping.tell(task.owner, value)


def _open(state: HubState, task: Task, stream: Stream, values: Sequence[int], payloads: Sequence[bytes]) -> None:
    """Enter the next values, and tell the reader that there are some."""
    stream.made += len(values)
    state.values.open(values, task.owner)
    for value, payload in zip(values, payloads, strict=True):
        record = state.values.get(value)
        assert record is not None
        record.status, record.payload = _OWN[0], payload
    state.out.command(Send(task.owner, m.Yielded(task.id, values)))


def handlers(streams: Streams) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with the messages about streams."""
    return {m.Yield: streams.yielded, m.Taken: streams.taken}


def abandon(state: HubState, endings: Endings, task: KeptTask) -> None:
    """A value of a stream was forgotten; where it is the right to read it, nobody wants any more."""
    stream = state.streams.get(task.id)
    if stream is None or stream.is_closing or any(value in state.values for value in task.values[1:]):
        return
    if type(task) is RemakingTask and state.values.lacks(task.id - 1):
        return
    stream.is_closing = True
    if task.state is not TaskState.ASSIGNED:
        endings.finish(task, Status.CANCELLED, 0, b"")
    else:
        task.cancelling = state.has_cancels = True
        state.out.command(Send(task.worker, m.CancelTasks((task.id,))))


def close_stream(state: HubState, worker: Worker, task_id: int) -> None:
    """What should be cancelled has started, and is a stream, or was one that has ended here: let it end there, too."""
    stream = state.streams.get(task_id)
    if stream is not None and task_id in worker.held:
        stream.is_cancelled = stream.is_cancelled or not stream.is_closing
        stream.is_closing = True
    state.out.command(Send(worker.id, m.Taken(task_id, -1)))


def is_short(stream: Stream, sent: int) -> bool:
    """Whether some of what the worker says it has sent never arrived, as it died, and whoever reads would miss them."""
    return sent > stream.made and not stream.is_closing


def end_stream(state: HubState, task: KeptTask, status: int, payload: bytes) -> tuple[int, bytes]:
    """The task of a stream has ended; return how its own values end."""
    stream = state.streams.pop(task.id, None)
    if stream is not None and stream.is_cancelled and status in _OWN:
        return int(Status.CANCELLED), b""
    return status, payload
