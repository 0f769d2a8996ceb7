"""A worker process: a peer that also executes.

The main thread runs tasks and, between them, pumps. The pump's helper, here the *tick thread*, looks at the socket
every few milliseconds while a long task runs: it sends results that wait, and gives back tasks that the hub recalls.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from scalepool._base.clock import monotonic_s
from scalepool._net.channel import open_peer_channel
from scalepool._proc.child import flush_queues
from scalepool._runtime.client import Client
from scalepool._runtime.executor import Executor, Revoked, WorkItem
from scalepool._runtime.gauge import MemoryGauge
from scalepool._runtime.holdings import Holdings
from scalepool._runtime.lastwords import write_crashes_to
from scalepool._runtime.left import end_who_leaves
from scalepool._runtime.lending import Lending
from scalepool._runtime.outlet import Outlet
from scalepool._runtime.output import TaskOutput, run_for
from scalepool._runtime.pump import Pump
from scalepool._runtime.randomness import seed_torch
from scalepool._runtime.redirecting import end_output, redirect_output, send_output
from scalepool._runtime.results import Results
from scalepool._runtime.session import WorkerSession, set_current
from scalepool._runtime.spec import WorkerConfig
from scalepool._runtime.surroundings import Surroundings
from scalepool._runtime.unsent import Unsent
from scalepool._runtime.whereabouts import Whereabouts
from scalepool._runtime.worker_process import set_up_process
from scalepool._store.files import places_of
from scalepool._store.flight import FlightRecord
from scalepool._wire import messages as m
from scalepool._wire.actors import Deadlock, PeerGone
from scalepool._wire.codec import MAX_MESSAGE_BYTES, decode, encode
from scalepool._wire.pickling.exceptions import encode_exception
from scalepool._wire.pickling.exchange import sender_number
from scalepool._wire.pickling.traceback_text import format_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool._runtime.concurrency import Concurrency
    from scalepool._runtime.tracing import Tracer

__all__ = ["WorkerStation", "main"]

_FLUSH_AFTER_S = 0.005
"""A finished result waits no longer than this for others to travel with."""
_FLUSH_BYTES = 1 << 19
"""Nor until they are more than this together: a message is copied several times on its way, at both ends."""
_UNLOAD_AFTER_LOOKS = 5
"""About so many seconds after its last task a worker lets go of the functions that it has loaded."""
_END_S = 2.0
"""By then a worker whose session is over is ended."""


class WorkerStation:
    """One worker's end of the link, with the tasks that it holds and the results that it has not sent."""

    def __init__(self, config: WorkerConfig, client: Client, flight: FlightRecord) -> None:
        self._config = config
        self._flush_count = config.settings.result_flush_count
        self._client = client
        self._flight = flight
        self._unsent = client.outgoing.unsent = Unsent(flight)
        self._channel = open_peer_channel(config.address, max_message_bytes=MAX_MESSAGE_BYTES)
        self.holdings = Holdings()
        self.surroundings = Surroundings(config.spec)
        self._whereabouts = Whereabouts(config.worker)
        self.results = Results()
        self._flushed_at = 0.0
        self._gauge = MemoryGauge(config.spec.max_rss)
        self._idle_looks = 0
        self._rested_at_logged = -1
        self._acked = 0
        self._revocation = 0
        # Only while the other thread sends may this one wait for that.
        self.output = Outlet(lambda: self._channel.unsent_bytes, lambda: client.pump.awake and not client.pump.is_mine)
        self.streams: tuple[TaskOutput, ...] = ()
        self.late: deque[m.Message] = deque()
        """Messages that must not overtake the results before them."""
        self.mourners: list[Callable[[int], object]] = []
        """Called with the number of each worker that is gone, once ``watch_peers`` has asked for it."""
        self.note_passed: Callable[[], object] = bool
        self.leaving = False
        self.introduced = False
        self.concurrency: Concurrency | None = None
        """Runs the calls of an actor that does several at once."""
        self.tracer: Tracer | None = None
        """Notes when tasks run, where somebody wants to see that."""
        token = bytes.fromhex(config.token)
        self.executor: Executor = Executor(
            client.packer, flight, self._make_room, lambda peer: sender_number(token, peer)
        )
        self.executor.lend = lambda references: [] if client.kept is None else client.kept.lend(references)
        self._lending = Lending(self, client)
        client.blocking_wait = self._lending.wait
        client.peek = lambda task: False
        client.eager = self._eager

    # ---- what the pump asks ----

    def work(self, *, arrived: bool) -> None:
        """Send what waits, take what has come."""
        self._client.pump.call_back(self._client.deliver)
        self._send_all()
        if self.executor.depth:
            self._whereabouts.look(self.executor, None, len(self.holdings.queue))
            # The tick thread, or a task that submits: nobody polled, so take whatever has come.
            while self._channel.receive_into(self._receive):
                pass
        elif arrived:
            self._channel.receive_into(self._receive)

    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return self.introduced and bool(self._client.pending or self.results or self.output or self.late)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a message or a wake-up."""
        if not self.introduced:  # the initializer waits for something: then what it has submitted must be sent
            self.introduce(ready=False)
            return False
        return self._channel.poll(timeout_s)

    def wake(self) -> None:
        """Make ``wait`` return."""
        self._channel.wake()

    def alarm_at(self) -> float | None:
        """A worker has no alarms: its tick thread looks often enough."""
        return None

    def rest(self) -> None:
        """Give back shared memory that was kept for the next object of its size; be there for who asks."""
        now = monotonic_s()
        for each in self.streams:
            each.look(everything=True)
        self._client.stored.rest(now, tight=self._client.storage.budget.tight)
        self._client.storage.rest(now)
        self._whereabouts.look(self.executor, self.concurrency, len(self.holdings.queue))
        if self.introduced and (rss := self._gauge.excess(now)):
            self._client.post(m.Memory(rss))
        if self.results.logged != self._rested_at_logged:
            self._rested_at_logged, self._idle_looks = self.results.logged, 0
        elif not self.executor.depth:
            self._idle_looks += 1
            if self._idle_looks == _UNLOAD_AFTER_LOOKS:
                self.holdings.unload()

    def broken(self, error: Exception) -> None:
        """Die: the hub then ends or moves what this worker held. The reason goes where the driver's stderr goes."""
        text = f"scalepool: worker {os.getpid()} failed internally: {format_traceback(error)}"
        try:
            os.write(2, text.encode("utf-8", "replace"))
        finally:  # whatever that says: perhaps a task has closed all descriptors, this one, too
            os._exit(70)

    def busy(self) -> bool:
        """Whether the tick thread should look at the socket."""
        return self.executor.depth > 0 or self._client.busy

    def _eager(self, queued: int, _: int) -> bool:
        return queued >= self._flush_count or monotonic_s() - self._flushed_at > _FLUSH_AFTER_S

    # ---- out ----

    def introduce(self, *, ready: bool = True) -> None:
        """Say Hello; nothing is sent before. Only who is ``ready`` is given tasks."""
        token = bytes.fromhex(self._config.token)
        self._channel.send(encode(m.Hello(m.WIRE_VERSION, self._config.worker, os.getpid(), token, int(ready))))
        self.introduced = True

    def _send_all(self) -> None:
        if not self.introduced:
            return
        self._flushed_at = monotonic_s()
        # Counted first: what a task printed, and references that came with it, are told before its end.
        late = [self.late.popleft() for _ in range(len(self.late))] if self.late else ()
        finished = len(self.results)
        for each in self.streams:
            if each.written is not None and each.written.has_grown:
                each.look()
        output = self.output
        if output:
            send_output(self._channel, output)
            self.note_passed()
        mark = self._unsent.mark()
        for message in self._client.outgoing.drain():
            self._channel.send(encode(message))
        self._unsent.sent(mark)
        if finished:
            done, lent = self.results.take(finished, self._client.views)
            self._channel.send(encode(done))
            self._client.outgoing.changes.extend([-value for value in lent])
            if rss := self._gauge.excess(self._flushed_at):
                self._channel.send(encode(m.Memory(rss)))
        for message in late:
            self._channel.send(encode(message))

    # ---- in ----

    def _receive(self, data: bytes) -> None:
        self._client.pump.sleep.stirred = True
        message = decode(data)
        if type(message) is m.Run:
            self._take_tasks(message)
        elif type(message) is m.Recall:
            self.give_back(self.holdings.take_newest(message.number), answer=True)
        elif type(message) is m.CancelTasks:
            taken, kept = self.holdings.take(message.tasks)
            if self.concurrency is not None:
                taken += self.concurrency.take_back(kept)
                interrupted = self.concurrency.interrupt(kept)
                kept = tuple(set(kept).difference(interrupted, [item.task for item in taken]))
            self.give_back(taken, kept, answer=True)
        elif type(message) is m.Revoke:
            # In this order: whoever takes a task from the queue has looked at the number before.
            items = self.holdings.take_all()
            self._revocation = message.number
            self.give_back(items, revocation=message.number)
        elif type(message) is m.Enter:
            self.surroundings.note(message)
        elif type(message) is m.Help:
            self.holdings.may_help(message)
        elif type(message) is Deadlock:
            self._lending.give_up(message)
        elif type(message) is PeerGone:
            for tell in self.mourners:
                tell(message.peer)
        elif type(message) is m.Exit:
            self.leaving = True
        else:
            self._client.pump.call_back(self._client.receive, message)

    def _take_tasks(self, message: m.Run) -> None:
        if message.acked > self._acked:
            self._acked = message.acked
            self._flight.acked(message.acked)
        self.give_back(self.holdings.add(message))

    def give_back(
        self,
        items: Sequence[WorkItem],
        kept: Sequence[int] = (),
        *,
        answer: bool = False,
        now: bool = True,
        revocation: int = 0,
    ) -> None:
        if items or answer or revocation:
            self._client.outgoing.queue.append(m.Returned([item.task for item in items], kept, revocation))
            if now:
                self._send_all()

    # ---- running ----

    def run_next(self) -> None:
        """Run the oldest task, if there still is one."""
        revocation = self._revocation  # before the task is taken; see _receive
        item = self.holdings.take_oldest()
        if item is None:
            return
        if self.executor.lacks(item):
            self._client.post(m.Returned([item.task], ()))
            return
        if self.concurrency is not None:
            self.concurrency.take(item)
            return
        pump = self._client.pump
        if not pump.awake:
            self._whereabouts.begin()
            pump.arm()
        surroundings = self.surroundings
        outer = surroundings.current
        surroundings.enter(item.group)
        try:
            if surroundings.captures or self.streams[0].task:
                run = partial(self.executor.run, item, revocation)
                record, packed = run_for(item.task if surroundings.captures else 0, self.streams, run)
            else:
                record, packed = self.executor.run(item, revocation)
        except Revoked:
            self._client.post(m.Returned([item.task], ()))
            return
        finally:
            if self.executor.depth:
                surroundings.restore(outer)
        self.results.add(item, record, packed)
        # Behind the last task that is here comes a wait, which sends what there is.
        if self.holdings.queue and (
            len(self.results) >= self._flush_count
            or self.results.size_bytes >= _FLUSH_BYTES
            or monotonic_s() - self._flushed_at > _FLUSH_AFTER_S
        ):
            pump.kick(now=True)

    def flush(self) -> None:
        """Wait until all results have been sent."""
        self._client.pump.wait_for(lambda: not self.results)

    def _make_room(self) -> None:
        """Wait until the hub has every result that is in the flight record's log."""
        logged = self.results.logged
        pump = self._client.pump
        self.flush()  # first, or the answer would come too early to count them
        self._client.post(m.Sync(), now=True)
        pump.wait_for(lambda: self._acked >= logged)

    def close(self) -> None:
        """Send what is left and close the socket."""
        self._send_all()
        self._channel.flush_and_close()


