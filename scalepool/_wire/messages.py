"""The protocol's dictionary: every message that a hub and its peers exchange.

Two roles only. The *hub* assigns work; a *peer* submits work, and a peer that is a worker also executes it. A message
is an immutable tuple; tasks travel in columns (one list of ids, one of payloads, ...) because one message carries
many of them. Payloads are opaque here and to the hub: nobody on the way unpickles what a user passed.

Ids are integers below 2**63: ``peer << 40 | counter``. A *function* is named by a 63-bit hash of its pickle.
An *object* is a large buffer in shared memory; its place is four integers ``(object, pid, fd, size_bytes)``.
A *value* is a result that the hub keeps for whoever has a reference to it: a task with n returns makes n of them, with
consecutive ids, the first of which is the task's own. A task *needs* the values that it cannot start without.
A task that is a *stream* yields values one by one while it runs. It has two more from the start: its end, which is
there when it has ended, and the right to read it. Whoever submitted it reads; when nobody holds that right, it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from scalepool._base.tuples import NamedTuple
from scalepool._wire.actors import ActorMessage
from scalepool._wire.return_messages import CancelTasks, Recall, Returned, Revoke
from scalepool._wire.status import CloseMode, Status
from scalepool._wire.value_messages import Hold, Keep, Missing, Taken, Want, Yield, Yielded

__all__ = [
    "DRIVER",
    "WIRE_VERSION",
    "Block",
    "Cancel",
    "CancelAnswer",
    "CancelTasks",
    "CloseGroup",
    "CloseMode",
    "Discard",
    "Done",
    "Enter",
    "Exit",
    "Free",
    "GroupClosed",
    "Hello",
    "Help",
    "Hold",
    "InitializerFailed",
    "Inquire",
    "Inventory",
    "Keep",
    "Memory",
    "Message",
    "Missing",
    "OpenGroup",
    "Output",
    "Put",
    "Recall",
    "Release",
    "Replies",
    "Returned",
    "Revoke",
    "Run",
    "StartWorkers",
    "Status",
    "Stop",
    "Submit",
    "Sync",
    "Taken",
    "Traced",
    "Trim",
    "Unblock",
    "Want",
    "Welcome",
    "Yield",
    "Yielded",
]

WIRE_VERSION = 3
DRIVER = 0
"""Peer number of the driver whose session the hub serves."""

Ints: TypeAlias = Sequence[int]
Blobs: TypeAlias = Sequence[bytes]


# ---- a peer introduces itself --------------------------------------------------------------------------------------


class Hello(NamedTuple):
    """First message of a worker. ``token`` proves that it was started by this session.

    One whose initializer wants to wait for tasks of its own says it twice: first with ``ready`` 0, and when it can take
    tasks itself with 1.
    """

    version: int
    worker: int
    pid: int
    token: bytes
    ready: int = 1


class Welcome(NamedTuple):
    """The hub's answer to a valid Hello."""

    version: int


# ---- a peer submits work -------------------------------------------------------------------------------------------


class OpenGroup(NamedTuple):
    """Open a view on the workers.

    ``parent`` is the group of the task that opens it (0: none); ``kind`` names the sort of worker it needs;
    ``private`` groups have workers of their own, recycled after ``max_tasks`` tasks (0: never); one that is not ready
    ``initializer_ms`` after its process began (0: never) fails the group. A worker that was started for the group is
    replaced when its memory has grown beyond ``max_rss`` bytes (0: never).

    ``lease`` says whether the group's workers count in the session's ledger (0: no), and hold ``amounts`` of
    ``resources``, which have UTF-8 names, while they run a task (1) or as long as they live (2).

    ``references`` are the objects and values that ``spec`` needs: each of the group's workers is told where they are.
    The ``cap`` of an ``elastic`` group (1) follows the number of slots of the cluster.
    """

    group: int
    parent: int
    kind: int
    cap: int
    private: int
    max_tasks: int
    spec: bytes
    initializer_ms: int = 0
    max_rss: int = 0
    lease: int = 0
    resources: Blobs = ()
    amounts: Ints = ()
    references: Ints = ()
    elastic: int = 0


class Submit(NamedTuple):
    """New tasks of one group, which may take ``time_limit_ms`` each from their start on (0: as long as they like).

    ``reference_counts`` is empty when no task carries an object, else it says how many of ``references`` belong to
    each task. ``objects`` describes objects that the hub does not know yet, four integers each.

    ``returns`` is empty when nobody keeps what the tasks return, else it says how many values each of them makes; the
    submitter then holds these, and ``parent`` is the task that submitted them (0: none). A negative number makes the
    task a stream, which may be so many values ahead of its reader. ``need_counts`` and ``needs`` tell which values each
    task needs, as references are told.
    """

    group: int
    max_retries: int
    functions: Ints
    blobs: Blobs
    tasks: Ints
    calls: Ints
    payloads: Blobs
    reference_counts: Ints = ()
    references: Ints = ()
    objects: Ints = ()
    time_limit_ms: int = 0
    parent: int = 0
    returns: Ints = ()
    need_counts: Ints = ()
    needs: Ints = ()


class StartWorkers(NamedTuple):
    """Start workers now, up to the group's cap, without waiting for tasks."""

    group: int


class Cancel(NamedTuple):
    """Cancel what has not started of these tasks; answered by CancelAnswer or by Replies.

    With ``recursive`` also of those that they have submitted themselves, as far as their results are kept.
    """

    tasks: Ints
    recursive: int = 0


