"""A driver's session whose workers are on the hosts of a cluster.

Hub and client are in the driver's process, as they are without a cluster. What differs is where messages go, a link to
the head in place of a Unix socket, and who starts processes, the agents of the hosts. So whatever works locally works
here, and it is the same code.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.events import (
    Inspected,
    LaunchFailed,
    WorkerExited,
    WorkerPlaced,
    WorkerStarted,
)
from scalepool._net.keys import DRIVER, key_file, read_keys
from scalepool._runtime.cluster_link import ClusterLink
from scalepool._runtime.direct import BulkSite, DriverDirect
from scalepool._runtime.driver import HubSession
from scalepool._runtime.joining import introduction, join
from scalepool._runtime.keeping import ObjectKeeper
from scalepool._runtime.lasting import LastingLink
from scalepool._runtime.local import LocalStation, remember_exit
from scalepool._runtime.notes import Notes
from scalepool._runtime.output import show
from scalepool._runtime.porter import Porter
from scalepool._runtime.session_dir import folder_root
from scalepool._runtime.storage import plan_of
from scalepool._runtime.tenant import Tenant, event_of
from scalepool._wire import cluster as c
from scalepool._wire import messages as m
from scalepool._wire.records import object_count, unpack_result
from scalepool.config import Settings, settings
from scalepool.engines.cluster import ClusterEngine
from scalepool.errors import ProtocolError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalepool._core.commands import Inspect
    from scalepool._core.events import Event
    from scalepool._core.hub import Hub
    from scalepool._net.curve import Peer
    from scalepool._runtime.client import Client
    from scalepool._runtime.storage import Storage
    from scalepool._runtime.travel.library import CodeLibrary
    from scalepool._runtime.travel.record import CodeRecord

__all__ = ["ClusterSession", "ClusterStation"]

_OF_HOSTS: Final = ("num_cpus", "num_gpus", "resources", "memory", "labels")
"""What hosts have is said where they join."""
_JOIN_S: Final = 10.0
_IDLE_LOOK_S: Final = 1.0
"""How often an idle driver looks at its link."""
_LOST: Final = -1
"""As ``first`` of an Ended: the host is lost, and nobody knows what its workers had done."""


class _ClusterKeeper(ObjectKeeper):
    """Keeps what was brought here; see `ObjectKeeper`."""

    __slots__ = ("link",)

    def __init__(self, storage: Storage, link: ClusterLink, on_written: Callable[[], None]) -> None:
        super().__init__(storage, on_written)
        self.link = link

    def adopt(self, columns: m.Ints) -> list[int]:
        """Return where the objects are that a worker describes: they were brought here before, or cannot be had."""
        if len(columns) % 4:
            raise ProtocolError(f"{len(columns)} numbers are no columns of four")
        places: list[int] = []
        for object_id in columns[::4]:
            ref = self.segments.held(object_id)
            places.extend((0, 0, 0, 0) if ref is None else ref)
            if ref is not None:
                self.note_place(ref)
        return places

    def drop(self, objects: Sequence[int]) -> None:
        """Nobody needs these any more, on any host."""
        super().drop(objects)
        self.link.forget(objects)


class ClusterStation(LocalStation):
    """Drives the hub of a session on a cluster.

    Parameters
    ----------
    hub, client, token
        As of a `LocalStation`.
    link
        The hub's channel.
    engine
        Who orders workers.
    address
        The head's.
    """

    def __init__(
        self, hub: Hub, link: ClusterLink, client: Client, token: bytes, engine: ClusterEngine, address: str
    ) -> None:
        super().__init__(hub, link, client, token)
        self._link = link
        self._address = address
        self._looked_at = monotonic_s()
        self._library: CodeLibrary | CodeRecord | None = None
        self.code_limit_bytes = Settings().code_limit_bytes
        self.nodes = engine
        self.engine = engine  # type: ignore[assignment]  # of which is asked what both sorts can do
        self.overview.hosts = self._pids_by_host
        self.tenant = Tenant(hub, link, engine)
        self._keeper.close()
        self._keeper = keeper = _ClusterKeeper(client.storage, link, lambda: client.pump.kick(now=False))
        store, notes = client.store, Notes()

        def find(object_id: int) -> int | None:
            found = store.find(object_id)
            return keeper.segments.find(object_id) if found is None else found

        link.find = find
        link.happened = self.happened
        link.porter = Porter(
            keeper.segments, lambda object_id: False, client.storage, link.ask,
            lambda text: notes.show(text, monotonic_s()),
        )  # fmt: skip

    # ---- what the pump asks ----

    def work(self, *, arrived: bool) -> None:
        """As the base class; when the link is lost, everything that is open ends with that."""
        self._looked_at = monotonic_s()
        if self._link.direct.done:
            self._link.direct.step()
        super().work(arrived=arrived)
        answers = () if self._library is None else self._library.answers
        while answers:
            (node, request), answer = answers.popleft()
            self._link.tell(node, c.Sought(self._link.session, node, request, answer))
        self.tenant.look(self._looked_at)
        self._link.talks.rest(self._looked_at)
        trouble = self._link.trouble
        if trouble and not self._client.closed:
            self._client.close(
                SessionError(
                    f"the link to the head at {self._address} was lost: {trouble}. What was under way is lost; call "
                    "scalepool.shutdown(), and the next use connects again"
                )
            )

    def pending(self) -> bool:
        """As the base class; or something large has come."""
        return bool(self._link.direct.done) or super().pending()

    def busy(self) -> bool:
        """Whether answers are outstanding."""
        return not self._client.closed and (super().busy() or bool(self._library and self._library.answers))

    def alarm_at(self) -> float | None:
        """As the base class; and an idle driver looks at its link from time to time, or what comes would pile up."""
        alarm, look_at = super().alarm_at(), self._looked_at + _IDLE_LOOK_S
        return look_at if alarm is None else min(alarm, look_at)

    # ---- what agents and head report ----

    def happened(self, message: c.ClusterMessage) -> None:
        """Take in what is no message of a worker; called where messages are received."""
        if (event := event_of(message)) is not None:
            self.events.append(event)
        elif type(message) is c.Launched:
            self.events.append(WorkerStarted(message.worker, message.pid))
        elif type(message) is c.Refused:
            reason = message.reason.decode("utf-8", "replace")
            self.events.append(LaunchFailed(message.worker, reason, bool(message.moot)))
            self.nodes.bury(message.worker)
        elif type(message) is c.Looked:
            self.events.append(self._looked(message))
        elif type(message) is c.Ended:
            self._exits.append(message)
        elif type(message) is c.Seek:
            self._hand_out(message)
        elif type(message) is c.Placed:
            self.events.append(WorkerPlaced(message.worker, message.node))
        elif type(message) is c.Nodes:
            self.nodes.take_nodes(message)
            self.events.append(self.nodes.facts())
        elif type(message) is c.NodeLost:
            for worker in self.nodes.on_node(message.node):
                self._exits.append(c.Ended(0, worker, c.NO_EXITCODE, (), (), _LOST, (), message.reason))

    def _hand_out(self, seek: c.Seek) -> None:
        if self._library is None:
            from scalepool._runtime.travel.library import CodeLibrary

            notes = Notes()
            self._library = CodeLibrary(
                self.code_limit_bytes, lambda text: notes.show(text, monotonic_s()), self.answer_soon
            )
        self._library.ask((seek.node, seek.request), seek.question)

    def serve_code(self, library: CodeLibrary | CodeRecord) -> None:
        """Have the questions of hosts about code answered by this, not out of the program's own modules."""
        self._library = library

    def find_object(self, object_id: int) -> int | None:
        """Return a new descriptor of an object of the session, whoever made it; ``None``: it is gone."""
        return self._link.find(object_id)

    def answer_soon(self) -> None:
        """An answer about code is ready; from any thread."""
        self._link.wake()  # who pumps may be on the way to its next wait
        self._client.pump.kick(now=False)

    def close(self) -> None:
        """As the base class; and hand out no more code."""
        if self._library is not None:
            self._library.close()
        super().close()

    def _looked(self, message: c.Looked) -> Inspected:
        worker = message.worker
        skipped = max(0, self._hub.received_from(worker) - message.first)
        records = tuple(message.records[skipped:])
        return Inspected(
            worker, tuple(message.running), tuple(message.items), message.revocation, records, bool(message.stopped)
        )

    def _exited(self, ended: c.Ended) -> None:  # type: ignore[override]  # what agents report, in place of a process
        worker = ended.worker
        if worker not in self.nodes.homes:
            return
        exitcode = None if ended.exitcode == c.NO_EXITCODE else ended.exitcode
        if ended.first == _LOST:
            begun = self._hub.may_have_begun(worker)
            why = ended.report.decode("utf-8", "replace")
            reason = f"its host left the cluster: {why}; nobody can say how far it had come"
            self._handle(WorkerExited(worker, None, begun, reason=reason, is_moot=True))
        else:
            skipped = max(0, self._hub.received_from(worker) - ended.first)
            known = 4 * sum(_objects_of(record) for record in ended.records[:skipped])
            self._handle(
                WorkerExited(
                    worker, exitcode, tuple(ended.running), tuple(ended.records[skipped:]), tuple(ended.items),
                    ended.report, self._keeper.adopt(ended.objects[known:]), self.tenant.reason_of(worker),
                )
            )  # fmt: skip
        self.engine.bury(worker)
        remember_exit(self.exitcodes, worker, exitcode)

    def _pids_by_host(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for worker, number in list(self.nodes.homes.items()):
            node = self.nodes.nodes.get(number)
            found.setdefault(str(number) if node is None else node.host, []).append(self._hub.pid_of(worker))
        return found

    def _look_into(self, command: Inspect) -> list[Event]:
        self.nodes.look(command.worker, command.revocation)
        return []  # the answer comes as Looked


def _objects_of(record: bytes) -> int:
    try:
        return object_count(unpack_result(record))
    except ProtocolError:
        return 0


class ClusterSession(HubSession):
    """Hub and client here, workers on the hosts of a cluster.

    Parameters
    ----------
    address
        ``tcp://host:port`` of the head.
    arguments
        The session's settings, as far as they are given.

    Raises
    ------
    AuthenticationError, KeyFileError
        When there are no keys, or the head does not let us in.
    SessionError
        When nobody answers, versions differ, or the cluster has no hosts.
    """

    def __init__(self, address: str, arguments: Mapping[str, object]) -> None:
        given = [name for name in _OF_HOSTS if arguments.get(name) is not None]
        if given:
            raise SessionError(
                f"{given[0]}= is for a session of this host; what the hosts of a cluster have is said where they join: "
                "scalepool worker --help"
            )
        own = settings(arguments)
        keys = read_keys(key_file())
        self.address = address
        self.number = 0
        """What the head calls it."""
        peer: Peer | None = None
        try:
            peer = join(address, keys, DRIVER, timeout_s=_JOIN_S)
            site = BulkSite(keys, DRIVER, address, lambda text: show(2, f"scalepool: {text}\n"))
            self._assemble(
                site,
                LastingLink(peer, introduction(keys.cluster), own.reconnect_s),
                own._replace(num_gpus=0, num_cpus=None, labels="", resources=""),
            )
        except BaseException:
            if peer is not None:
                peer.flush_and_close()
            raise
        self.closed = False

    def _assemble(self, site: BulkSite, lasting: LastingLink, own: Any) -> None:
        address, peer = self.address, lasting.peer
        token = os.urandom(16)
        opened = c.Open(json.dumps(list(own)).encode(), token)
        peer.send(c.encode(opened))
        number, nodes = _opened(peer, address, own.start_timeout_s)
        # No directory: nobody else on this host has a part in the session, and so nothing is left should we be killed.
        alone = own._replace(spill_dir=own.spill_dir or folder_root(), store_access="auto")
        plan = plan_of(alone, "", os.getpid())
        link = ClusterLink(lasting, number, opened)
        engine = ClusterEngine(number, link.order, link.homes)
        engine.take_nodes(nodes)
        self.settings = own = own._replace(num_cpus=engine.slots, memory=engine.memory_bytes)
        self._nodes = engine
        self._decide(token, plan, link.copies)
        station = ClusterStation(self.hub, link, self.client, token, engine, address)
        station.code_limit_bytes = own.code_limit_bytes
        self.number = number
        link.direct = self._direct = DriverDirect(
            site, link.porter, link.find, lambda: self.client.pump.kick(now=False),
            lambda message: link.tell(message.node, message), number,  # type: ignore[union-attr]  # all of these have one
        )  # fmt: skip
        self.hub.handle(engine.facts(), monotonic_s())
        self._drive(station)
        self.engine = engine  # type: ignore[assignment]  # as in the station
        self.client.peek = self.hub.is_assigned
        self.client.pump.arm()  # from now on somebody looks at the link

    def forked(self) -> None:
        """As the base class; what large data is exchanged over is the parent's, too."""
        self._direct.forked()
        super().forked()

    @property
    def cpus(self) -> int:  # type: ignore[override]
        """Slots of all hosts that there are now."""
        return max(1, self._nodes.slots)


def _opened(peer: Peer, address: str, timeout_s: float) -> tuple[int, c.Nodes]:
    """Wait for the number of the session, and for a host."""
    found: dict[type, Any] = {}

    def take(data: bytes) -> None:
        message = c.decode(data)
        found[type(message)] = message

    deadline = monotonic_s() + timeout_s
    while c.Opened not in found or c.Nodes not in found or not found[c.Nodes].nodes:
        left_s = deadline - monotonic_s()
        if left_s <= 0 or not peer.connected:
            if c.Opened not in found:
                raise SessionError(f"the head at {address} does not answer")
            raise SessionError(
                f"the cluster at {address} has no hosts, after {timeout_s:g} seconds: start some with "
                f"'scalepool worker {address}'"
            )
        if peer.poll(min(left_s, 1.0)):
            peer.receive_into(take)
    return found[c.Opened].session, found[c.Nodes]
