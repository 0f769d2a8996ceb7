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
from scalepool._core.task import TaskState
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalepool._core.endings import Endings
    from scalepool._core.keeping import Keeping
    from scalepool._core.state import HubState
    from scalepool._core.task import KeptTask, Task
    from scalepool._core.workers import Worker

__all__ = ["LOST_AFTER_S", "Stream", "Streams", "abandon", "close_stream", "end_stream", "handlers", "is_short"]

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
        state.objects.add(peer, message.objects, held=False)
        task, stream = worker.held.get(message.task), state.streams.get(message.task)
        if task is None or stream is None or task.attempt != message.attempt or stream.is_closing:
            state.out.command(Send(peer, m.Taken(message.task, -1)))
        elif message.position < stream.made:  # it was tried again
            if message.position == 0 and stream.taken:
                state.out.command(Send(peer, m.Taken(task.id, stream.taken)))
        elif stream.lost_attempt != message.attempt:
            self._enter(worker, task, stream, message)
        self._endings.free(state.objects.sweep(message.objects[::4]))

    def _enter(self, worker: Worker, task: Task, stream: Stream, message: m.Yield) -> None:
        """Keep the next value, and tell the reader."""
        state, value, objects = self._state, message.value, message.objects[::4]
        if message.position > stream.made or value in state.values or value in state.tasks:
            raise ProtocolError(f"worker {worker.id} yielded value {value}, or one before it, twice or not at all")
        if any(one not in state.objects for one in objects):
            # They were in the memory of a worker that is dead or dying, or nobody can open them; see ``reports``.
            stream.lost_attempt = message.attempt
            worker.lost.append(task.id)
            worker.lost_at = state.now
            state.alarm(worker.lost_at + LOST_AFTER_S)
            return
        stream.made += 1
        state.values.open((value,), task.owner)
        record = state.values.get(value)
        assert record is not None
        record.status, record.payload = int(Status.VALUE), message.payload
        self._keeping.keep_alive(value, message.references, objects)
        state.out.command(Send(task.owner, m.Yielded(task.id, value)))
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


def handlers(streams: Streams) -> dict[type, Callable[[int, Any], None]]:
    """Return what to do with the messages about streams."""
    return {m.Yield: streams.yielded, m.Taken: streams.taken}


def abandon(state: HubState, endings: Endings, task: KeptTask) -> None:
    """A value of a stream was forgotten; where it is the right to read it, nobody wants any more."""
    stream = state.streams.get(task.id)
    if stream is None or stream.is_closing or task.values[1] in state.values:
        return
    stream.is_closing = True
    if task.state is not TaskState.ASSIGNED:
        endings.finish(task, Status.CANCELLED, 0, b"")
    else:
        task.cancelling = True
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
