"""A conversation with a hub: short words for what peers say, and for what the hub answered.

Every event is followed by ``hub.check()``, so each test also tests all invariants.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from scalepool._core.commands import Command, Drop, Inspect, KillWorker, Note, Send, StartWorker
from scalepool._core.events import Event, Inspected, LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._core.hub import Hub
from scalepool._wire import messages as m
from scalepool._wire.messages import DRIVER, CloseMode, Status
from scalepool._wire.records import pack_result

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

T = TypeVar("T")
PID = 1000


class Dialogue:
    """One hub, a clock, and what it said last (``heard``)."""

    def __init__(
        self,
        *,
        idle_worker_s: float = 30.0,
        store_limit_bytes: int | None = None,
        copies: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self.hub = Hub(idle_worker_s=idle_worker_s, store_limit_bytes=store_limit_bytes, copies=copies)
        self.now = 0.0
        self.heard: list[Command] = []
        self._ids = itertools.count(1)

    # ---- what happens ----

    def happens(self, event: Event) -> list[Command]:
        self.heard = self.hub.handle(event, self.now)
        self.hub.check()
        return self.heard

    def says(self, peer: int, message: m.Message) -> list[Command]:
        return self.happens(Received(peer, message))

    def later(self, seconds: float) -> list[Command]:
        """Time passes, and every alarm on the way is obeyed; returns all that the hub said."""
        end = self.now + seconds
        said: list[Command] = []
        ticks = 0
        while (alarm := self.hub.alarm_at) is not None and alarm <= end:
            self.now = max(self.now, alarm)
            said += self.happens(Tick())
            ticks += 1
            assert ticks < 1000, f"the hub wants to be ticked all the time: {alarm}"
        self.now = end
        self.heard = said
        return said

    # ---- a client ----

    def new_id(self, peer: int = DRIVER) -> int:
        return peer << 40 | next(self._ids)

    def opens(
        self,
        cap: int = 2,
        *,
        peer: int = DRIVER,
        parent: int = 0,
        kind: int = 1,
        private: bool = False,
        max_tasks: int = 0,
        initializer_ms: int = 0,
        max_rss: int = 0,
        references: Sequence[int] = (),
    ) -> int:
        group = self.new_id(peer)
        opened = m.OpenGroup(group, parent, kind, cap, int(private), max_tasks, b"spec", initializer_ms, max_rss)
        self.says(peer, opened._replace(references=references))
        return group

    def submits(
        self,
        group: int,
        count: int = 1,
        *,
        peer: int = DRIVER,
        max_retries: int = 0,
        time_limit_ms: int = 0,
        references: Sequence[int] = (),
        objects: Sequence[int] = (),
    ) -> list[int]:
        """Submit ``count`` calls of function 7, each with these references."""
        tasks = [self.new_id(peer) for _ in range(count)]
        message = submit(group, tasks, max_retries=max_retries, references=references, objects=objects)
        self.says(peer, message._replace(time_limit_ms=time_limit_ms))
        return tasks

    def closes(self, group: int, mode: CloseMode = CloseMode.DRAIN, peer: int = DRIVER) -> list[Command]:
        return self.says(peer, m.CloseGroup(group, mode))

    # ---- workers ----

    def gets_ready(self, worker: int) -> list[Command]:
        """Let an ordered worker start and say Hello."""
        self.happens(WorkerStarted(worker, PID + worker))
        return self.says(worker, m.Hello(m.WIRE_VERSION, worker, PID + worker, b"token"))

    def starts_workers(self, group: int) -> list[int]:
        """Have all workers of the group's cap ready."""
        workers = started(self.says(self.hub_owner(group), m.StartWorkers(group)))
        for worker in workers:
            self.gets_ready(worker)
        return workers

    def hub_owner(self, group: int) -> int:
        return group >> 40

    def finishes(self, worker: int, tasks: Iterable[int], *, micros: int = 1000, attempt: int = 1) -> list[Command]:
        records = [pack_result(task, attempt, Status.VALUE, 0, micros, b"value") for task in tasks]
        return self.says(worker, m.Done(records))

    def dies(self, worker: int, *running: int, exitcode: int = -9, records: Sequence[bytes] = ()) -> list[Command]:
        return self.happens(WorkerExited(worker, exitcode, running, tuple(records)))

    def looks(self, worker: int, *running: int, items: Sequence[int] = ()) -> list[Command]:
        """The worker's flight record, which the hub asked for, says that it is in these tasks."""
        return self.happens(Inspected(worker, running, tuple(items) or (0,) * len(running)))

    def fails_to_start(self, worker: int) -> list[Command]:
        return self.happens(LaunchFailed(worker, "no more processes"))


def submit(
    group: int,
    tasks: Sequence[int],
    *,
    calls: Sequence[int] | None = None,
    functions: Sequence[int] = (7,),
    max_retries: int = 0,
    references: Sequence[int] = (),
    objects: Sequence[int] = (),
) -> m.Submit:
    """Calls of functions; every task carries all of ``references``."""
    count = len(tasks)
    return m.Submit(
        group=group,
        max_retries=max_retries,
        functions=list(functions),
        blobs=[b"function %d" % function for function in functions],
        tasks=list(tasks),
        calls=[7] * count if calls is None else list(calls),
        payloads=[b"arguments %d" % task for task in tasks],
        reference_counts=[len(references)] * count if references else [],
        references=list(references) * count,
        objects=list(objects),
    )


# ---- what the hub said ----


def started(commands: Iterable[Command]) -> list[int]:
    """Workers that were ordered."""
    return [command.worker for command in commands if isinstance(command, StartWorker)]


def killed(commands: Iterable[Command]) -> dict[int, bool]:
    """Workers that are to be killed, and whether by force."""
    return {command.worker: command.force for command in commands if isinstance(command, KillWorker)}


def sent(commands: Iterable[Command], kind: type[T], peer: int | None = None) -> list[T]:
    """Messages of this kind (to this peer)."""
    return [
        command.message
        for command in commands
        if isinstance(command, Send) and isinstance(command.message, kind) and peer in (None, command.peer)
    ]


def told(commands: Iterable[Command], kind: type[m.Message]) -> list[int]:
    """Peers that got a message of this kind."""
    return [command.peer for command in commands if isinstance(command, Send) and isinstance(command.message, kind)]


def runs(commands: Iterable[Command]) -> dict[int, list[int]]:
    """Tasks that each worker got."""
    return {
        command.peer: list(command.message.tasks)
        for command in commands
        if isinstance(command, Send) and isinstance(command.message, m.Run)
    }


def ends(commands: Iterable[Command]) -> dict[int, Status]:
    """How tasks ended."""
    return {
        task: Status(status)
        for message in sent(commands, m.Replies)
        for task, status in zip(message.tasks, message.statuses, strict=True)
    }


def closed(commands: Iterable[Command]) -> list[int]:
    """Groups that were reported closed."""
    return [message.group for message in sent(commands, m.GroupClosed)]


def dropped(commands: Iterable[Command]) -> list[int]:
    """Objects that the hub's host lets go."""
    return [object_id for command in commands if isinstance(command, Drop) for object_id in command.objects]


def notes(commands: Iterable[Command]) -> list[str]:
    """What a person is told."""
    return [command.text for command in commands if isinstance(command, Note)]


def inspected(commands: Iterable[Command]) -> list[int]:
    """Workers whose flight record is to be looked into."""
    return [command.worker for command in commands if isinstance(command, Inspect)]
