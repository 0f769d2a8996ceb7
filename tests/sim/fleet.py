"""A cluster of many hosts on links that break: a real head, and the real conversations across it, on a fake clock.

Each host has the part of a session that answers orders, each program the side that gives them; their processes and
tasks are simulated. Links lose what is under way when they are cut, hosts and programs are killed, heads are started
again. The ledger knows what each program was told: a task that ends twice, a result of a worker that has another task,
a host that has what nobody wants any more.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from scalepool._core.switchboard import Switchboard
from scalepool._runtime.driver_talks import DriverTalks
from scalepool._runtime.session_part import SessionPart
from scalepool._wire import cluster as c
from scalepool._wire.handshake import Introduction, encode_introduction, is_introduction
from scalepool.config import Settings
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = Introduction(1, "3.11", "3.1", "host", "c")
HELLO = encode_introduction(OWN)
STRANGER = c.encode(c.Stranger())
DELAY_S = 0.002
NOTICED_S = 0.75
"""Heartbeats tell each side that a link is gone within that."""
LATE_S = 2 * Settings().reconnect_s
"""After that nobody is waited for any more."""
NUMBERS = 1 << 20
"""Numbers that a head may give."""


class Fleet:
    """Time and links, the head, and whoever is there."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.heads = 0
        self.board = Switchboard(OWN)
        self.members: dict[bytes, Member] = {}
        """By the link that each has now."""
        self.hosts: list[SimHost] = []
        self.programs: list[SimProgram] = []
        self.cuts = 0
        self.lost_messages = 0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._links = itertools.count(1)
        self.numbers = itertools.count(1)
        self._ready_at: dict[tuple[bytes, bool], float] = {}
        self._tick()

    # ---- time ----

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def soon(self, most_s: float = 0.05) -> float:
        return self.random.uniform(0.0, most_s)

    def run(self, until: Callable[[], bool], most_s: float) -> None:
        """Let things happen until ``until()``, which must be before ``most_s`` have passed."""
        end = self.now + most_s
        while not until():
            self.now, _, action = heapq.heappop(self._heap)
            assert self.now <= end, f"still not there: {self.board.report()}"
            action()

    def _tick(self) -> None:
        self._deliver(self.board.tick(self.now))
        self.after(0.25, self._tick)

    # ---- links ----

    def connect(self, member: Member) -> None:
        """Have a new link to the head; what was said on an earlier one is lost."""
        if member.alive:
            member.link = b"%s%d" % (member.mark, next(self._links))
            self.members[member.link] = member
            member.linked()

    def to_head(self, member: Member, data: bytes) -> None:
        link, board, role = member.link, self.board, member.role

        def arrives() -> None:
            if self.members.get(link) is member and self.board is board:
                self._deliver(board.receive(link, role, data))
            else:
                self.lost_messages += 1

        self._over(link, False, arrives)

    def _deliver(self, sends: list[tuple[bytes, bytes]]) -> None:
        for link, data in sends:
            self._over(link, True, lambda link=link, data=data: self._arrives(link, data))  # type: ignore[misc]

    def _arrives(self, link: bytes, data: bytes) -> None:
        member = self.members.get(link)
        if member is not None and member.alive:
            member.receive(data)
        else:
            self.lost_messages += 1

    def _over(self, link: bytes, down: bool, action: Callable[[], object]) -> None:
        at = max(self.now + self.soon(DELAY_S), self._ready_at.get((link, down), 0.0))  # a link keeps its order
        self._ready_at[link, down] = at
        self.after(at - self.now, action)

    def cut(self, member: Member, back: bool = True) -> None:
        """A link ends; each side notices when it does, and the member comes back, or not."""
        link, board = member.link, self.board
        if self.members.pop(link, None) is None:
            return
        self.cuts += 1
        member.cuts += 1
        self.after(
            self.soon(NOTICED_S), lambda: self._deliver(board.lose(link, "gone")) if board is self.board else None
        )
        noticed = self.soon(NOTICED_S / 2)
        self.after(noticed, member.cut)
        if back:
            self.after(noticed + self.soon(member.back_s - NOTICED_S / 2), lambda: self.connect(member))

    def restart_head(self) -> None:
        """Another head, which knows nothing."""
        self.heads += 1
        self.board = Switchboard(OWN, self.heads * NUMBERS)
        self._deliver(self.board.tick(self.now))
        for member in list(self.members.values()):
            self.cut(member)

    # ---- who is there ----

    def add_host(self, slots: int) -> SimHost:
        host = SimHost(self, slots)
        self.hosts.append(host)
        self.connect(host)
        return host

    def add_program(self, tasks: int, workers: int) -> SimProgram:
        program = SimProgram(self, tasks, workers)
        self.programs.append(program)
        self.connect(program)
        return program

    def kill(self, member: Member) -> None:
        """Its process is gone, and so is all that it knew."""
        member.alive = False
        self.cut(member, back=False)

    # ---- the tables ----

    def check(self) -> None:
        """What the head counts is what it knows of sessions."""
        report = self.board.report()
        counted = sum(node["workers"] for node in report["nodes"])
        known = sum(driver["workers"] for driver in report["drivers"])
        assert counted == known, report

    def sizes(self) -> dict[str, int]:
        """How much the head keeps."""
        members = self.board._members
        return {
            "links": len(members.links), "sessions": len(members.sessions), "hosts": len(members.placement.hosts),
            "claims": len(members.claims), "held": len(self.board._held),
            "waited": len(self.board._returning._waited),
        }  # fmt: skip


