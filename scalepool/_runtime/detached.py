"""Detached actors as a program has them: how they are made, found and ended on a cluster.

They belong to the cluster's steward. What the program's own hub has is a *gate* for each handle: an actor whose worker
the steward plays (see `gates`). So calls, references among arguments, results, handles in tasks and the order of calls
are those of any actor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._core.task import PLAIN
from scalepool._runtime.functions import Function
from scalepool._runtime.handles import ActorHandle, meta_of
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.packing import Packed
from scalepool._runtime.remote import ONE_CPU, group_of
from scalepool._runtime.session import current
from scalepool._runtime.slots import Gathering
from scalepool._runtime.values import values_of
from scalepool._wire import actors as wire
from scalepool._wire.codec import encode
from scalepool._wire.payload import dumps_inline
from scalepool._wire.stewards import ATTACH, GATE, Operation, Way, joined
from scalepool.errors import ActorError, SessionError

if TYPE_CHECKING:
    from scalepool._core.task import Terms
    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.returning import Returning
    from scalepool._runtime.session import DriverSession, WorkerSession

__all__ = ["end_detached", "find_detached", "make_detached", "through_gate"]

_CALLS: Final = 1 << 20
"""How many calls a gate may hold: which of them run is decided at the steward."""
_ANSWER_S: Final = 60.0
_TRIES: Final = 5
_NO_META: Final = dumps_inline(None)


def find_detached(session: DriverSession | WorkerSession, name: bytes) -> ActorHandle | None:
    """Return a handle of the detached actor with this name; ``None``: there is none.

    Raises
    ------
    SessionError
        When the steward cannot be reached.
    """
    gate = _Gate(session, "get_actor")
    meta = gate.ask(Operation.FIND, name)
    return gate.handle(meta) if meta else None


def make_detached(
    session: DriverSession | WorkerSession, opened: wire.OpenActor, creation: tuple[Function, Any, KeptCall]
) -> tuple[ActorHandle, bool]:
    """Have an actor made; return a handle of the one that has its name, and whether that is it.

    Parameters
    ----------
    opened
        What is wanted.
    creation
        What makes it: function, packed arguments, and how that is kept.

    Raises
    ------
    SessionError
        When the steward cannot be reached, or does not want it.
    Exception
        What became of the arguments, where they are references.
    """
    from scalepool._runtime.travel.record import OwnCode

    gate = _Gate(session, opened.label.decode())
    code = OwnCode(session.settings.code_limit_bytes, lambda text: None)
    wanted = joined([encode(opened), json.dumps(code.digests).encode()])
    verdict, meta, details = gate.ask(Operation.OPEN, wanted)
    for _ in range(_TRIES):
        if verdict != "code":
            break
        for name in details:
            gate.ask(Operation.CODE, joined([name.encode(), *code.bundle(name)]))
        verdict, meta, details = gate.ask(Operation.OPEN, wanted)
    if verdict not in ("open", "taken"):
        raise SessionError(f"{opened.label.decode()} cannot be made as a detached actor: {'; '.join(details)}")
    if verdict == "open":
        function, arguments, kept = creation
        gate.call(function, arguments, kept, None)
    return gate.handle(meta), verdict == "open"


def end_detached(handle: ActorHandle, mode: wire.EndMode) -> None:
    """End an actor; returns when the steward has been told."""
    ref: ObjectRef[Any] = handle._ref
    _ask(ref, Operation.KILL, bytes([mode]))


def through_gate(function: Function, label: str, terms: Terms, returning: Returning) -> Function:
    """Return a method as it is called through a gate.

    Raises
    ------
    TypeError
        When its values are to come one by one.
    """
    if returning.number < 0 or returning.way == "dynamic":
        raise TypeError(
            f"{label} is a generator method, and values of a detached actor do not come one by one: return a list, or "
            "call another method for each"
        )
    way = Way(label, terms.max_retries, terms.time_limit_s, function.packed.data)
    return Function(Packed(way.encode(), (), (), 0), label)


class _Gate:
    """A new stand-in of a detached actor."""

    def __init__(self, session: DriverSession | WorkerSession, label: str) -> None:
        client = session.client
        values = values_of(client)
        actor = client.new_object_id()
        home = group_of(session, ONE_CPU, label).group_id
        client.post(wire.OpenActor(actor, home, GATE, 0, _CALLS, 0, b"", label.encode(), _NO_META))
        kept = KeptCall(f"{label}()", 1, PLAIN, session.kept_task)
        self.ref = values.enqueue(actor, _function(ATTACH), (b"-", None, 1), kept, actor)[0]

    def ask(self, operation: Operation, data: bytes) -> Any:
        """Have the steward do something, and return what it says."""
        return _ask(self.ref, operation, data)

    def call(self, function: Function, arguments: Any, kept: KeptCall, timeout_s: float | None) -> Any:
        """Call a function of the gate's; return the result."""
        return _call(self.ref, function, arguments, kept, timeout_s)

    def handle(self, meta: bytes) -> ActorHandle:
        """Return a handle of the actor, which from now on the gate stands for."""
        return ActorHandle(self.ref, meta_of(meta)._replace(is_gate=True))


def _ask(gate: ObjectRef[Any], operation: Operation, data: bytes) -> Any:
    kept = KeptCall(f"asking for detached actors ({operation.value})", 1, PLAIN, current().kept_task)
    return _call(gate, _function(operation.function), (data, None, len(data)), kept, _ANSWER_S)


def _call(gate: ObjectRef[Any], function: Function, arguments: Any, kept: KeptCall, timeout_s: float | None) -> Any:
    values = gate._table()
    ref = values.enqueue(gate.id, function, arguments, kept)[0]
    slots = values.slots([ref])
    if not slots[0].is_over:
        deadline = None if timeout_s is None else monotonic_s() + timeout_s
        if not Gathering(values, slots).wait(deadline):
            raise SessionError(f"the steward of the cluster's detached actors has not answered within {_ANSWER_S:g} s")
    try:
        return values.load(slots[0])
    except ActorError as error:
        if error.actor_number != gate.id:
            raise  # an argument's
        raise SessionError(f"the cluster's detached actors cannot be reached: {error.post_mortem.reason}") from error


def _function(blob: bytes) -> Function:
    return Function(Packed(blob, (), (), len(blob)), "detached actors")
