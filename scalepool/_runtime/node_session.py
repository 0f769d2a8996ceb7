"""One session's part on one host: the workers that it has there, and the objects that they read.

Workers talk to their agent over a Unix socket, as they would to a driver on their own host, and know nothing of a
network. What they say goes on to their hub as it is, but that objects, which it describes by process and descriptor,
are brought to the host of whoever reads them: by the agent for its workers, by the driver for the hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.transfer import CHUNK_BYTES
from scalepool._net.channel import open_hub_channel
from scalepool._proc.context import ProcessContext
from scalepool._proc.death import Event as ProcessEvent
from scalepool._proc.death import Exited, ForkFailed, Started
from scalepool._proc.spawn import Zygote, ZygoteOptions
from scalepool._runtime.direct import NodeDirect
from scalepool._runtime.keeping import ObjectKeeper
from scalepool._runtime.lastwords import last_output, report_of
from scalepool._runtime.links import PeerLinks
from scalepool._runtime.porter import Porter
from scalepool._runtime.session_dir import SessionDir
from scalepool._runtime.session_part import SessionPart
from scalepool._runtime.spec import WorkerSpec
from scalepool._runtime.storage import Storage, plan_of
from scalepool._runtime.travel.shelf import CodeShelf
from scalepool._store.flight import unsent
from scalepool._wire import cluster as c
from scalepool._wire import messages as m
from scalepool._wire.codec import MAX_MESSAGE_BYTES, decode, encode
from scalepool._wire.records import split_noted
from scalepool.config import Settings
from scalepool.engines.local import LocalEngine
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.direct import BulkSite

__all__ = ["NodeSession", "read_part"]

_AT_ONCE: Final = 256
"""Messages of workers that are passed on before the head is listened to again."""
_REST_S: Final = 1.0
_QUESTION_BYTES: Final = 1 << 16


def read_part(fd: int | None, offset: int, size_bytes: int) -> bytes:
    """Return a part of an object, and close its descriptor; empty when it is not there."""
    if fd is None or size_bytes > CHUNK_BYTES or offset < 0:
        return b""
    try:
        data = os.pread(fd, size_bytes, offset)
    except OSError:
        data = b""
    finally:
        os.close(fd)
    return data if len(data) == size_bytes else b""


class NodeSession(SessionPart):
    """Workers of one session on this host.

    Parameters
    ----------
    begin
        What the head says of the session.
    send
        Sends to the head.
    tell
        Called with what a person may want to know.
    site
        This host's place for exchanging large data with others.

    Raises
    ------
    ScalepoolError, OSError, ValueError, TypeError
        When it cannot be begun.
    """

    def __init__(
        self, begin: c.Begin, send: Callable[[bytes], object], tell: Callable[[str], object], site: BulkSite
    ) -> None:
        super().__init__(begin, send)
        self._tell = tell
        settings = _for_this_host(begin.settings)
        self._patience_s = settings.reconnect_s
        self._is_shown = settings.worker_output != "off"
        self._events: deque[ProcessEvent] = deque()
        self._rested_at = monotonic_s()
        with contextlib.ExitStack() as undo:
            zygote = Zygote(ZygoteOptions())
            undo.callback(zygote.close)
            self._dir = SessionDir(zygote.announce)
            undo.callback(self._dir.remove)
            address = f"unix://{self._dir.path}/hub"
            self._channel: Any = open_hub_channel(address, max_message_bytes=MAX_MESSAGE_BYTES)
            undo.callback(self._channel.close)
            code = f"unix://{self._dir.path}/code-asked"
            self._counter: Any = open_hub_channel(code, max_message_bytes=_QUESTION_BYTES)
            undo.callback(self._counter.close)
            self._links = PeerLinks(self._channel, begin.token)
            plan = plan_of(settings, self._dir.path, zygote.pid)
            self._storage = Storage(m.DRIVER, settings, plan)  # an agent is to its workers what their driver would be
            undo.callback(self._storage.close)
            self._engine = LocalEngine(plan, address, begin.token.hex(), settings, self._happened, zygote)
            self._engine.code = code
            undo.pop_all()
        # What a driver's station keeps of its workers, an agent does.
        self._keeper = ObjectKeeper(self._storage, self._channel.wake)
        self._kept = self._keeper.segments
        self._porter = Porter(self._kept, lambda object_id: False, self._storage, self._ask, tell)
        self._direct = NodeDirect(
            site, self._porter, self._kept.find, self._channel.wake, self._send, (begin.session, begin.node)
        )

        self._shelf = CodeShelf(
            f"{self._dir.path}/code",
            lambda request, question: self._send(c.Seek(self.number, self._node, request, question)),
        )

    def lend(self, gpus: Sequence[str]) -> None:
        """Let workers have these GPUs of the host, as CUDA is told of them."""
        self._engine.gpus = gpus

    @property
    def worker_count(self) -> int:
        """How many there are here."""
        return self._engine.count

    def filenos(self) -> list[int]:
        """Return descriptors that are readable when there is something to do."""
        return [self._channel.fileno(), self._counter.fileno()]

    # ---- from the workers ----

    def work(self) -> None:
        """Pass on what workers say, and tell what became of processes; never wait."""
        for _ in range(_AT_ONCE):
            # What the driver does not hear, as the link is cut, waits with the workers when it has become much.
            if self._conversation.is_full or not self._channel.receive_into(self._from_worker):
                break
        if self._direct.done:
            self._direct.step()
        if self._events:
            # What a dead worker had sent comes before the news of its death.
            while self._channel.receive_into(self._from_worker):
                pass
            while self._events:
                self._tell_of(self._events.popleft())
        while self._counter.receive_into(self._asked_for_code):
            pass
        if self._keeper.waiting:
            self._keeper.written()  # which is nobody's business but ours
        if monotonic_s() >= self._rested_at + _REST_S:
            self._rested_at = monotonic_s()
            self._talk.rest()
            self._storage.rest(self._rested_at)
            self._shelf.look(self._rested_at)

    def _from_worker(self, routing: bytes, data: bytes) -> None:
        worker = self._links.find(routing)
        try:
            if worker is None:
                worker = self._links.peer_of(routing, decode(data))
            if c.carries_objects(data):
                # They may die before somebody else has them.
                self._keeper.adopt(decode(data).objects)  # type: ignore[union-attr]  # those that carry objects have these
        except ProtocolError as error:
            self._tell(f"dropped a message of a worker: {error}")
            if worker is not None:
                self._engine.kill(worker, force=True)
            return
        self._talk.carry(worker, data)

    def _asked_for_code(self, routing: bytes, data: bytes) -> None:
        try:
            self._shelf.seek(data, lambda answer: self._counter.send(routing, answer), monotonic_s())
        except ProtocolError as error:
            self._tell(f"dropped a question of a worker: {error}")

    def _happened(self, event: ProcessEvent) -> None:
        self._events.append(event)
        self._channel.wake()

    def _tell_of(self, event: ProcessEvent) -> None:
        if isinstance(event, Started):
            self._send(c.Launched(self.number, event.worker_id, event.pid))
        elif isinstance(event, ForkFailed):
            self._send(c.Refused(self.number, event.worker_id, event.reason.encode()))
        elif isinstance(event, Exited):
            self._tell_end(event)

    def _tell_end(self, event: Exited) -> None:
        worker, engine = event.worker_id, self._engine
        fate = engine.fates.get(worker)
        flight = fate.flight if fate is not None else None
        running = flight.running_items() if flight is not None else {}
        first, logged = (flight.forgotten, [*flight.unacked(0), *unsent(flight)]) if flight is not None else (0, [])
        records, objects = self._keeper.salvage(logged)
        peak_bytes, oom = engine.circumstances(worker, event.exitcode)
        said = engine.said(worker)
        report = report_of(flight, event.exitcode, peak_bytes, oom, said) if event.exitcode else b""
        if flight is not None and said is not None:
            for output in last_output(flight, said, is_shown=self._is_shown):
                self._talk.carry(worker, encode(output))
        self._keeper.worker_gone(worker)
        engine.bury(worker)
        self._links.forget(worker)
        exitcode = c.NO_EXITCODE if event.exitcode is None else event.exitcode
        ended = c.Ended(
            self.number, worker, exitcode, tuple(running), tuple(running.values()), first, records, report, objects
        )
        self._send(ended)

    # ---- from the head ----

    def _take(self, message: c.ClusterMessage) -> None:
        """Do what the driver wants done here."""
        if type(message) is c.Chunk:
            self._porter.chunk(message.object, message.offset, message.data)
        elif type(message) is c.Fetch:
            data = read_part(self._kept.find(message.object), message.offset, message.size)
            self._send(c.Chunk(self.number, message.node, message.object, message.offset, data))
        elif type(message) is c.Source:
            self._direct.go(message)
        elif type(message) is c.Ticket:
            self._direct.admit(message.ticket)
        elif type(message) is c.Forget:
            self._forget(message.objects)
        elif type(message) is c.Sought:
            self._shelf.arrived(message.request, message.answer, monotonic_s())
        elif type(message) is c.Launch:
            # Nothing else is said to it before.
            self._porter.pass_on(message.worker, 0, _columns(message.objects), partial(self._launch, message))
        elif type(message) is c.Kill:
            self._engine.kill(message.worker, force=bool(message.force))
        elif type(message) is c.Look:
            self._look(message)
        elif type(message) is c.Withdraw:
            self._engine.revoke(message.worker, message.number)

    def _launch(self, launch: c.Launch) -> None:
        reason = self._engine.start(launch.worker, _at_home(launch.spec), launch.gpus, self._places(launch.objects))
        if reason is not None:
            self._send(c.Refused(self.number, launch.worker, reason.encode()))

    def _look(self, look: c.Look) -> None:
        fate = self._engine.fates.get(look.worker)
        if fate is None:
            return
        flight = fate.flight
        running = flight.running_items()
        # Looked up later, as a task that ends meanwhile is logged first.
        first, logged = (flight.forgotten, flight.unacked(0)) if look.revocation else (0, [])
        records = [split_noted(one)[0] for one in logged]
        stopped = int(bool(look.revocation) and fate.is_stopped)
        items = tuple(running.values())
        self._send(c.Looked(self.number, look.worker, tuple(running), items, look.revocation, first, records, stopped))

    def _to_worker(self, worker: int, data: bytes) -> None:
        if not c.carries_objects(data):
            if data[:1] in _LOOKED_AT:
                data = self._look_at(data)
            if self._porter.waits(worker):
                self._porter.pass_on(worker, 0, (), lambda: self._links.send_encoded(worker, data))
            else:
                self._links.send_encoded(worker, data)
            return
        message = decode(data)
        columns = _columns(message.objects)  # type: ignore[union-attr]  # as above
        self._porter.pass_on(worker, 0, columns, lambda: self._deliver(worker, message, columns))

    def _look_at(self, data: bytes) -> bytes:
        """Return a message for a worker as it is for workers of this host."""
        message = decode(data)
        if type(message) is m.Discard:
            # Its maker gives up the memory. Ours goes to disk, under the number that tasks were told.
            self._keeper.spill(message.objects)
        elif type(message) is m.Enter:
            return encode(message._replace(spec=_at_home(message.spec)))
        return data

    def _deliver(self, worker: int, message: Any, columns: m.Ints) -> None:
        self._links.send_encoded(worker, encode(message._replace(objects=self._places(columns))))

    def _places(self, columns: m.Ints) -> list[int]:
        """Return where objects are on this host; what could not be had is left out, and missed by who needs it."""
        refs = (self._kept.held(object_id) for object_id in columns[::4])
        return [number for ref in refs if ref is not None for number in ref]

    def _ask(self, _: int, object_id: int, offset: int, size: int) -> None:
        self._send(c.Fetch(self.number, self._node, object_id, offset, size))

    def _forget(self, objects: m.Ints) -> None:
        for object_id in objects:
            if not self._porter.give_up(object_id):
                with contextlib.suppress(KeyError):  # it never came
                    self._kept.drop(object_id)

    def close(self) -> None:
        """End all workers, remove everything."""
        self._direct.close()
        self._porter.close()
        self._engine.close()
        self._channel.close()
        self._counter.close()
        self._keeper.close()
        self._storage.close()
        self._dir.remove()


def _columns(numbers: m.Ints) -> m.Ints:
    if len(numbers) % 4:
        raise ProtocolError(f"{len(numbers)} numbers are no columns of four")
    return numbers


_LOOKED_AT: Final = (encode(m.Discard((0,)))[:1], encode(m.Enter(0, b""))[:1])


def _for_this_host(data: bytes) -> Settings:
    """Return a driver's settings, but for what only means something on its own host."""
    return Settings._make(json.loads(data))._replace(spill_dir="", transport="unix", store_access="auto")


def _at_home(spec_bytes: bytes) -> bytes:
    """Return what a worker is to be, with the surroundings of its driver as far as they make sense on this host."""
    spec = WorkerSpec.decode(spec_bytes)
    context = ProcessContext.decode(spec.context).on_host(os.environ, sys.path)
    return spec._replace(context=context.encode()).encode()
