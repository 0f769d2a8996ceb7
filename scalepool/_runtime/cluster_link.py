"""A driver's link to the head, as the channel of its hub: behind it are all workers, on whatever host."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from scalepool._runtime.node_session import read_part
from scalepool._wire import cluster as c
from scalepool._wire.codec import decode
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._net.curve import Peer
    from scalepool._runtime.direct import DriverDirect
    from scalepool._runtime.porter import Porter

__all__ = ["ClusterLink", "route_to"]


def route_to(worker: int) -> bytes:
    """Return the routing id of a worker."""
    return worker.to_bytes(8, "little")


class ClusterLink:
    """See `scalepool._net.channel.HubChannel`.

    Parameters
    ----------
    peer
        The link.
    session
        The number that the head has given.

    Attributes
    ----------
    session
        As given.
    homes
        The node that each worker is on.
    porter
        Brings the objects that workers made.
    find
        Returns a new descriptor of an object of this session, or ``None``.
    happened
        Called with what agents and head report.
    direct
        Sees to it that large data need not take this link.
    """

    def __init__(self, peer: Peer, session: int) -> None:
        self._peer = peer
        self.session = session
        self.homes: dict[int, int] = {}
        self.porter: Porter
        self.find: Callable[[int], int | None]
        self.happened: Callable[[c.ClusterMessage], object]
        self.direct: DriverDirect
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._copies: dict[int, set[int]] = {}
        """By object: the nodes that have it."""

    @property
    def closed(self) -> bool:
        """Whether the channel was closed."""
        return self._peer.closed

    @property
    def lost(self) -> bool:
        """Whether the head is gone, or another one."""
        return not self._peer.connected or self._peer.links != 1

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until a message is there, ``wake`` is called, or time is up; return whether something may be there."""
        return bool(self._ready) or self._peer.poll(timeout_s) or self.lost

    def wake(self) -> None:
        """Make a running or the next ``poll`` return; from any thread."""
        self._peer.wake()

    def receive_into(self, take: Callable[[bytes, bytes], None]) -> bool:
        """Hand (routing id, message) of a worker to ``take`` if one is there; return whether one was."""
        ready = self._ready
        while not ready:
            if not self._peer.receive_into(self._sort):
                return False
        take(*ready.popleft())
        return True

    def send(self, routing: bytes, data: bytes) -> bool:
        """Send to one worker. True says nothing about its arrival."""
        self.tell(c.Carry(self.session, int.from_bytes(routing, "little"), data))
        return True

    def tell(self, message: c.ClusterMessage) -> None:
        """Send to the head; nothing when the link is lost or closed, which is known by then."""
        if not self._peer.closed:
            self._peer.send(c.encode(message))

    def ask(self, node: int, object_id: int, offset: int, size: int) -> None:
        """Have a part of an object sent."""
        self.tell(c.Fetch(self.session, node, object_id, offset, size))

    def forget(self, objects: Sequence[int]) -> None:
        """Nobody needs these objects any more, on whatever node they are."""
        self.direct.forget(objects)
        by_node: dict[int, list[int]] = {}
        for object_id in objects:
            for node in self._copies.pop(object_id, ()):
                by_node.setdefault(node, []).append(object_id)
        for node, theirs in by_node.items():
            self.tell(c.Forget(self.session, node, theirs))

    def close(self) -> None:
        """Close it; what was not delivered within two seconds is dropped."""
        self.direct.close()
        self.porter.close()
        self._peer.flush_and_close()

    # ---- in ----

    def _sort(self, data: bytes) -> None:
        message = c.decode(data)
        if type(message) is c.Carry:
            self._carried(message)
        elif type(message) is c.Fetch:
            self._copies.setdefault(message.object, set()).add(message.node)
            part = read_part(self.find(message.object), message.offset, message.size)
            self.tell(c.Chunk(self.session, message.node, message.object, message.offset, part))
        elif type(message) is c.Chunk:
            self.porter.chunk(message.object, message.offset, message.data)
        elif type(message) is c.Ended:
            # After all that the worker said, some of which may wait for objects.
            self._note_copies(message.objects, node := self.homes.get(message.worker, 0))
            self.porter.pass_on(message.worker, node, message.objects, partial(self.happened, message))
        else:
            if type(message) is c.NodeLost:
                self.porter.lose_source(message.node)
            elif type(message) is c.Where:
                self._copies.setdefault(message.object, set()).add(message.node)
            if not self.direct.hear(message):
                self.happened(message)

    def _note_copies(self, columns: Sequence[int], node: int) -> None:
        for object_id in columns[::4]:
            if object_id:
                self._copies.setdefault(object_id, set()).add(node)

    def _carried(self, carry: c.Carry) -> None:
        columns: Sequence[int] = ()
        node = self.homes.get(carry.worker, 0)
        if c.carries_objects(carry.data):
            try:
                message: Any = decode(carry.data)
                columns = message.objects
                if len(columns) % 4:
                    raise ProtocolError("no columns of four")
            except ProtocolError:
                columns = ()  # whoever takes the message in says so
            self._note_copies(columns, node)
        self.porter.pass_on(
            carry.worker, node, columns, lambda: self._ready.append((route_to(carry.worker), carry.data))
        )
