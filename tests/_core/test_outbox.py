"""One message for each peer and event, however many tasks it is about."""

from __future__ import annotations

from scalepool._core.commands import Note, Send
from scalepool._core.functions import FunctionRecord
from scalepool._core.groups import Group
from scalepool._core.objects import ObjectDirectory
from scalepool._core.outbox import Outbox
from scalepool._core.task import Task
from scalepool._core.values import ValueTable
from scalepool._core.workers import Worker
from scalepool._wire.messages import Free, OpenGroup, Replies, Run

OWNER = 0
GROUP = Group(OpenGroup(1, 0, 5, 2, 0, 0, b""), OWNER, None)
FUNCTION = FunctionRecord(7, b"f")


def make_task(number: int, references: tuple[int, ...] = ()) -> Task:
    return Task(number, GROUP, FUNCTION, b"payload", references)


def outbox() -> Outbox:
    objects = ObjectDirectory()
    objects.add(OWNER, (10, 1, 2, 3, 11, 4, 5, 6), held=True)
    return Outbox(objects, ValueTable())


def messages(out: Outbox) -> list[object]:
    return [command.message for command in out.drain() if isinstance(command, Send)]


def test_assignments_to_a_worker_travel_together_and_a_function_once() -> None:
    out, worker = outbox(), Worker(3, GROUP)
    worker.received = 9
    out.assign(worker, [make_task(1)])
    out.assign(worker, [make_task(2)])
    assert messages(out) == [Run(9, [7], [b"f"], [1, 2], [1, 1], [1, 1], [7, 7], [b"payload"] * 2, [], [], [])]
    out.assign(worker, [make_task(4)])
    (run,) = messages(out)
    assert (run.functions, run.blobs, run.tasks) == ([], [], [4])  # type: ignore[attr-defined]


def test_a_run_says_where_the_objects_of_its_tasks_are() -> None:
    out, worker = outbox(), Worker(3, GROUP)
    out.assign(worker, [make_task(1, (11, 99))])
    out.assign(worker, [make_task(2)])
    out.assign(worker, [make_task(4, (10, 11))])
    (run,) = messages(out)
    assert isinstance(run, Run)
    assert (run.reference_counts, run.references) == ([2, 0, 2], [11, 99, 10, 11])
    assert run.objects == [11, 4, 5, 6, 10, 1, 2, 3]


def test_replies_to_an_owner_travel_together() -> None:
    out = outbox()
    out.reply(OWNER, 1, 0, 5, b"one")
    out.reply(OWNER, 2, 1, 6, b"two")
    assert messages(out) == [Replies([1, 2], [0, 1], [5, 6], [b"one", b"two"], [], [])]


def test_a_reply_says_where_the_objects_of_its_result_are() -> None:
    out = outbox()
    out.reply(OWNER, 1, 0, 0, b"")
    out.reply(OWNER, 2, 0, 0, b"", [10])
    out.reply(OWNER, 3, 0, 0, b"")
    (replies,) = messages(out)
    assert isinstance(replies, Replies)
    assert (replies.object_counts, replies.objects) == ([0, 1, 0], [10, 1, 2, 3])


def test_the_order_is_commands_then_runs_then_replies_then_frees() -> None:
    out = outbox()
    out.free([(OWNER, 10), (5, 11), (OWNER, 12)])
    out.reply(OWNER, 1, 0, 0, b"")
    out.assign(Worker(3, GROUP), [make_task(2)])
    out.command(Note("first"))
    drained = out.drain()
    assert drained[0] == Note("first")
    kinds = [(type(command.message), command.peer) for command in drained[1:] if isinstance(command, Send)]
    assert kinds == [(Run, 3), (Replies, OWNER), (Free, OWNER), (Free, 5)]
    assert drained[-2] == Send(OWNER, Free([10, 12]))


def test_an_empty_outbox_drains_to_nothing() -> None:
    assert outbox().drain() == []
