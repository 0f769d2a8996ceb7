"""The detached actors of a cluster, as their steward has them: in a session of its own, with no code of any user.

Classes, arguments and results are packed by programs and by the actors' workers; here they are bytes. The methods block
for as long as the hub, which is in this process, takes to answer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool._core.task import PLAIN, Terms
from scalepool._runtime.functions import Function
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.packing import Packed
from scalepool._runtime.puts import keep_packed
from scalepool._runtime.remote import ONE_CPU, group_of
from scalepool._runtime.travel.record import CodeRecord
from scalepool._runtime.values import values_of
from scalepool._wire.actors import ActorFound, EndActor, EndMode, FindActor, OpenActor
from scalepool._wire.bundles import MAIN
from scalepool.errors import ScalepoolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalepool._runtime.cluster_driver import ClusterSession, ClusterStation
    from scalepool._runtime.refs import ObjectRef
    from scalepool._runtime.slots import Slot
    from scalepool._wire.stewards import Way

__all__ = ["House", "Opening"]

_LONGEST_S: Final = 1e9


class Opening(NamedTuple):
    """What becomes of a wish for an actor.

    Attributes
    ----------
    verdict
        ``"open"``: it is to be made now; ``"taken"``: another one has its name; ``"code"``: first send the code of
        these modules; ``"refused"``: it cannot be, for this reason.
    actor
        A reference to the one that is meant.
    meta
        What a handle of it needs.
    details
        Names of modules, or the reason.
    """

    verdict: str
    actor: ObjectRef[Any] | None = None
    meta: bytes = b""
    details: Sequence[str] = ()


class _Owned(NamedTuple):
    """What is known of an actor; ``code`` are the modules that its program had."""

    name: bytes
    label: bytes
    code: Mapping[str, str]


class House:
    """Owns them.

    Parameters
    ----------
    session
        The steward's own, on the cluster.
    """

    def __init__(self, session: ClusterSession) -> None:
        self.session = session
        self.client = session.client
        self.values = values_of(session.client)
        station: Any = session.station
        self._station: ClusterStation = station
        self.code = CodeRecord(station.answer_soon)
        station.serve_code(self.code)
        self._owned: dict[int, _Owned] = {}
        self._functions: dict[int, Function] = {}

    # ---- actors begin and end ----

    def find(self, name: bytes) -> tuple[ObjectRef[Any], bytes] | None:
        """Return the actor with this name, and what a handle of it needs; ``None``: there is none."""
        request = self.client.new_object_id()
        with self.client.questions.asked(request, FindActor(request, name)) as found:
            return (self._adopt(found), found.meta) if found.actor else None

    def open(self, wanted: OpenActor, code: Mapping[str, str]) -> Opening:
        """A program wants an actor, and has this code; what makes it comes later, by ``make``."""
        missing = self.code.missing(code)
        reason = self._conflict(code)
        if reason:
            return Opening("refused", details=[reason])
        if missing:
            return Opening("code", details=missing)
        try:
            home = group_of(self.session, ONE_CPU, "detached actors").group_id
        except ScalepoolError as error:
            return Opening("refused", details=[str(error)])
        actor = self.client.new_object_id()
        opened = wanted._replace(actor=actor, home=home, detached=1)
        owned = _Owned(wanted.name, wanted.label, dict(code))
        if not wanted.name:
            self.client.post(opened, now=True)
            self._owned[actor] = owned
            return Opening("open", self.values.adopt(actor, actor, _name_of(owned)), wanted.meta)
        with self.client.questions.asked(actor, opened) as found:
            if found.actor == actor:
                self._owned[actor] = owned
            return Opening("open" if found.actor == actor else "taken", self._adopt(found), found.meta)

    def _adopt(self, found: ActorFound) -> ObjectRef[Any]:
        owned = self._owned.get(found.actor)
        return self.values.adopt(found.actor, found.actor, "" if owned is None else _name_of(owned))

    def _conflict(self, code: Mapping[str, str]) -> str:
        """Return why this code cannot be had beside that of the actors that live; empty: it can."""
        for owned in self._living().values():
            for name, digest in code.items():
                if name != MAIN and owned.code.get(name, digest) != digest:
                    return (
                        f"this program's module {name!r} is another one than that of the detached actor "
                        f"{_name_of(owned)}, and all detached actors of a cluster share their modules: end that actor "
                        "(scalepool.kill) first, or rename the module"
                    )
        return ""

    def make(self, actor: ObjectRef[Any], function: tuple[bytes, Packed], call: Packed, needs: Sequence[Any]) -> None:
        """Have an actor's object made, by a function with these arguments."""
        kept = KeptCall(actor._slot().name, 1, PLAIN, 0)
        kept.needs = [need.id for need in needs]
        # What the function lies in goes with the call: it is never sent again.
        packed = function[1]
        whole = Packed(
            call.data, (*call.references, *packed.references), (*call.segments, *packed.segments),
            call.size_bytes + packed.size_bytes,
        )  # fmt: skip
        made = Function(Packed(packed.data, (), (), len(packed.data)), kept.name)
        self.values.enqueue(
            actor.id, made, (whole.data, whole if whole.references else None, whole.size_bytes), kept, actor.id
        )
        self.client.pump.kick(now=True)

    def call(
        self, actor: ObjectRef[Any], way: Way, returns: int, call: Packed, needs: Sequence[Any]
    ) -> list[ObjectRef[Any]]:
        """Call a method; return references to what it returns."""
        function = Function(Packed(way.function, (), (), len(way.function)), way.label)
        function = self._functions.setdefault(function.id, function)
        if len(self._functions) > 1000:
            self._functions.pop(next(iter(self._functions)))
        terms = Terms(way.retries, min(way.limit_s, _LONGEST_S)) if way.retries or way.limit_s else PLAIN
        kept = KeptCall(way.label, returns, terms, 0)
        kept.needs = [need.id for need in needs]
        return self.values.enqueue(
            actor.id, function, (call.data, call if call.references else None, call.size_bytes), kept
        )

    def end(self, actor: ObjectRef[Any], mode: EndMode) -> None:
        """End an actor."""
        self.client.post(EndActor(actor.id, mode), now=True)

    # ---- what programs bring ----

    def keep(self, value: Packed) -> ObjectRef[Any]:
        """Keep a value that a call needs."""
        return keep_packed(self.values, "an argument", value)

    def find_object(self, object_id: int) -> int | None:
        """Return a new descriptor of an object of the session; ``None``: it is gone."""
        return self._station.find_object(object_id)

    def cancel(self, slots: Sequence[Slot]) -> None:
        """Cancel the calls that make these, where they have not begun."""
        from scalepool._wire.messages import Cancel

        self.client.post(Cancel(tuple(dict.fromkeys(slot.task for slot in slots))), now=True)

    # ---- what there is ----

    def _living(self) -> dict[int, _Owned]:
        there = {number for number, _, _ in self.session.hub.detached()}
        self._owned = {number: owned for number, owned in self._owned.items() if number in there}
        return self._owned

    def report(self) -> bytes:
        """Return which actors there are, as JSON, for `Owned`."""
        facts = {number: (pid, restarts) for number, pid, restarts in self.session.hub.detached()}
        rows = []
        for number, owned in self._living().items():
            namespace, _, name = owned.name.decode("utf-8", "replace").rpartition("\0")
            pid, restarts = facts.get(number, (0, 0))
            rows.append(
                {"actor": number, "name": name, "namespace": namespace, "class": owned.label.decode("utf-8", "replace"),
                 "pid": pid, "restarts": restarts}
            )  # fmt: skip
        return json.dumps(rows).encode()


def _name_of(owned: _Owned) -> str:
    cls = owned.label.decode("utf-8", "replace")
    return f"{owned.name.decode('utf-8', 'replace').rpartition(chr(0))[2]!r} ({cls})" if owned.name else f"{cls}()"
