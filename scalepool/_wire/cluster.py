"""What the processes of a cluster say to each other: drivers and node agents to the head, and through it to each other.

A *session* is one driver's use of the cluster, a *node* one host's agent; the head numbers both, from 1 on. What a
worker and the hub of its session say to each other is inside of `Carry`, and nobody on the way looks into it.

Sent through the same codec as all other messages, with numbers of its own; loaded only where there is a cluster.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

from scalepool._base.tuples import NamedTuple
from scalepool._wire import codec
from scalepool._wire import messages as m
from scalepool._wire.links import Again, Drop, Heard, Joined, Renew, Reopen, Resume, Said, Stranger
from scalepool._wire.stewards import Owned
from scalepool._wire.tenancy import Drain, Drained, Leave, Share, Shift, Wants

__all__ = [
    "CARRY", "NO_EXITCODE", "SAID",
    "Again", "Ask", "Begin", "Brought", "Carry", "Chunk", "ClusterMessage", "Down", "Drain", "Drained",
    "Drop", "End", "Ended", "Fetch", "Forget", "Heard", "Joined", "Kill", "Launch", "Launched", "Leave", "Listening",
    "Look", "Looked", "NodeLost", "Nodes", "Offer", "Open", "Opened", "Owned", "Ping", "Placed", "Refused", "Renew",
    "Reopen", "Report", "Resume", "Said", "Seek", "Share", "Shift", "Sought", "Source", "Stranger", "Ticket", "Wants",
    "Where", "Withdraw", "carries_objects", "decode", "encode", "kind_said", "route_of",
]  # fmt: skip

NO_EXITCODE: Final = 1 << 32
"""Stands for an exit code that nobody can know."""

Ints: TypeAlias = Sequence[int]
Blobs: TypeAlias = Sequence[bytes]


# ---- links ---------------------------------------------------------------------------------------------------------


class Ping(NamedTuple):
    """Are you there? Nobody answers: that it cannot be sent says enough."""


class Offer(NamedTuple):
    """An agent joins with a host that has room for so many workers at once, and so much memory, in bytes.

    ``rest`` is what else it has, as JSON: see ``placement``.
    """

    slots: int
    memory: int
    host: bytes
    rest: bytes = b"{}"


class Open(NamedTuple):
    """A driver opens a session; ``settings`` are its own, as JSON, and ``token`` is what its workers have to say."""

    settings: bytes
    token: bytes


class Ask(NamedTuple):
    """What is going on in the cluster? Answered by Report."""


class Report(NamedTuple):
    """The answer, as JSON."""

    text: bytes


class Down(NamedTuple):
    """End the cluster. The head passes it on to its agents, and ends."""


# ---- the head tells a driver ---------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """The session has a number; Nodes follows."""

    session: int


class Nodes(NamedTuple):
    """All hosts that there are now: their numbers, slots, memory and names, and what they offer beside that.

    ``leaving`` is 1 for those that get nothing new, and 2 for those on which everything ends now.
    """

    nodes: Ints
    slots: Ints
    memory: Ints
    hosts: Blobs
    rest: Blobs = ()
    leaving: Ints = ()


class Placed(NamedTuple):
    """A worker is started on that node."""

    session: int
    worker: int
    node: int


class NodeLost(NamedTuple):
    """A host has left, and its workers with it."""

    node: int
    reason: bytes


# ---- a driver's orders, which the head passes on -------------------------------------------------------------------


class Begin(NamedTuple):
    """To an agent, which is that ``node``: a session will have workers here; the rest as in Open."""

    session: int
    node: int
    settings: bytes
    token: bytes


class End(NamedTuple):
    """The session is over: its workers end, and what it had is removed."""

    session: int


class Launch(NamedTuple):
    """Start a worker; the rest as in the command StartWorker. With ``node`` 0 the head chooses where."""

    session: int
    worker: int
    spec: bytes
    objects: Ints = ()
    node: int = 0
    gpus: Ints = ()


class Kill(NamedTuple):
    """Kill a worker and its children; with ``force`` by a signal that cannot be caught."""

    session: int
    worker: int
    force: int


class Look(NamedTuple):
    """What does this worker's flight record say? Answered by Looked. The rest as in the command Inspect."""

    session: int
    worker: int
    revocation: int


class Withdraw(NamedTuple):
    """Write this number into a worker's flight record: as the command Revoke."""

    session: int
    worker: int
    number: int


# ---- an agent reports ----------------------------------------------------------------------------------------------


class Launched(NamedTuple):
    """The worker's process exists."""

    session: int
    worker: int
    pid: int


class Refused(NamedTuple):
    """It could not be started; with ``moot`` for a reason that says nothing about another try."""

    session: int
    worker: int
    reason: bytes
    moot: int = 0


class Ended(NamedTuple):
    """The worker's process is gone; as the event WorkerExited. ``first`` results were logged before ``records``.

    ``objects`` are those of ``records``, on that node.
    """

    session: int
    worker: int
    exitcode: int
    running: Ints
    items: Ints
    first: int
    records: Blobs
    report: bytes
    objects: Ints = ()


class Looked(NamedTuple):
    """As the event Inspected; ``first`` as in Ended."""

    session: int
    worker: int
    running: Ints
    items: Ints
    revocation: int
    first: int
    records: Blobs
    stopped: int = 0