class Member:
    """A host or a program: its link to the head as `_runtime.lasting` has it."""

    mark = b""
    role = ""
    back_s = 0.0
    """Who was cut off is back within that, or never."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.link = b""
        self.alive = True
        self.cuts = 0
        self.ready = False
        self.linked_before = False
        self.on_cut: Callable[[], object] = bool
        self.on_back: Callable[[], object] = bool

    def send(self, data: bytes) -> None:
        if self.ready and self.alive:
            self.fleet.to_head(self, data)

    def say(self, message: Any) -> None:
        self.send(c.encode(message))

    def linked(self) -> None:
        """There is a new link."""
        if self.ready:
            self.cut()
        self.fleet.to_head(self, HELLO)

    def cut(self) -> None:
        if self.ready:
            self.ready = False
            self.on_cut()

    def receive(self, data: bytes) -> None:
        if is_introduction(data):
            if not self.ready:
                self.ready = True
                if self.linked_before:
                    self.on_back()
                else:
                    self.linked_before = True
                    self.begin()
        elif data == STRANGER:
            if self.ready:
                self.cut()
                self.fleet.to_head(self, HELLO)
        elif self.ready:
            self.take(c.decode(data))

    def begin(self) -> None:
        """The first link stands."""

    def take(self, message: Any) -> None:
        """Something has come."""


class SimHost(Member):
    """A host, as `_runtime.agent` has it."""

    mark = b"a"
    role = "agent"
    back_s = 2.0

    def __init__(self, fleet: Fleet, slots: int) -> None:
        super().__init__(fleet)
        self.offer = c.Offer(slots, 1 << 30, b"host")
        self.sessions: dict[int, SimPart] = {}
        self.node = 0
        self.on_cut = lambda: [part.cut() for part in self.sessions.values()]
        self.on_back = self._back

    def begin(self) -> None:
        self.say(self.offer)
        self._look()

    def _look(self) -> None:
        for number in [number for number, part in self.sessions.items() if part.is_forgotten(self.fleet.now)]:
            del self.sessions[number]
        if self.alive:
            self.fleet.after(0.25, self._look)

    def _back(self) -> None:
        self.say(c.Again(self.node, list(self.sessions), [part.token for part in self.sessions.values()]))
        self.say(self.offer)

    def take(self, message: Any) -> None:
        kind = type(message)
        if kind is c.Begin:
            self.sessions.setdefault(message.session, SimPart(self, message))
        elif kind is c.End:
            self.sessions.pop(message.session, None)
        elif kind is c.Joined:
            if self.node and self.node != message.node:
                self.sessions.clear()
            self.node = message.node
        elif kind is not c.Ping and message.session in self.sessions:
            # A program that was away for too long is in no conversation any more, and hears that by being asked.
            with contextlib.suppress(ProtocolError):
                self.sessions[message.session].obey(message)


class SimPart(SessionPart):
    """The workers of a session on a host."""

    def __init__(self, host: SimHost, begin: c.Begin) -> None:
        super().__init__(begin, host.send)
        self.host = host
        self.workers: set[int] = set()

    def cut(self) -> None:
        if self._cut_at is None:
            self._cut_at = self.host.fleet.now
        super().cut()

    def there(self) -> bool:
        return self.host.alive and self.host.sessions.get(self.number) is self

    def _take(self, message: Any) -> None:
        fleet, worker = self.host.fleet, message.worker
        if type(message) is c.Launch:
            if fleet.random.random() < 0.05:
                self._send(c.Refused(self.number, worker, b"no more processes"))
            else:
                self.workers.add(worker)
                self._send(c.Launched(self.number, worker, 1))
        elif type(message) is c.Carry and worker in self.workers:
            dies = fleet.random.random() < 0.02
            fleet.after(fleet.soon(), (lambda: self.ends(worker)) if dies else lambda: self.done(worker, message.data))
        elif type(message) is c.Kill:
            fleet.after(fleet.soon(), lambda: self.ends(worker))

    def done(self, worker: int, task: bytes) -> None:
        if self.there() and worker in self.workers:
            self._send(c.Carry(self.number, worker, task))

    def ends(self, worker: int) -> None:
        if self.there() and worker in self.workers:
            self.workers.remove(worker)
            self._send(c.Ended(self.number, worker, 0, (), (), 0, (), b""))


class SimProgram(Member):
    """A program: it has so many workers, each with one task at a time, and leaves when all have ended."""

    mark = b"d"
    role = "driver"
    back_s = 0.7  # a head waits for a second, counted from when it last looked at the clock

    def __init__(self, fleet: Fleet, tasks: int, workers: int) -> None:
        super().__init__(fleet)
        self.left = deque(range(tasks))
        self.most_workers = workers
        self.ended: set[int] = set()
        self.tasks = tasks
        self.homes: dict[int, int] = {}
        self.ordered: set[int] = set()
        self.running: dict[int, int | None] = {}
        self.session = 0
        self.is_over = False
        self.opened = c.Open(b"[]", b"token %d" % next(fleet.numbers))
        self.talks: DriverTalks
        self._count = itertools.count(1)

    def begin(self) -> None:
        self.say(self.opened)
        # A program that is cut off before it is let in gives up, and is started again.
        self.on_cut = self.on_back = lambda: self.fleet.kill(self)

    def take(self, message: Any) -> None:
        kind = type(message)
        if kind is c.Opened and not self.session:
            self.session = message.session
            self.talks = DriverTalks(self, self.session, self.opened, self.homes)  # type: ignore[arg-type]
            self._order()
        elif not self.session or self.is_over or kind in (c.Opened, c.Nodes, c.Ping, c.Share, c.Shift):
            return
        elif kind is c.Said:
            said = self.talks.hear(message)
            if said is not None and self.homes.get(said.worker) == message.node:  # type: ignore[union-attr]
                self._hear(said)
        elif kind is c.Placed:
            self._placed(message)
        elif kind is c.Refused:
            self.talks.orders.placed(message.worker)
            self._gone(message.worker)
        elif kind is c.NodeLost:
            self._lose(message.node)
        elif kind is c.Resume:
            if not self.talks.resume(message):
                self._lose(message.node)
        elif kind is c.Renew:
            self.talks.renew(message)
        elif kind is c.Heard:
            self.talks.known(message)
        else:
            assert kind is c.End, message
            assert self.cuts > 1, "the head gave up a program that came back in time"
            self.fleet.kill(self)  # its links were cut one after the other, so that it was away for too long

    def _placed(self, placed: c.Placed) -> None:
        orders = self.talks.orders.placed(placed.worker)
        if orders:
            self.homes[placed.worker] = placed.node
            self.talks.begin(placed.node)
            for order in orders:
                self.talks.tell(placed.node, order)

    def _lose(self, node: int) -> None:
        self.talks.end(node)
        for worker in [worker for worker, at in self.homes.items() if at == node]:
            self._gone(worker)

    def _hear(self, said: Any) -> None:
        worker = said.worker
        if type(said) is c.Launched:
            self._next(worker)
        elif type(said) is c.Carry:
            task = int(said.data)
            assert self.running[worker] == task, f"worker {worker} has ended {task}, but is in {self.running[worker]}"
            assert task not in self.ended, f"task {task} has ended twice"
            self.ended.add(task)
            self.running[worker] = None
            self._next(worker)
        elif type(said) in (c.Ended, c.Refused):
            self._gone(worker)

    def _next(self, worker: int) -> None:
        if self.left:
            task = self.running[worker] = self.left.popleft()
            self.talks.tell(self.homes[worker], c.Carry(self.session, worker, b"%d" % task))
        else:
            self.running[worker] = None
            self.talks.tell(self.homes[worker], c.Kill(self.session, worker, 1))

    def _gone(self, worker: int) -> None:
        self.homes.pop(worker, None)
        self.ordered.discard(worker)
        task = self.running.pop(worker, None)
        if task is not None:
            self.left.append(task)
        self.fleet.after(self.fleet.soon(0.5), self._order)

    def _order(self) -> None:
        if not self.alive or self.is_over:
            return
        while self.left and len(self.ordered) < min(self.most_workers, len(self.left)):
            worker = next(self._count)
            self.ordered.add(worker)
            self.send(self.talks.orders.wait(c.Launch(self.session, worker, b"spec")))
        if not self.left and not self.ordered:
            self.is_over = True
            self._leave()

    def _leave(self) -> None:
        """It has ended: says so if it can, and its process is gone."""
        assert len(self.ended) == self.tasks
        self.say(c.End(self.session))
        self.fleet.after(0.1, lambda: self.fleet.kill(self))
