"""The values that this process has references to: how many, what is known of them, and how they are waited for.

Counting. Each reference that appears here, and each that dies, appends one number to a queue: a finalizer may run at
any moment, in any thread, and must do nothing else. Whoever pumps adds them up and tells the hub what this process
holds now. News of a new reference always travels before the end of the task, or the release of the value, that brought
it, so a value is never forgotten between two hands.

What arrives stays packed until somebody asks for it: each ``get`` makes an object of its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._base.ids import take_in_a_row
from scalepool._runtime import moved
from scalepool._runtime.fates import error_in
from scalepool._runtime.generators import Stream
from scalepool._runtime.recovery import renew
from scalepool._runtime.refs import ObjectRef
from scalepool._runtime.slots import ENDED, UNASKED, WAITING, Slot
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.payload import dumps_scalars
from scalepool.errors import SessionError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scalepool._runtime.client import Client, GroupState
    from scalepool._runtime.functions import Function
    from scalepool._runtime.futures import TaskFuture
    from scalepool._runtime.outgoing import KeptCall
    from scalepool._runtime.packing import Packed
    from scalepool._runtime.producing import Producer
    from scalepool._store.files import SegmentRef
    from scalepool._store.mapping import ViewMode

__all__ = ["Values", "deadline_of", "values_of"]

_VALUE: Final = int(Status.VALUE)
_LOADED: Final = frozenset({_VALUE, int(Status.ERROR)})
"""How a value ends whose payload is something packed; a large error travels as values do."""
_PICKLE: Final = 0x80
_LOOK_S: Final = 0.4
"""How long it takes at most until somebody notices that the last reference to a value has died."""
_CANCEL_WAIT_S: Final = 0.25
_KILL_WAIT_S: Final = 5.0


class Values:
    """All values that this process has references to.

    Parameters
    ----------
    client
        Whose they are.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = client.session
        self.changes = client.outgoing.changes
        self.table: dict[int, Slot] = {}
        self.awaited = 0
        """How many of them a reply will come for."""
        self.groups: dict[Any, Any] = {}
        """The groups that calls of this process run in, by the group of the task that submits them and their need."""
        self.actors: set[int] = set()
        """Those values that are handles of actors."""
        self.streams: dict[int, Stream] = {}
        """Those that this process reads, by the task that makes them."""
        self.producers: dict[int, Producer] = {}
        """Those that it makes."""
        # Reentrant: the collector may run user code while this thread holds it.
        self.lock = threading.RLock()
        self.futures: set[TaskFuture] = set()
        """Those that stand for values; see ``future_of``."""
        client.outgoing.values = self
        client.pump.parked_look_s = _LOOK_S
        client.kept = self

    # ---- making values ----

    def submit(
        self, group: GroupState, function: Function, call: tuple[tuple[Any, ...], dict[str, Any]], kept: KeptCall
    ) -> list[ObjectRef[Any]]:
        """Submit one call; ``kept`` says how its results are kept, and is filled in.

        Raises
        ------
        SerializationError
            When an argument cannot be pickled.
        SessionError
            When the session has ended, or an argument is a reference of another one.
        """
        return self.enqueue(group.id, function, self.pack(call, kept), kept)

    def enqueue(
        self, group: int, function: Function, arguments: tuple[bytes, Packed | None, int], kept: KeptCall, task: int = 0
    ) -> list[ObjectRef[Any]]:
        """Submit one call whose arguments are packed; ``task`` is its number, if it has one already."""
        client = self.client
        data, packed, size_bytes = arguments
        earlier = self.table.get(task)  # an actor that another thread has found by its name already
        task = task or take_in_a_row(client.new_object_id, kept.count)
        refs: list[ObjectRef[Any]] = []
        count = kept.count
        for value in range(task, task + count):
            slot = self.table[value] = Slot(value, task, kept.name, WAITING)
            slot.held = True
            slot.count = 1
            refs.append(ObjectRef(value, self))
        self.table[task].size_bytes = size_bytes
        with self.lock:
            self.awaited += count
            if earlier is not None:
                self.table[task].count += earlier.count
        if kept.returns < 0:
            self.streams[task] = Stream(self, self.table[task], -kept.returns)
        kept.call = (group, kept.terms, task, function, data, packed)
        client.outstanding_bytes += size_bytes
        if packed is not None or function.packed.stored:
            client.stored.carried.begin(task, packed, function)
        queue = client.outgoing.queue
        queue.append(kept)
        needs = kept.needs
        client.send_soon(len(queue), group, waits=bool(needs) and any(self.table[need].status < 0 for need in needs))
        return refs

    def pack(self, call: tuple[tuple[Any, ...], dict[str, Any]], kept: KeptCall) -> tuple[bytes, Packed | None, int]:
        """Pickle the arguments; references among them become needs, and the pickle says where their values go."""
        args, kwargs = call
        limit_bytes = self.client.inline_limit_bytes
        data = dumps_scalars(args, kwargs, limit_bytes)
        if data is not None:
            return data, None, len(data)
        where: list[int | str] = []
        needs: list[int] = []
        given: tuple[Any, ...] = args
        called: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for place, value in called:
            if isinstance(value, ObjectRef):
                if value._table() is not self:
                    raise SessionError(f"{value!r} belongs to another session")
                needs.append(value.id)
                where.append(place)
        if needs:
            given = tuple(None if isinstance(value, ObjectRef) else value for value in args)
            kwargs = {key: None if isinstance(value, ObjectRef) else value for key, value in kwargs.items()}
            kept.needs = needs
            data = dumps_scalars(given, kwargs, limit_bytes, where)
            if data is not None:
                return data, None, len(data)
        whole = (given, kwargs, where) if needs else (given, kwargs)
        packed = self.client.packer.pack(whole, label=("args", "kwargs", "")[: len(whole)])
        return packed.data, packed if packed.references else None, packed.size_bytes

    def adopt(self, value: int, task: int, name: str) -> ObjectRef[Any]:
        """Return a reference that came from elsewhere."""
        with self.lock:
            self.changes.append(value)
            if value not in self.table:
                self.table[value] = Slot(value, task, name, UNASKED)
        return ObjectRef(value, self)

    # ---- counting ----

    def lend(self, references: Sequence[int]) -> list[int]:
        """Count one more reference to each of these that is a value here, and return those."""
        lent = [reference for reference in references if reference in self.table]
        self.changes.extend(lent)
        return lent

    def settle(self) -> tuple[list[int], list[int]]:
        """Add up the references that came and went; return the values to Hold, and the values and objects to Release.

        Called by whoever pumps.
        """
        hold: list[int] = []
        release: list[int] = []
        with self.lock:
            changed: dict[int, Slot] = {}
            while self.changes:
                change = self.changes.popleft()
                slot = self.table.get(abs(change))
                if slot is not None:
                    slot.count += 1 if change > 0 else -1
                    changed[slot.id] = slot
            for slot in changed.values():
                if slot.count <= 0:
                    if slot.watchers and slot.status == WAITING:
                        continue  # somebody waits without a reference, as finalizers run in any order; see ``arrived``
                    if slot.id in self.actors and self.client.questions.hold_back(slot.id):
                        continue
                    release.append(slot.id)
                    release.extend(self._drop(slot))
                elif not slot.held:
                    slot.held = True
                    hold.append(slot.id)
        return hold, release

    def _drop(self, slot: Slot) -> list[int]:
        """Forget a value; return the objects it lay in that nobody here reads."""
        del self.table[slot.id]
        self.actors.discard(slot.id)
        if self.streams:
            stream = self.streams.pop(slot.id - 1, None)  # if it was the right to read one: that comes after its end
            if stream is not None:
                stream.close()
        if slot.status == WAITING:
            self.awaited -= 1
            self._ended(slot.id, slot.size_bytes)
        if not slot.places:
            return []
        self.client.outgoing.held.difference_update(slot.places)
        return [object_id for object_id in slot.places if not self.client.views.live(object_id)]

    # ---- what comes in ----

    def arrived(self, value: int, status: int, data: bytes, places: Mapping[int, SegmentRef]) -> None:
        """A value is there, or never will be."""
        own = self.client.packer.objects_of(data) if status in _LOADED and data[0] != _PICKLE else ()
        with self.lock:
            slot = self.table.get(value)
            if slot is None or slot.status >= 0:
                if slot is None:
                    self.client.outgoing.released.extend(own)
                elif own and slot.status == _VALUE == status:
                    renew(self, slot, data, {one: places[one] for one in own if one in places})
                return
            if slot.status == WAITING:
                self.awaited -= 1
            if own:
                slot.places = {object_id: places[object_id] for object_id in own if object_id in places}
                self.client.outgoing.held.update(slot.places)
            slot.data = data
            slot.status = status
            watchers, slot.watchers = slot.watchers, None
            size_bytes, slot.size_bytes = slot.size_bytes, 0
        self._ended(value, size_bytes)
        for watcher in watchers or ():
            watcher(slot)
        if slot.count <= 0:
            self.changes.extend((value, -value))  # to have it looked at again

    def take_in(self, message: m.Yielded | m.Taken) -> None:
        """A value of a stream is there for its reader, or was taken by it."""
        if type(message) is m.Taken:
            producer = self.producers.get(message.task)
            if producer is not None:
                producer.note_taken(message.taken)
            return
        assert type(message) is m.Yielded
        stream = self.streams.get(message.task)
        name = stream.name if stream else ""
        refs: list[ObjectRef[Any]] = []
        for value in message.values:
            slot = self.table[value] = Slot(value, message.task, name, WAITING)
            slot.held = True
            slot.count = 1
            refs.append(ObjectRef(value, self))
        with self.lock:
            self.awaited += len(refs)
        if stream is not None:  # else nobody reads them any more, and the references that die here tell the hub
            stream.add(refs)

    def _ended(self, task: int, size_bytes: int) -> None:
        """A task has ended, or nobody here wants to know."""
        self.client.outstanding_bytes -= size_bytes
        carried = self.client.stored.carried
        if carried.tasks:
            carried.end(task)

    def want(self, slots: Iterable[Slot]) -> None:
        """Ask for those that came from elsewhere."""
        with self.lock:
            unasked = [slot for slot in dict.fromkeys(slots) if slot.status == UNASKED]
            for slot in unasked:
                slot.status = WAITING
            self.awaited += len(unasked)
        if unasked:
            self.client.post(m.Want([slot.id for slot in unasked]), now=True)

    # ---- waiting ----

    def slots(self, refs: Sequence[ObjectRef[Any]]) -> list[Slot]:
        """Return what is known of these values, and see to it that more will be."""
        slots = []
        for ref in refs:
            if ref._table() is not self:
                raise SessionError(f"{ref!r} belongs to another session")
            slots.append(self.table.get(ref.id) or self.again(ref.id))
        if any(slot.status == UNASKED for slot in slots):
            self.want(slots)
        return slots

    def again(self, value: int) -> Slot:
        """Return a new slot for a value whose last reference is dead already, and is used by another finalizer."""
        with self.lock:
            return self.table.setdefault(value, Slot(value, value, "", UNASKED))

    def watch(self, slots: Iterable[Slot], watcher: Callable[[Slot], None]) -> None:
        """Have ``watcher`` called with each slot that is over, at once or by whoever pumps."""
        over = []
        with self.lock:
            for slot in slots:
                if slot.status >= 0:
                    over.append(slot)
                elif slot.watchers is None:
                    slot.watchers = [watcher]
                else:
                    slot.watchers.append(watcher)
        for slot in over:
            watcher(slot)

    def unwatch(self, slots: Iterable[Slot], watcher: Callable[[Slot], None]) -> None:
        """Stop that."""
        with self.lock:
            for slot in slots:
                if slot.watchers is not None and watcher in slot.watchers:
                    slot.watchers.remove(watcher)

    def load(self, slot: Slot, mode: ViewMode = "r") -> Any:
        """Return a new object that is the value, or raise what became of it."""
        if slot.status == _VALUE:
            try:
                return self.client.packer.unpack(slot.data, slot.places or {}, mode)
            except StoreError as error:
                return moved.read_again(self, slot, mode, error)
        raise error_in(slot, self)

    def cancel(self, ref: ObjectRef[Any], *, force: bool, recursive: bool) -> bool:
        """Cancel the task that makes a value; return whether it is cancelled."""
        (slot,) = self.slots([ref])
        if not slot.is_over:
            client, task = self.client, slot.task
            client.refused.discard(task)
            client.post((m.Stop if force else m.Cancel)((task,), int(recursive)), now=True)
            deadline = monotonic_s() + (_KILL_WAIT_S if force else _CANCEL_WAIT_S)
            client.pump.wait_for(lambda: slot.is_over or task in client.refused, deadline)
            client.refused.discard(task)
        return slot.status == Status.CANCELLED

    def close(self, error: BaseException) -> None:
        """End all futures; nothing comes any more."""
        for future in list(self.futures):
            future.settle(None, error)
        self.futures.clear()
        with self.lock:
            pending = [slot for slot in self.table.values() if slot.status < 0]
            for slot in pending:
                slot.status = ENDED
        self.table.clear()
        self.streams.clear()
        self.awaited = 0
        for slot in pending:
            watchers, slot.watchers = slot.watchers, None
            for watcher in watchers or ():
                watcher(slot)


_making = threading.Lock()


def values_of(client: Client) -> Values:
    """Return the values of a client, with a table for them from now on."""
    if client.kept is None:
        with _making:
            if client.kept is None:
                Values(client)
    assert client.kept is not None
    return client.kept


def deadline_of(timeout_s: float | None) -> float | None:
    """Return when so many seconds will be over, as `monotonic_s` tells it; a negative number is none at all.

    Raises
    ------
    TypeError
        When it is no number.
    """
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not hasattr(timeout_s, "__float__"):
        raise TypeError(f"timeout must be a number of seconds, or None, not {timeout_s!r}")
    return monotonic_s() + max(0.0, float(timeout_s))