# ---- both ways -----------------------------------------------------------------------------------------------------


class Carry(NamedTuple):
    """A message from or to a worker."""

    session: int
    worker: int
    data: bytes


class Fetch(NamedTuple):
    """Send a part of an object that lies on ``node`` (asked by the driver) or at the driver (by the agent of it)."""

    session: int
    node: int
    object: int
    offset: int
    size: int


class Chunk(NamedTuple):
    """The answer to a Fetch; empty when the object is not there (any more)."""

    session: int
    node: int
    object: int
    offset: int
    data: bytes


class Forget(NamedTuple):
    """Nobody needs these objects any more that lie on ``node``."""

    session: int
    node: int
    objects: Ints


class Seek(NamedTuple):
    """A host asks the program for code; see ``bundles.Question``. Answered by Sought with the same ``request``."""

    session: int
    node: int
    request: int
    question: bytes


class Sought(NamedTuple):
    """The answer; see ``bundles.Answer``."""

    session: int
    node: int
    request: int
    answer: bytes


# ---- large data that comes directly --------------------------------------------------------------------------------


class Ticket(NamedTuple):
    """To a node: who says this secret may have this session's objects from there, and the node those of others."""

    session: int
    node: int
    ticket: bytes


class Listening(NamedTuple):
    """A node can exchange large data directly; ``address`` is where it listens."""

    session: int
    node: int
    address: bytes


class Where(NamedTuple):
    """Say from where this node is to get an object."""

    session: int
    node: int
    object: int


class Source(NamedTuple):
    """The answer: from that node (0: the driver) at that address; without one by Fetch, from the driver."""

    session: int
    node: int
    object: int
    source: int
    address: bytes


class Brought(NamedTuple):
    """What became of it on that node: one of the results in `scalepool._core.sources`."""

    session: int
    node: int
    object: int
    result: int


ClusterMessage: TypeAlias = (
    Ping | Offer | Open | Ask | Report | Down | Opened | Nodes | Placed | NodeLost | Begin | End | Launch | Kill | Look
    | Withdraw | Launched | Refused | Ended | Looked | Carry | Fetch | Chunk | Forget | Seek | Sought
    | Ticket | Listening | Where | Source | Brought
    | Said | Heard | Resume | Renew | Drop | Stranger | Again | Joined | Reopen
    | Drain | Drained | Leave | Wants | Share | Shift
    | Owned
)  # fmt: skip

# The order of this list is the protocol: append, never insert.
_BY_NUMBER, _BY_TYPE = codec.tables([
    Ping, Offer, Open, Ask, Report, Down, Opened, Nodes, Placed, NodeLost, Begin, End, Launch, Kill, Look, Launched,
    Refused, Ended, Looked, Carry, Fetch, Chunk, Forget, Withdraw, Seek, Sought,
    Ticket, Listening, Where, Source, Brought,
    Said, Heard, Resume, Renew, Drop, Stranger, Again, Joined, Reopen,
    Drain, Drained, Leave, Wants, Share, Shift,
    Owned,
])  # fmt: skip
_PASSED_ON: Final = {_BY_TYPE[kind][0]: kind for kind in (Said, Heard, Resume)}
SAID: Final = _BY_TYPE[Said][0]
CARRY: Final = _BY_TYPE[Carry][0]
_SAID_HEAD: Final = _BY_TYPE[Said][1].size
_ROUTE: Final = struct.Struct("<qq")


def encode(message: ClusterMessage) -> bytes:
    """Return ``message`` as bytes."""
    return codec.encode(message, _BY_TYPE)


def decode(data: bytes) -> ClusterMessage:
    """Return the message in ``data``.

    Raises
    ------
    ProtocolError
        When it is not exactly one message between the processes of a cluster.
    """
    message: Any = codec.decode(data, _BY_NUMBER)
    return cast("ClusterMessage", message)


def route_of(data: bytes) -> tuple[int, int] | None:
    """Return session and node of what is passed on between these two, without reading the rest; else ``None``."""
    if not data or data[0] not in _PASSED_ON or len(data) < 1 + _ROUTE.size:
        return None
    session, node = _ROUTE.unpack_from(data, 1)
    return session, node


def kind_said(data: bytes) -> type[Any] | None:
    """Return what kind of message is in a Said, without reading it; ``None`` when it is none, or of no known kind."""
    if data[0] != SAID or len(data) <= _SAID_HEAD or data[_SAID_HEAD] >= len(_BY_NUMBER):
        return None
    return _BY_NUMBER[data[_SAID_HEAD]][0]


def _object_counts() -> dict[int, int]:
    """Return, by the number of each kind of message that may describe objects, where in it their count is."""
    places = {}
    for number, (kind, _, _) in enumerate(codec.BY_NUMBER):
        at = 1
        for name, annotation in kind.__annotations__.items():
            if name == "objects" and kind not in (m.Release, m.Free, m.Discard):
                places[number] = at
                break
            at += 8 if annotation == "int" else 4
    return places


_OBJECT_COUNTS: Final = _object_counts()
_COUNT: Final = struct.Struct("<I")


def carries_objects(data: bytes) -> bool:
    """Whether a message to or from a worker describes objects: read from its head alone."""
    at = _OBJECT_COUNTS.get(data[0]) if data else None
    return at is not None and len(data) >= at + _COUNT.size and _COUNT.unpack_from(data, at)[0] > 0
