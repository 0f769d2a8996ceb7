"""All conversations of a session with its parts on hosts, and how they are taken up with a head that knows of none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scalepool._runtime.talks import Talk
from scalepool._runtime.worker_orders import WorkerOrders
from scalepool._wire import cluster as c
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from scalepool._runtime.lasting import LastingLink

__all__ = ["DriverTalks"]

_REST_S: Final = 1.0
_MOST_KEPT_BYTES: Final = 1 << 30
"""What tasks bring is bounded by credit, far below; a driver that has more to say to a host gives up."""


class DriverTalks:
    """The driver's side.

    Parameters
    ----------
    link
        To the head.
    session
        The number that the head has given.
    opened
        What the session was opened with.
    homes
        The node that each worker is on; kept by others.

    Attributes
    ----------
    orders
        What was ordered of workers.
    trouble
        Why no more can be said; empty: it can.
    """

    __slots__ = ("_homes", "_link", "_opened", "_rest_at", "_session", "_talks", "orders", "trouble")

    def __init__(self, link: LastingLink, session: int, opened: c.Open, homes: dict[int, int]) -> None:
        self._link = link
        self._session = session
        self._opened = opened
        self._homes = homes
        self._talks: dict[int, Talk] = {}
        self._rest_at = 0.0
        self.orders = WorkerOrders()
        self.trouble = ""
        link.on_cut = self._cut
        link.on_back = self._back

    def tell(self, node: int, message: c.ClusterMessage) -> bool:
        """Say something to the part on a node; False when there is none (any more)."""
        talk = self._talks.get(node)
        if talk is None:
            return False
        talk.say(message)
        self._look_at(talk)
        return True

    def carry(self, node: int, worker: int, data: bytes) -> None:
        """Say something to a worker; nobody hears it where there is no part on that node (any more)."""
        talk = self._talks.get(node)
        if talk is not None:
            talk.carry(worker, data)
            self._look_at(talk)

    def _look_at(self, talk: Talk) -> None:
        if talk.conversation.kept_bytes > _MOST_KEPT_BYTES:
            self.trouble = f"more than {_MOST_KEPT_BYTES >> 20} MiB wait for a host that does not hear them"

    def begin(self, node: int) -> None:
        """There will be workers on a node."""
        if node not in self._talks:
            self._talks[node] = Talk(self._session, node, self._link.send)

    def end(self, node: int) -> None:
        """A node is lost."""
        self._talks.pop(node, None)

    def leave(self, node: int) -> None:
        """There is nothing left on a node, and it need not know of the session any more."""
        self.end(node)
        self._drop(node)

    def tell_head(self, message: c.ClusterMessage) -> None:
        """Say something to the head itself."""
        self._link.send(c.encode(message))

    def hear(self, said: c.Said) -> c.ClusterMessage | None:
        """Return what is said, if it is to be taken in."""
        talk = self._talks.get(said.node)
        data = None if talk is None else talk.hear(said)
        return None if data is None else c.decode(data)

    def takes(self, node: int, number: int, heard: int, size_bytes: int) -> bool:
        """Return whether what was said on a node is to be taken in; see `Talk.takes`."""
        talk = self._talks.get(node)
        return talk is not None and talk.takes(number, heard, size_bytes)

    def known(self, heard: c.Heard) -> None:
        """So much was heard there."""
        if heard.node in self._talks:
            self._talks[heard.node].conversation.known(heard.heard)

    def rest(self, now: float) -> None:
        """Say what was heard where nothing else was to be said; call it often."""
        if now >= self._rest_at:
            self._rest_at = now + _REST_S
            for talk in self._talks.values():
                talk.rest()

    def renew(self, renew: c.Renew) -> None:
        """The way to a node is a new one."""
        talk = self._talks.get(renew.node)
        if talk is not None:
            talk.renew()
        else:
            self._drop(renew.node)

    def resume(self, resume: c.Resume) -> bool:
        """Say again what was not heard there; False when nobody there knows of anything, so that all of it is lost."""
        talk = self._talks.get(resume.node)
        try:
            if talk is not None:
                talk.resume(resume.heard)
        except ProtocolError:
            self._drop(resume.node)
            return False
        return True

    def over(self, message: c.End | c.Down) -> None:
        """The head says that it is over."""
        self.trouble = "the cluster was ended" if type(message) is c.Down else "the head has given up the session"

    def _drop(self, node: int) -> None:
        self._link.send(c.encode(c.Drop(self._session, node)))

    def _cut(self) -> None:
        for talk in self._talks.values():
            talk.conversation.cut()

    def _back(self) -> None:
        workers = [number for pair in self._homes.items() for number in pair]
        placed, waiting = self.orders.of(self._homes)
        reopen = c.Reopen(self._session, *self._opened, list(self._talks), workers, placed)
        for data in (c.encode(reopen), *waiting):
            self._link.send(data)
