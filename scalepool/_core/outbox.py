"""Collects what one event makes the hub say, so that each peer gets one message with many tasks in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from scalepool._core.commands import Command, Send
from scalepool._core.values import PENDING
from scalepool._wire.messages import Free, Replies, Run
from scalepool._wire.verdict import pack_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.objects import ObjectDirectory
    from scalepool._core.task import KeptTask, Task
    from scalepool._core.values import ValueTable
    from scalepool._core.workers import Worker

__all__ = ["Outbox"]


class _Reply:
    __slots__ = ("object_counts", "objects", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, bytes]] = []
        self.object_counts: list[int] = []
        self.objects: list[int] = []


class Outbox:
    """Commands in the order in which they must be obeyed; assignments and replies are merged at the end."""

    __slots__ = ("_commands", "_free", "_objects", "_replies", "_runs", "_values", "has_losses", "keeps")

    def __init__(self, objects: ObjectDirectory, values: ValueTable) -> None:
        self._objects = objects
        self.has_losses = False
        """Whether there ever was a task that lost an item of its input: else nobody looks for one."""
        self._values = values
        self.keeps = False
        """Whether there ever were tasks whose results are kept: no other message has columns for them."""
        self._commands: list[Command] = []
        self._replies: dict[int, _Reply] = {}
        self._runs: dict[int, tuple[Worker, list[Task]]] = {}
        self._free: dict[int, list[int]] = {}

    def command(self, command: Command) -> None:
        """Order something, after all that was ordered before."""
        self._commands.append(command)

    def assign(self, worker: Worker, tasks: Sequence[Task]) -> None:
        """Let ``worker`` run ``tasks``."""
        entry = self._runs.get(worker.id)
        if entry is None:
            entry = self._runs[worker.id] = (worker, [])
        entry[1].extend(tasks)

    def reply(
        self, owner: int, task_id: int, status: int, micros: int, payload: bytes, objects: Sequence[int] = ()
    ) -> None:
        """Tell a peer how a task ended, or a value."""
        reply = self._replies.get(owner)
        if reply is None:
            reply = self._replies[owner] = _Reply()
        reply.rows.append((task_id, status, micros, payload))
        if objects:
            reply.object_counts.extend([0] * (len(reply.rows) - 1 - len(reply.object_counts)))
            reply.object_counts.append(len(objects))
            reply.objects.extend(objects)

    def free(self, freed: Sequence[tuple[int, int]]) -> None:
        """Tell the owners of these objects that nobody needs them."""
        for owner, object_id in freed:
            self._free.setdefault(owner, []).append(object_id)

    def drain(self) -> list[Command]:
        """Return everything that was collected, and start afresh."""
        out = self._commands
        self._commands = []
        for worker, tasks in self._runs.values():
            out.append(Send(worker.id, self._run(worker, tasks)))
        self._runs = {}
        for owner, reply in self._replies.items():
            out.append(Send(owner, self._finish(reply)))
        self._replies = {}
        for owner, objects in self._free.items():
            out.append(Send(owner, Free(objects)))
        self._free = {}
        return out

    def _run(self, worker: Worker, tasks: list[Task]) -> Run:
        functions, blobs = [], []
        last = None
        for task in tasks:
            function = task.function
            if function is last:
                continue  # using the newest entry again changes nothing, at neither end
            last = function
            if worker.known.use(function.id) is None:
                worker.known.add(function.id, True)
                functions.append(function.id)
                blobs.append(function.blob)
        rows = [(t.id, t.attempt, t.group.id, t.function.id, t.payload, t.references) for t in tasks]
        ids, attempts, groups, calls, payloads, carried = map(list, zip(*rows, strict=True))
        references = [object_id for each in carried for object_id in each] if any(carried) else []
        run = Run(
            acked=worker.received,
            functions=functions,
            blobs=blobs,
            tasks=ids,
            attempts=attempts,
            groups=groups,
            calls=calls,
            payloads=payloads,
            reference_counts=[len(each) for each in carried] if references else [],
            references=references,
            objects=self._objects.columns(references) if references else [],
            losses=_losses(tasks) if self.has_losses else (),
        )
        return self._with_values(run, tasks) if self.keeps else run

    def _with_values(self, run: Run, tasks: list[Task]) -> Run:
        """Add what kept tasks need, each value once."""
        returns = [task.returns for task in tasks]
        if not any(returns):
            return run
        each: list[Sequence[int]] = [cast("KeptTask", task).needs if task.returns else () for task in tasks]
        needs = [need for one in each for need in one]
        # What is not there yet the worker will have made itself by then; see ``following``.
        records = [
            (need, record)
            for need in dict.fromkeys(needs)
            if (record := self._values.get(need)) is not None and record.status != PENDING
        ]
        return run._replace(
            returns=returns,
            need_counts=[len(one) for one in each] if needs else [],
            needs=needs,
            values=[need for need, _ in records],
            value_payloads=[record.payload for _, record in records],
        )

    def _finish(self, reply: _Reply) -> Replies:
        counts = reply.object_counts
        if counts:
            counts.extend([0] * (len(reply.rows) - len(counts)))
        tasks, statuses, micros, payloads = map(list, zip(*reply.rows, strict=True))
        return Replies(
            tasks=tasks,
            statuses=statuses,
            micros=micros,
            payloads=payloads,
            object_counts=counts,
            objects=self._objects.columns(reply.objects) if reply.objects else [],
        )


def _losses(tasks: list[Task]) -> Sequence[bytes]:
    return [pack_losses(task.terms.losses) for task in tasks] if any(task.terms.losses for task in tasks) else ()
