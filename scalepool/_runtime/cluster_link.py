"""A driver's link to the head, as the channel of its hub: behind it are all workers, on whatever host."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from scalepool._runtime.driver_talks import DriverTalks
from scalepool._runtime.node_session import read_part
from scalepool._wire import cluster as c
from scalepool._wire.carrying import unpack_carry
from scalepool._wire.codec import decode
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.direct import DriverDirect
    from scalepool._runtime.lasting import LastingLink
    from scalepool._runtime.porter import Porter

__all__ = ["ClusterLink", "route_to"]


def route_to(worker: int) -> bytes:
    """Return the routing id of a worker."""
    return worker.to_bytes(8, "little")


class ClusterLink:
    """See `scalepool._net.channel.HubChannel`.

    Parameters
    ----------
    link
        To the head.
    session
        The number that the head has given.
    opened
        What the session was opened with.

    Attributes
    ----------
    session
        As given.
    talks
        With the parts of the session on its hosts.
    homes
        The node that each worker is on.
    copies
        By object: the nodes that have it, or have asked for it.
    porter
        Brings the objects that workers made.
    find
        Returns a new descriptor of an object of this session, or ``None``.
    happened
        Called with what agents and head report.
    direct
        Sees to it that large data need not take this link.
    """

    def __init__(self, link: LastingLink, session: int, opened: c.Open) -> None:
        self._link = link
        self._peer = link.peer
        self.session = session
        self.homes: dict[int, int] = {}
        self.porter: Porter
        self.find: Callable[[int], int | None]
        self.happened: Callable[[c.ClusterMessage], object]
        self.direct: DriverDirect
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._missing: deque[tuple[int, int]] = deque()
        """Parts of objects that were asked for and cannot be had."""
        self.talks = DriverTalks(link, session, opened, self.homes)
        self.copies: dict[int, set[int]] = {}
        self._from_head: dict[type, Callable[[Any], object]] = {
            c.Heard: self.talks.known,
            c.Resume: self._resume,
            c.Renew: self.talks.renew,
            c.Placed: self._placed,
            c.Refused: self._refused,
            c.NodeLost: self._lose,
            c.End: self.talks.over,
            c.Down: self.talks.over,
        }

    @property
    def closed(self) -> bool:
        """Whether the channel was closed."""
        return self._peer.closed

    @property
    def trouble(self) -> str:
        """Why nothing comes any more; empty: it does."""
        return self.talks.trouble or self._link.trouble

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether something may be there."""
        if self._ready or self._missing:
            return True
        arrived = self._peer.poll(timeout_s)
        self._link.look()
        return arrived or bool(self.trouble)

    def wake(self) -> None:
        """Make a running or the next ``poll`` return; from any thread."""
        self._peer.wake()

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) of a worker to ``take`` if one is there; return whether one was."""
        ready = self._ready
        while self._missing:
            self.porter.chunk(*self._missing.popleft(), b"")
        while not ready:
            if not self._peer.receive_into(self._sort):
                return False
        take(*ready.popleft())
        return True

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one worker. True says nothing about its arrival."""
        worker = int.from_bytes(routing, "little")
        if not self._peer.closed:
            self.talks.carry(self.homes.get(worker, 0), worker, data)
        return True

    def order(self, message: c.Launch | c.Kill | c.Look | c.Withdraw | c.End) -> None:
        """Have the head choose where a worker is started, or the agent of its host do something about it."""
        if isinstance(message, c.End):
            self._link.send(c.encode(message))
        elif isinstance(message, c.Launch):
            self._link.send(self.talks.orders.wait(message))
        elif not self.talks.orders.follow(message):
            self.tell(self.homes.get(message.worker, 0), message)

    def tell(self, node: int, message: c.ClusterMessage) -> bool:
        """Say something to this session's part on a node; False when it has none there (any more)."""
        return not self._peer.closed and self.talks.tell(node, message)

    def ask(self, node: int, object_id: int, offset: int, size: int) -> None:
        """Have a part of an object sent."""
        if not self.tell(node, c.Fetch(self.session, node, object_id, offset, size)):
            self._missing.append((object_id, offset))

    def forget(self, objects: Sequence[int]) -> None:
        """Nobody needs these objects any more, on whatever node they are."""
        self.direct.forget(objects)
        by_node: dict[int, list[int]] = {}
        for object_id in objects:
            for node in self.copies.pop(object_id, ()):
                by_node.setdefault(node, []).append(object_id)
        for node, theirs in by_node.items():
            self.tell(node, c.Forget(self.session, node, theirs))

    def close(self) -> None:
        """Close it; what was not delivered within two seconds is dropped."""
        self.direct.close()
        self.porter.close()
        self._peer.flush_and_close()

    # ---- in ----

    def _sort(self, data: bytes) -> None:
        if not self._link.take(data):
            return
        carried = unpack_carry(data)
        if carried is not None:
            _, node, number, heard, worker, inner = carried
            if self.talks.takes(node, number, heard, len(inner)) and self.homes.get(worker) == node:
                self._carried(node, worker, inner)
            return
        message = c.decode(data)
        if type(message) is c.Said:
            said = self.talks.hear(message)
            if said is not None:
                self._heard(message.node, said)
        elif (handler := self._from_head.get(type(message))) is not None:
            handler(message)
        else:
            self.happened(message)

    def _placed(self, placed: c.Placed) -> None:
        orders = self.talks.orders.placed(placed.worker)
        if orders:  # else it was said before
            self.homes[placed.worker] = placed.node
            self.talks.begin(placed.node)
            self.direct.hear(placed)
            for order in orders:
                self.tell(placed.node, order)
            self.happened(placed)

    def _refused(self, refused: c.Refused) -> None:
        self.talks.orders.placed(refused.worker)
        self.happened(refused)

    def _resume(self, resume: c.Resume) -> None:
        if not self.talks.resume(resume):
            self._lose(c.NodeLost(resume.node, b"its agent came back without what it had of this session"))

    def _lose(self, lost: c.NodeLost) -> None:
        self.talks.end(lost.node)
        for nodes in self.copies.values():
            nodes.discard(lost.node)
        self.porter.lose_source(lost.node)
        self.direct.hear(lost)
        self.happened(lost)

    def _heard(self, node: int, message: c.ClusterMessage) -> None:
        """Take in what was said by this session's part on a node."""
        worker = getattr(message, "worker", None)
        if worker is not None and self.homes.get(worker) != node:
            return  # it is no longer there
        if type(message) is c.Fetch:
            self.copies.setdefault(message.object, set()).add(node)
            part = read_part(self.find(message.object), message.offset, message.size)
            self.tell(node, c.Chunk(self.session, node, message.object, message.offset, part))
        elif type(message) is c.Chunk:
            self.porter.chunk(message.object, message.offset, message.data)
        elif type(message) is c.Ended:
            # After all that the worker said, some of which may wait for objects.
            self._note_copies(message.objects, node)
            self.porter.pass_on(message.worker, node, message.objects, partial(self.happened, message))
        else:
            if type(message) is c.Refused:
                del self.homes[message.worker]
            elif type(message) is c.Where:
                self.copies.setdefault(message.object, set()).add(node)
            if not self.direct.hear(message):
                self.happened(message)

    def _note_copies(self, columns: Sequence[int], node: int) -> None:
        for object_id in columns[::4]:
            if object_id:
                self.copies.setdefault(object_id, set()).add(node)

    def _carried(self, node: int, worker: int, data: bytes) -> None:
        columns: Sequence[int] = ()
        if c.carries_objects(data):
            try:
                message: Any = decode(data)
                columns = message.objects
                if len(columns) % 4:
                    raise ProtocolError("no columns of four")
            except ProtocolError:
                columns = ()  # whoever takes the message in says so
            self._note_copies(columns, node)
        elif not self.porter.waits(worker):
            self._ready.append((route_to(worker), data))
            return
        self.porter.pass_on(worker, node, columns, lambda: self._ready.append((route_to(worker), data)))
