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
from scalepool._wire.actors import OpenActor
from scalepool._wire.messages import Status
from scalepool._wire.records import MISSING, PARTS, unpack_result

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

    __slots__ = (
        "attempt", "begun", "ended", "lane", "name", "received", "sent", "status", "submitted", "worker", "yielded",
    )  # fmt: skip

    def __init__(self, submitted: float) -> None:
        self.submitted = submitted
        self.sent = self.begun = self.ended = self.received = 0.0
        self.worker = self.attempt = self.lane = self.yielded = 0
        self.name = self.status = ""


class _Past(NamedTuple):
    """A task that has run. Times are in seconds."""

    task: int
    attempt: int
    name: str
    status: str
    worker: int
    lane: int
    yielded: int
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
        self._actors: dict[int, str] = {}
        self._labels: dict[int, str] = {}
        self._left_out = 0
        self._watchers: dict[type, Callable[[int, Any, float], None]] = {
            m.Submit: self._submitted,
            m.Done: self._reported,
            m.Traced: self._traced,
            m.Yield: self._yielded,
            m.Returned: self._returned,
            OpenActor: self._opened,
        }

    def watch(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """Note what an event of the hub, and what it answered, say about tasks."""
        if type(event) is Received:
            watcher = self._watchers.get(type(event.message))
            if watcher is not None:
                watcher(event.peer, event.message, now)
        elif type(event) is WorkerStarted:
            self._pids[event.worker] = event.pid
        elif type(event) is WorkerExited:
            self._exited(event, now)
        for command in commands:
            if type(command) is Send and type(command.message) is m.Run:
                self._sent(command.peer, command.message, now)

    def _submitted(self, _: int, message: m.Submit, now: float) -> None:
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
                one.yielded = 0
        for group in message.groups:
            if group in self._actors:
                self._labels[worker] = self._actors[group]

    def _opened(self, _: int, message: OpenActor, __: float) -> None:
        self._actors[message.actor] = message.label.decode("utf-8", "replace")

    def _yielded(self, _: int, message: m.Yield, __: float) -> None:
        one = self._open.get(message.task)
        if one is not None and one.attempt == message.attempt:
            one.yielded += len(message.values)

    def _returned(self, _: int, message: m.Returned, now: float) -> None:
        """Tasks come back; what had begun all the same has been cancelled meanwhile."""
        for task in message.tasks:
            one = self._open.get(task)
            if one is not None and one.begun:
                one.received, one.status = now, "cancelled"
                self._close(task, one)

    def _done(self, record: bytes, now: float) -> None:
        result = unpack_result(record)
        if result.status == MISSING:
            return  # it will be sent again
        one = self._open.get(result.task)
        if one is not None and one.attempt == result.attempt:
            one.received, one.status = now, _STATUSES.get(result.status, "error")
            self._close(result.task, one)

    def _reported(self, _: int, message: m.Done, now: float) -> None:
        for record in message.records:
            self._done(record, now)

    def _traced(self, worker: int, message: m.Traced, _: float) -> None:
        numbers = message.numbers
        for at, name in zip(range(0, len(numbers) - 4, 5), message.names, strict=False):
            task, attempt, lane, begun_ns, ended_ns = numbers[at : at + 5]
            one = self._open.get(task)
            if one is not None and (one.worker, one.attempt) == (worker, attempt):
                one.lane = lane
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
            self._past.append(_Past(task, one.attempt, one.name, one.status, one.worker, one.lane, one.yielded, *times))
            if one.status == _DIED and self._is_open(task):
                self._open[task] = _Open(one.ended)  # it is tried again

    # ---- what viewers read ----

    def events(self) -> list[dict[str, Any]]:
        """Return what happened as events of the Trace Event Format; times are in microseconds."""
        past = list(self._past)
        events = list(self._named(0, {0}))
        lanes: dict[int, set[int]] = {}
        for one in past:
            lanes.setdefault(one.worker, set()).add(one.lane)
        for worker in sorted(lanes):
            events.extend(self._named(worker, lanes[worker]))
        for one in past:
            events.extend(self._events_of(one))
        return events

    def _events_of(self, one: _Past) -> Iterator[dict[str, Any]]:
        pid = self._pid(one.worker)
        args = {"task": one.task, "attempt": one.attempt, "status": one.status, "worker": one.worker}
        if one.yielded:
            args["yielded"] = one.yielded
        yield {
            "name": one.name, "cat": "running", "ph": "X", "ts": one.begun * 1e6,
            "dur": max(0.0, one.ended - one.begun) * 1e6, "pid": pid, "tid": one.lane or pid, "args": args,
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

    def _named(self, worker: int, lanes: set[int]) -> Iterator[dict[str, Any]]:
        """Say what the lanes of a process are called, and where it stands among the others."""
        pid = self._pid(worker)
        name = f"scalepool worker {worker}" if worker else "scalepool driver"
        if worker in self._labels:
            name = f"scalepool actor {self._labels[worker]} (worker {worker})"
        yield _about(pid, pid, "process_name", {"name": name})
        yield _about(pid, pid, "process_sort_index", {"sort_index": worker})
        for lane in sorted(lanes):
            yield _about(pid, lane or pid, "thread_name", {"name": f"call {lane}" if lane else "main"})
            yield _about(pid, lane or pid, "thread_sort_index", {"sort_index": lane})


def _about(pid: int, tid: int, what: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": args}