class Stop(NamedTuple):
    """Cancel these tasks, and those that have started together with their workers; answered as Cancel."""

    tasks: Ints
    recursive: int = 0


class CloseGroup(NamedTuple):
    """No more tasks come for this group; answered by GroupClosed when the last one has ended."""

    group: int
    mode: int


class Block(NamedTuple):
    """The peer's task waits for ``wanted``: lend its slot, and give it those of them that nobody has started.

    ``task`` is the one that waits; ``needed`` how many of ``wanted`` have to end before it goes on (0: unknown, perhaps
    one will do), negative if an error of one of them will do, too. ``label`` says who waits and for what, for people.
    """

    wanted: Ints
    task: int = 0
    needed: int = 0
    label: bytes = b""


class Unblock(NamedTuple):
    """The peer's task goes on."""


# ---- the hub assigns work ------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Tasks for a worker. ``acked`` counts the results that the hub has received from it.

    ``losses`` is empty when no task has lost an item of its input, else it holds those of each; see ``_wire.verdict``.
    ``returns``, ``need_counts``, ``needs``: as in Submit; ``values``, ``value_payloads``: those needed, each once.
    """

    acked: int
    functions: Ints
    blobs: Blobs
    tasks: Ints
    attempts: Ints
    groups: Ints
    calls: Ints
    payloads: Blobs
    reference_counts: Ints = ()
    references: Ints = ()
    objects: Ints = ()
    losses: Blobs = ()
    returns: Ints = ()
    need_counts: Ints = ()
    needs: Ints = ()
    values: Ints = ()
    value_payloads: Blobs = ()


class Enter(NamedTuple):
    """The worker will get tasks of this group; ``spec`` says in what surroundings they expect to run."""

    group: int
    spec: bytes
    root: int = 0


class Help(NamedTuple):
    """These tasks, which come next, may run in place while the task waits that began the ``wait``-th of all waits."""

    wait: int
    tasks: Ints


class Exit(NamedTuple):
    """Finish what was started, then leave."""


# ---- a worker reports ----------------------------------------------------------------------------------------------


class Done(NamedTuple):
    """Finished tasks: each record is a ``_wire.records`` result; ``held`` lists objects that the worker still maps."""

    records: Blobs
    objects: Ints = ()
    held: Ints = ()


class Sync(NamedTuple):
    """The worker needs an up-to-date ``Run.acked`` before it can go on."""


class InitializerFailed(NamedTuple):
    """The worker's initializer raised; ``error`` is the encoded exception."""

    error: bytes


class Memory(NamedTuple):
    """How many bytes of memory the worker has to itself; only sent when that is more than it should."""

    rss: int


class Traced(NamedTuple):
    """When tasks ran, and what they are called: five integers each, (task, attempt, lane, begun, ended).

    Times are in nanoseconds. What runs beside another task, not inside of it, has another ``lane``; 0 is the first.
    """

    numbers: Ints
    names: Blobs


class Output(NamedTuple):
    """What came out of a worker: ``stream`` is 1 for stdout, 2 for stderr, 3 for ``logging`` records.

    With a ``task`` it is for that task's submitter alone, else the driver shows it.
    """

    stream: int
    text: bytes
    task: int = 0


# ---- the hub answers -----------------------------------------------------------------------------------------------


class Replies(NamedTuple):
    """Ended tasks, for the peer that submitted them. ``micros`` is the time each spent in its function.

    A task that makes values has a row for each of them, and so has each value that the peer wanted.
    """

    tasks: Ints
    statuses: Ints
    micros: Ints
    payloads: Blobs
    object_counts: Ints = ()
    objects: Ints = ()


class CancelAnswer(NamedTuple):
    """These tasks could not be cancelled: they had started."""

    refused: Ints


class GroupClosed(NamedTuple):
    """The group has no task left, and no worker of its own."""

    group: int


# ---- objects -------------------------------------------------------------------------------------------------------


class Put(NamedTuple):
    """The peer made these objects and holds them until its Release; four integers each."""

    objects: Ints


class Release(NamedTuple):
    """The peer has no view, handle or reference of these objects and values any more."""

    objects: Ints


class Free(NamedTuple):
    """Nobody uses these objects any more: their owner may recycle them."""

    objects: Ints


class Discard(NamedTuple):
    """These objects are on the disk by now: their owner lets go of their memory, which others may still be reading."""

    objects: Ints


class Trim(NamedTuple):
    """Memory is getting short: give back what is kept for later."""


# ---- resources -----------------------------------------------------------------------------------------------------


class Inquire(NamedTuple):
    """What is free, or with ``whole`` what is there at all? Answered by Inventory with the same ``request``."""

    request: int
    whole: int = 0


class Inventory(NamedTuple):
    """What nobody holds now, or what there is: ``resources`` and ``amounts`` as in OpenGroup.

    ``hosts`` says of each entry which host of the cluster has that; empty: it is what they have together.
    """

    request: int
    resources: Blobs
    amounts: Ints
    hosts: Ints = ()


Message: TypeAlias = (
    Hello | Welcome | OpenGroup | Submit | StartWorkers | Cancel | CloseGroup | Block | Unblock | Run | Enter
    | Recall | CancelTasks | Exit | Done | Returned | Sync | InitializerFailed | Output | Replies | CancelAnswer
    | GroupClosed | Put | Release | Free | Stop | Memory | Discard | Trim | Keep | Hold | Want | Help
    | Inquire | Inventory
    | Yield | Yielded | Taken | Traced | Missing | ActorMessage | Revoke
)  # fmt: skip
