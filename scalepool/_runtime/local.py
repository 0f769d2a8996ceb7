"""The hub's shell inside the driver: its socket, its workers, and the driver's own client as peer 0.

Everything here runs under the pump, so one thread at a time. Other threads only append to ``events`` or to the client's
queue and kick the pump.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.commands import Command, Drop, Inspect, KillWorker, Note, Revoke, Send, Spill, StartWorker
from scalepool._core.events import Event, Inspected, LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._proc.death import Event as ProcessEvent
from scalepool._proc.death import Exited, ForkFailed, Started
from scalepool._runtime.keeping import ObjectKeeper
from scalepool._runtime.links import PeerLinks
from scalepool._runtime.notes import Notes
from scalepool._runtime.output import Printer, show
from scalepool._runtime.overview import Overview
from scalepool._store.flight import unsent
from scalepool._wire import messages as m
from scalepool._wire.codec import decode
from scalepool._wire.records import split_noted
from scalepool.errors import ProtocolError, SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._core.hub import Hub
    from scalepool._net.channel import HubChannel
    from scalepool._runtime.client import Client
    from scalepool._runtime.timeline import Timeline
    from scalepool.engines.local import LocalEngine

__all__ = ["LocalStation", "remember_exit"]

_REMEMBERED_EXITS: Final = 4096
_EAGER_QUEUE: Final = 256
"""Calls that are sent together when no worker is waiting for them."""


class LocalStation:
    """Drives hub, channel and engine.

    Parameters
    ----------
    hub
        The state machine.
    channel
        The hub's socket.
    client
        The driver's client.
    token
        What a worker must say in its Hello.
    """

    def __init__(self, hub: Hub, channel: HubChannel, client: Client, token: bytes) -> None:
        self._hub = hub
        self._channel = channel
        self._client = client
        self.engine: LocalEngine
        self.events: deque[Event] = deque()
        self._exits: deque[Any] = deque()
        self._todo: deque[Command] = deque()
        self._own: deque[m.Message] = deque()
        self._links = PeerLinks(channel, token)
        # Objects made by workers are kept open here, so that they outlive their makers; not in the client's store,
        # whose ids are its own.
        self._keeper = ObjectKeeper(client.storage, lambda: client.pump.kick(now=False))
        self.printer = Printer("auto")
        self.exitcodes: dict[int, int | None] = {}
        self._notes = Notes()
        self.overview = Overview(hub, client)
        self.timeline: Timeline | None = None
        """What watches the hub, where somebody wants to see later when what has run."""
        client.eager = self.eager

    # ---- what the pump asks ----

    def work(self, *, arrived: bool) -> None:
        """Handle all that is there: own calls, messages, process events, alarms."""
        if self._todo:
            self._obey()
        client, channel, own = self._client, self._channel, self._own
        while True:
            if client.pending or own:
                client.pump.call_back(client.deliver)
                # Kept in a queue: a callback may wait and thereby come here again, or raise.
                own.extend(client.outgoing.drain())
                while own:
                    self._handle(Received(m.DRIVER, own.popleft()))
                if client.store.made_on_disk:
                    self._note_made_on_disk()
            if arrived:
                # One message per poll: asking for a second that is not there costs more than the next poll.
                channel.receive_into(self._receive)
                arrived = False
            if self.events or self._exits or self._keeper.waiting:
                # What a dead worker had sent comes before the news of its death.
                while channel.receive_into(self._receive):
                    pass
                self._process_events()
            alarm = self._hub.alarm_at
            if alarm is not None and monotonic_s() >= alarm:
                self._handle(Tick())
            if self.printer.due_at is not None and monotonic_s() >= self.printer.due_at:
                self.printer.flush(monotonic_s())
            if not LocalStation.pending(self):  # what a subclass knows of besides is for its own next call
                return

    def pending(self) -> bool:
        """Whether something is queued."""
        queued = self.events or self._exits or self._todo or self._own or self._keeper.waiting
        return bool(self._client.pending or queued)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a message or a wake-up."""
        arrived = self._channel.poll(timeout_s)
        if not arrived:
            self.overview.look(monotonic_s())
        return arrived

    def wake(self) -> None:
        """Make ``wait`` return."""
        self._channel.wake()

    def alarm_at(self) -> float | None:
        """When the hub wants a tick, folded lines are to be counted, or somebody may have a question."""
        due_at, alarm, first = self.printer.due_at, self._hub.alarm_at, self.overview.due_at
        if alarm is not None and alarm < first:
            first = alarm
        return first if due_at is None else min(due_at, first)

    def rest(self) -> None:
        """Give back shared memory that was kept for the next object of its size."""
        now = monotonic_s()
        self._client.stored.rest(now, tight=self._client.storage.budget.tight)
        self._client.storage.rest(now)
        self.overview.look(now)

    def broken(self, error: Exception) -> None:
        """Fail everything that is open."""
        self._client.close(SessionError(f"scalepool failed internally: {type(error).__name__}: {error}"))

    def busy(self) -> bool:
        """Whether answers are outstanding."""
        return self._client.busy or self._hub.busy

    def eager(self, queued: int, group: int) -> bool:
        """Whether queued calls, the last of them for ``group``, should be sent at once."""
        return queued >= _EAGER_QUEUE or self._hub.is_hungry(group)

    # ---- in ----

    def process_event(self, event: ProcessEvent) -> None:
        """Queue what the engine saw; called in its thread."""
        if isinstance(event, Started):
            self.events.append(WorkerStarted(event.worker_id, event.pid))
        elif isinstance(event, ForkFailed):
            self.events.append(LaunchFailed(event.worker_id, event.reason))
        elif isinstance(event, Exited):
            self._exits.append(event)
        self._client.pump.kick(now=False)

    def _process_events(self) -> None:
        if self._keeper.waiting:
            self.events.append(self._keeper.written())
        while self.events:
            self._handle(self.events.popleft())
        while self._exits and not self.events:
            self._exited(self._exits.popleft())

    def _exited(self, event: Exited) -> None:
        worker = event.worker_id
        fate = self.engine.fates.get(worker)
        running: dict[int, int] = {}
        records: tuple[bytes, ...] = ()
        if fate is not None:
            running = fate.flight.running_items()
            records = (*fate.flight.unacked(self._hub.received_from(worker)), *unsent(fate.flight))
        output, report = _findings(self.engine, event, is_shown=self.printer.is_on)
        for message in output:
            self._handle(Received(worker, message))
        records, objects = self._keeper.salvage(records)
        items = tuple(running.values())
        self._handle(WorkerExited(worker, event.exitcode, tuple(running), records, items, report, objects))
        self._note_made_on_disk()
        self._keeper.worker_gone(worker)
        self.engine.bury(worker)
        remember_exit(self.exitcodes, worker, event.exitcode)
        self._links.forget(worker)

    def _receive(self, routing: bytes, data: bytes) -> None:
        peer = 0
        try:
            message = decode(data)
            peer = self._links.peer_of(routing, message)
            if isinstance(message, (m.Done, m.Put, m.Submit, m.Keep, m.Yield)) and message.objects:
                message = message._replace(objects=self._keeper.adopt(message.objects))
                self._handle(Received(peer, message))
                self._note_made_on_disk()
                return
            self._handle(Received(peer, message))
        except ProtocolError as error:
            show(2, f"scalepool: dropped a message: {error}\n")
            if peer:
                # What it said may have held results. Its flight record has them, and its tasks are moved.
                self.engine.kill(peer, force=True)

    def _note_made_on_disk(self) -> None:
        event = self._keeper.made_on_disk()
        if event is not None:
            self.events.append(event)

    def _handle(self, event: Event) -> None:
        now = monotonic_s()
        commands = self._hub.handle(event, now)
        if self.timeline is not None:
            self.timeline.watch(event, commands, now)
        self._todo.extend(commands)
        self._obey()

    def _look_into(self, command: Inspect) -> list[Event]:
        """Return what a worker's flight record says now; nothing when its process is not there (any more)."""
        worker = command.worker
        fate = self.engine.fates.get(worker)
        if fate is None:
            return []
        running = fate.flight.running_items()
        items = tuple(running.values())
        if not command.revocation:
            return [Inspected(worker, tuple(running), items)]
        # Looked up later, as a task that ends meanwhile is logged first.
        records = tuple(split_noted(one)[0] for one in fate.flight.unacked(self._hub.received_from(worker)))
        return [Inspected(worker, tuple(running), items, command.revocation, records, fate.is_stopped)]

    # ---- out ----

    def _obey(self) -> None:
        # A callback in here may wait, and thereby come here again: the queue keeps the order of commands.
        todo = self._todo
        while todo:
            command = todo.popleft()
            if type(command) is Send:
                self._send(command)
            elif type(command) is StartWorker:
                reason = self.engine.start(*command)
                if reason is not None:
                    self.events.append(LaunchFailed(command.worker, reason))
            elif type(command) is KillWorker:
                self.engine.kill(command.worker, force=command.force)
            elif type(command) is Inspect:
                self.events.extend(self._look_into(command))
            elif type(command) is Revoke:
                self.engine.revoke(command.worker, command.number)
            elif type(command) is Drop:
                self._keeper.drop(command.objects)
            elif type(command) is Spill:
                event = self._keeper.spill(command.objects)
                self.events.extend(() if event is None else (event,))
            elif type(command) is Note:
                self._notes.show(command.text, monotonic_s())

    def _send(self, command: Send) -> None:
        message = command.message
        if command.peer == m.DRIVER:
            if type(message) is m.Output and not message.task:
                self.printer.show(message.stream, message.text.decode("utf-8", "surrogatepass"), monotonic_s())
            else:
                self._client.pump.call_back(self._client.receive, message)
            return
        self._links.send(command.peer, message)

    def close(self) -> None:
        """Close the socket and let go of all objects."""
        self.overview.close()
        self._channel.close()
        self._keeper.close()
        self.printer.flush(monotonic_s(), everything=True)
        sys.stdout.flush() if sys.stdout is not None else None


def remember_exit(exitcodes: dict[int, int | None], worker: int, exitcode: int | None) -> None:
    """Note how a worker has ended, for who asks; the oldest are forgotten."""
    exitcodes[worker] = exitcode
    if len(exitcodes) > _REMEMBERED_EXITS:
        del exitcodes[next(iter(exitcodes))]


def _findings(engine: LocalEngine, event: Exited, *, is_shown: bool) -> tuple[Sequence[m.Output], bytes]:
    """Return what a worker wrote last, and what can be found out about its end; see ``WorkerExited``."""
    peak_bytes, oom = engine.circumstances(event.worker_id, event.exitcode)
    fate, said = engine.fates.get(event.worker_id), engine.said(event.worker_id)
    if fate is None or (said is None and not event.exitcode):
        return (), b""  # it was told to leave, or nobody knows
    from scalepool._runtime.lastwords import last_output, report_of

    output = [] if said is None else list(last_output(fate.flight, said, is_shown=is_shown))
    return output, report_of(fate.flight, event.exitcode, peak_bytes, oom, said) if event.exitcode else b""
