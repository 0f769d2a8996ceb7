"""Gates: what a program's hub takes for the workers of its detached actors, at the steward; see `_wire.stewards`.

To the program's hub a gate is a worker on a host, which runs any number of calls at once; in truth each becomes a call
of the steward's session. What a call carries and what it returns lies in objects of two sessions, so their numbers
change on the way; nothing else of it is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._runtime.gate import NONSENSE, Gate
from scalepool._runtime.node_session import read_part
from scalepool._runtime.porter import Porter
from scalepool._runtime.session_part import SessionPart
from scalepool._store.adopted import AdoptedSegments
from scalepool._wire import cluster as c
from scalepool._wire import messages as m
from scalepool._wire.codec import decode, encode
from scalepool._wire.stewards import GATE
from scalepool.config import Settings
from scalepool.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepool._runtime.gate import Row
    from scalepool._runtime.house import House
    from scalepool._runtime.refs import ObjectRef

__all__ = ["GateSession"]

_REST_S: Final = 1.0


class GateSession(SessionPart):
    """One program's gates.

    Parameters
    ----------
    begin, send
        As of a `SessionPart`.
    house
        The actors.
    tell
        Called with what a person may want to know.
    wake
        Called, in any thread, when ``work`` has something to do.
    """

    def __init__(
        self, begin: c.Begin, send: Callable[[bytes], object], house: House, tell: Callable[[str], object],
        wake: Callable[[], object],
    ) -> None:  # fmt: skip
        super().__init__(begin, send)
        self._patience_s = Settings._make(json.loads(begin.settings)).reconnect_s
        self.house = house
        self.tell = tell
        self._wake = wake
        self._rested_at = monotonic_s()
        self._gates: dict[int, Gate] = {}
        self._over: deque[tuple[Gate, Row]] = deque()
        storage = house.client.storage
        self.kept = AdoptedSegments(storage.budget, storage.claim)
        """What programs have sent."""
        self._porter = Porter(self.kept, lambda object_id: False, storage, self._ask, tell)
        self._lent: dict[int, tuple[int, ObjectRef[Any]]] = {}
        """Objects of results by the program's number: ours, and what keeps them."""

    @property
    def worker_count(self) -> int:
        """How many gates there are."""
        return len(self._gates)

    def work(self) -> None:
        """Tell what calls have returned, and what was heard."""
        now = monotonic_s()
        if now >= self._rested_at + _REST_S:
            self._rested_at = now
            self._talk.rest()
        while self._over:
            gate, row = self._over.popleft()
            gate.returned(row)

    def over(self, gate: Gate, row: Row) -> None:
        """A call has ended; from any thread."""
        self._over.append((gate, row))
        self._wake()

    def say(self, worker: int, message: m.Message) -> None:
        """Say to the program's hub what a worker would."""
        self._talk.carry(worker, encode(message))

    def give(self, numbers: Mapping[int, int], ref: ObjectRef[Any]) -> None:
        """Let the program fetch these objects, ours by its numbers, in which the value of this reference lies."""
        self._lent.update({theirs: (ours, ref) for theirs, ours in numbers.items()})

    def gone(self, worker: int) -> None:
        """A gate has closed."""
        self._gates.pop(worker, None)
        self._send(c.Ended(self.number, worker, 0, (), (), 0, (), b""))

    # ---- from the program ----

    def _take(self, message: c.ClusterMessage) -> None:
        if type(message) is c.Launch:
            self._launch(message)
        elif type(message) is c.Chunk:
            self._porter.chunk(message.object, message.offset, message.data)
        elif type(message) is c.Fetch:
            ours = self._lent.get(message.object, (0, None))[0]
            data = read_part(self.house.find_object(ours), message.offset, message.size)
            self._send(c.Chunk(self.number, message.node, message.object, message.offset, data))
        elif type(message) is c.Forget:
            self.forget(message.objects)
        elif type(message) is c.Kill and message.worker in self._gates:
            self._gates[message.worker].close()
        elif type(message) is c.Look and message.worker in self._gates:
            tasks = tuple(self._gates[message.worker].rows)
            self._send(c.Looked(self.number, message.worker, tasks, (0,) * len(tasks), message.revocation, 0, ()))

    def _launch(self, launch: c.Launch) -> None:
        if launch.spec != GATE:
            self._send(c.Refused(self.number, launch.worker, b"the steward of detached actors runs no tasks"))
            return
        self._gates[launch.worker] = Gate(self, launch.worker)
        self._send(c.Launched(self.number, launch.worker, os.getpid()))
        self.say(launch.worker, m.Hello(m.WIRE_VERSION, launch.worker, os.getpid(), self.token))

    def _to_worker(self, worker: int, data: bytes) -> None:
        message: Any = decode(data)
        columns = message.objects if c.carries_objects(data) else ()
        if len(columns) % 4:
            raise ProtocolError(f"{len(columns)} numbers are no columns of four")
        self._porter.pass_on(worker, 0, columns, partial(self._deliver, worker, message))

    def _deliver(self, worker: int, message: Any) -> None:
        gate = self._gates.get(worker)
        if gate is None:
            return
        try:
            self._pass_on(worker, gate, message)
        except NONSENSE as error:
            self.tell(f"a program said what makes no sense to a detached actor, and is no longer listened to: {error}")
            gate.close()

    def _pass_on(self, worker: int, gate: Gate, message: Any) -> None:
        if type(message) is m.Run:
            gate.run(message)
        elif type(message) is m.CancelTasks:
            gate.cancel(message.tasks)
        elif type(message) is m.Revoke:
            self.say(worker, m.Returned((), (), message.number))
        elif type(message) is m.Recall:
            self.say(worker, m.Returned((), ()))
        elif type(message) is m.Free:
            self.forget(message.objects)
        elif type(message) is m.Exit:
            gate.close()

    def _ask(self, _: int, object_id: int, offset: int, size: int) -> None:
        self._send(c.Fetch(self.number, self._node, object_id, offset, size))

    def forget(self, objects: m.Ints) -> None:
        """The program needs these no longer."""
        for object_id in objects:
            self._lent.pop(object_id, None)
            if not self._porter.give_up(object_id):
                with contextlib.suppress(KeyError):  # it never came
                    self.kept.drop(object_id)

    def close(self) -> None:
        """The program is gone; its actors live on."""
        for gate in list(self._gates.values()):
            gate.abandon()
        self._gates.clear()
        self._porter.close()
        self.kept.close()
        self._lent.clear()
