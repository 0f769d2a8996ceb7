"""When each task was submitted, sent to a worker, run, and back: as events that trace viewers show.

The driver watches its hub: what goes in and comes out says when a task was submitted, given to a worker, and reported.
When it ran, its worker says. All clocks are the host's monotonic one. Only the last tasks are remembered.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.commands import Send
from scalepool._core.events import Received, WorkerExited, WorkerStarted
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.records import PARTS, unpack_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalepool._core.commands import Command
    from scalepool._core.events import Event

__all__ = ["REMEMBERED", "Timeline"]

REMEMBERED: Final = 100_000
"""Tasks, where nobody says how many."""
_STATUSES: Final = {int(Status.VALUE): "ok", PARTS: "ok", int(Status.ERROR): "error"}
_DIED: Final = "worker died"


class _Open:
    """A task that has not ended, or whose worker has not said yet when it ran."""

    __slots__ = ("attempt", "begun", "ended", "name", "received", "sent", "status", "submitted", "worker")

    def __init__(self, submitted: float) -> None:
        self.submitted = submitted
        self.sent = self.begun = self.ended = self.received = 0.0
        self.worker = self.attempt = 0
        self.name = self.status = ""


class _Past(NamedTuple):
    """A task that has run. Times are in seconds."""

    task: int
    attempt: int
    name: str
    status: str
    worker: int
    submitted: float
    sent: float
    begun: float
    ended: float
    received: float


class Timeline:
    """What happened to the last ``limit`` tasks.

    Parameters
    ----------
    limit
        How many tasks are remembered; as many more may be under way.
    is_open
        Whether the hub has this task still.
    """

    def __init__(self, limit: int, is_open: Callable[[int], bool]) -> None:
        self._limit = limit
        self._is_open = is_open
        self._open: dict[int, _Open] = {}
        self._past: deque[_Past] = deque(maxlen=limit)
        self._pids: dict[int, int] = {m.DRIVER: os.getpid()}
        self._left_out = 0

    def watch(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """Note what an event of the hub, and what it answered, say about tasks."""
        if type(event) is Received:
            message = event.message
            if type(message) is m.Submit:
                self._submitted(message, now)
            elif type(message) is m.Done:
                for record in message.records:
                    self._done(record, now)
            elif type(message) is m.Traced:
                self._traced(event.peer, message)
        elif type(event) is WorkerStarted:
            self._pids[event.worker] = event.pid
        elif type(event) is WorkerExited:
            self._exited(event, now)
        for command in commands:
            if type(command) is Send and type(command.message) is m.Run:
                self._sent(command.peer, command.message, now)

    def _submitted(self, message: m.Submit, now: float) -> None:
        if len(self._open) + len(message.tasks) > self._limit:
            self._make_room()
        for task in message.tasks:
            if len(self._open) >= self._limit:
                self._left_out += 1
            else:
                self._open[task] = _Open(now)

    def _make_room(self) -> None:
        """Forget those that ended without running: cancelled ones."""
        if self._left_out % 1000 == 0:
            self._open = {task: one for task, one in self._open.items() if self._is_open(task)}

    def _sent(self, worker: int, message: m.Run, now: float) -> None:
        for task, attempt in zip(message.tasks, message.attempts, strict=True):
            one = self._open.get(task)
            if one is not None:
                one.sent, one.worker, one.attempt = now, worker, attempt
                one.begun = one.received = 0.0

    def _done(self, record: bytes, now: float) -> None:
        result = unpack_result(record)
        one = self._open.get(result.task)
        if one is not None and one.attempt == result.attempt:
            one.received, one.status = now, _STATUSES.get(result.status, "error")
            self._close(result.task, one)

    def _traced(self, worker: int, message: m.Traced) -> None:
        numbers = message.numbers
        for at, name in zip(range(0, len(numbers), 4), message.names, strict=False):
            task, attempt, begun_ns, ended_ns = numbers[at : at + 4]
            one = self._open.get(task)
            if one is not None and (one.worker, one.attempt) == (worker, attempt):
                one.begun, one.ended, one.name = begun_ns * 1e-9, ended_ns * 1e-9, name.decode("utf-8", "replace")
                self._close(task, one)

    def _exited(self, event: WorkerExited, now: float) -> None:
        for record in event.records:  # which it had not sent, or not all of it
            self._done(record, now)
        for task, one in list(self._open.items()):
            if one.worker != event.worker:
                continue
            if task in event.running or one.received:
                one.name = one.name or "task"
                one.begun, one.ended = one.begun or one.sent, one.ended or one.received or now
                one.status, one.received = one.status or _DIED, one.received or now
                self._close(task, one)

    def _close(self, task: int, one: _Open) -> None:
        if one.begun and one.received:
            del self._open[task]
            times = (one.submitted, one.sent, one.begun, one.ended, one.received)
            self._past.append(_Past(task, one.attempt, one.name, one.status, one.worker, *times))
            if one.status == _DIED and self._is_open(task):
                self._open[task] = _Open(one.ended)  # it is tried again

    # ---- what viewers read ----

    def events(self) -> list[dict[str, Any]]:
        """Return what happened as events of the Trace Event Format; times are in microseconds."""
        past = list(self._past)
        events = [_process(0, self._pids[m.DRIVER])]
        events += [_process(worker, self._pid(worker)) for worker in sorted({one.worker for one in past})]
        for one in past:
            events.extend(self._events_of(one))
        return events

    def _events_of(self, one: _Past) -> Iterator[dict[str, Any]]:
        pid = self._pid(one.worker)
        args = {"task": one.task, "attempt": one.attempt, "status": one.status, "worker": one.worker}
        yield {
            "name": one.name, "cat": "running", "ph": "X", "ts": one.begun * 1e6,
            "dur": max(0.0, one.ended - one.begun) * 1e6, "pid": pid, "tid": pid, "args": args,
        }  # fmt: skip
        stages = (
            ("queued", one.submitted, one.sent, self._pids[m.DRIVER]),
            ("to worker", one.sent, one.begun, pid),
            ("to driver", one.ended, one.received, pid),
        )
        for stage, begin, end, where in stages:
            category = "queued" if stage == "queued" else "transfer"
            for phase, at in (("b", begin), ("e", max(begin, end))):
                yield {
                    "name": stage, "cat": category, "ph": phase, "id": f"{one.task:x}", "ts": at * 1e6,
                    "pid": where, "tid": where, "args": {"function": one.name, "task": one.task},
                }  # fmt: skip

    def _pid(self, worker: int) -> int:
        return self._pids.get(worker, worker)


def _process(worker: int, pid: int) -> dict[str, Any]:
    name = f"scalepool worker {worker}" if worker else "scalepool driver"
    return {"name": "process_name", "ph": "M", "ts": 0, "pid": pid, "tid": pid, "args": {"name": name}}