def main(config_bytes: bytes, flight_fd: int) -> int:
    """Be a worker until the hub says Exit; the return value is the process's exit code."""
    config = WorkerConfig.decode(config_bytes)
    set_up_process(config)
    flight = FlightRecord.attach(flight_fd)
    write_crashes_to(flight_fd)
    try:
        client = Client(config.worker, config.settings, config.store)
        client.session = sender_number(bytes.fromhex(config.token), m.DRIVER)
        station = WorkerStation(config, client, flight)
    except (ConnectionRefusedError, FileNotFoundError):
        # Nobody listens any more, or the session's folder is gone: the session is over, and whoever ends it ends this
        # process, too. That is no news.
        time.sleep(_END_S)
        raise
    client.pump = Pump(station, "scalepool-tick", tick_s=config.settings.tick_s)
    end_who_leaves(station.executor)
    if config.settings.timeline:
        from scalepool._runtime.tracing import Tracer

        station.tracer = Tracer(station.executor, client, station.holdings.queue)
        station.executor.run = station.tracer.run  # type: ignore[method-assign]
    _become_current(client, station, config)
    redirect_output(station, flight, config.settings.worker_output)
    try:
        _serve(station, client, config)
    finally:
        end_output(station)
    return 0


def _serve(station: WorkerStation, client: Client, config: WorkerConfig) -> None:
    error = _initialize(client, config)
    station.introduce()
    if error is not None:
        flush_queues()
        client.post(m.InitializerFailed(error), now=True)
        client.pump.wait_for(lambda: station.leaving)  # tasks that are on their way are not for this worker
    else:
        _loop(station, client.pump)
        if "scalepool._runtime.instance" in sys.modules:
            sys.modules["scalepool._runtime.instance"].let_go()
    sys.stdout.flush()
    sys.stderr.flush()
    client.pump.close()
    station.close()


def _loop(station: WorkerStation, pump: Pump) -> None:
    def something_to_do() -> bool:
        return bool(station.holdings.queue) or station.leaving

    while True:
        pump.wait_for(something_to_do)
        while station.holdings.queue:
            station.run_next()
        if station.leaving and not station.holdings.queue:
            return


def _become_current(client: Client, station: WorkerStation, config: WorkerConfig) -> None:
    session = WorkerSession(client, station, config.settings)
    session.gpus = config.gpus
    set_current(session)


def _initialize(client: Client, config: WorkerConfig) -> bytes | None:
    if not config.spec.initializer:
        return None
    try:
        fn, args = client.packer.unpack(config.spec.initializer, places_of(config.objects))
        seed_torch()
        fn(*args)
    except BaseException as error:  # noqa: BLE001 - whatever it raises becomes the pool's error
        return encode_exception(error, format_traceback(error))
    return None
