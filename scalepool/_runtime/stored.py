"""Large buffers of arguments: written into the store once, however many tasks carry them.

The same array is often an argument of many tasks, or part of a function that is sent with each call. So each large
buffer becomes an object of its own, and the next task that comes with the same bytes refers to that object. It is freed
when the last task that carries it has ended and the array is gone, or was not used for a while; see ``retained``. Then
its memory is written again by the next.

Never stale. That a buffer lies at the same address says nothing about what is in it by now, so its bytes are compared
with those in the store: that is reading twice (70 ms per GiB) instead of writing (80 ms into memory that is being
recycled, 500 ms into fresh memory), holds no second copy, and is right whoever changed the array in between. What to
compare with is found by a sample of the bytes, so where they lie does not matter either: copies that a class makes of
itself when it is pickled are known again.

Only where the caller states that arguments do not change is the comparison left out: all items of one ``map`` are taken
as they were when the first task with that buffer was made. That statement is a `Snapshot`. It trusts the identity of
the memory's owner, not the address alone: a temporary array that ``__getstate__`` makes may come to lie where the last
one was. And ``bytes`` cannot change, so they are never compared while somebody holds them.

A large global of functions that travel by value is kept for as long as the array itself lives. The workers hold it in
any case, and whether the next call must send it anew is then told by comparing, in place of a digest (1 s per GiB).
"""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import contextmanager

from scalepool._base.clock import monotonic_s
from scalepool._base.tuples import NamedTuple
from scalepool._runtime.retained import Retained
from scalepool._wire import messages as m
from scalepool._wire.pickling.arrays import source_of
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol

    from scalepool._runtime.functions import Function
    from scalepool._runtime.outgoing import Outgoing
    from scalepool._runtime.packing import Packed
    from scalepool._runtime.pump import Pump
    from scalepool._store.files import SegmentRef
    from scalepool._store.segments import SegmentStore

    class Owner(Protocol):
        """What is needed of a client."""

        store: SegmentStore
        outgoing: Outgoing
        pump: Pump
        new_object_id: Callable[[], int]
        closed: bool

        def post(self, message: m.Message) -> None:
            """Queue a message for the hub."""


__all__ = ["SHARED_BYTES", "Carried", "Snapshot", "StoredBuffers", "StoredObject"]

SHARED_BYTES = 1 << 17
"""Buffers from this size on may become objects of their own; smaller ones are copied as fast as they are looked up."""

_SHARED_AT_ONCE_BYTES = 1 << 20
"""From this size on they do when they are first met, below it when they are met again: most never are, and an object of
its own costs a tenth of a millisecond."""
_MET = 256

_SETTLE_S = 0.05
"""How long a large object waits for memory to be given back that it could be written into."""
_WORTH_WAITING_BYTES = 1 << 20


class StoredObject:
    """Keeps an object that this process made in the store, while it is referred to."""

    __slots__ = ("__weakref__", "_released", "ref")

    def __init__(self, ref: SegmentRef, released: deque[int]) -> None:
        self.ref = ref
        self._released = released

    def __del__(self) -> None:
        # One step in C: a finalizer may run at any moment, in any thread.
        self._released.append(self.ref.object_id)


class Snapshot:
    """A caller's word that arguments do not change: large buffers count as they were when first seen with it."""

    __slots__ = ("objects",)

    def __init__(self) -> None:
        self.objects: set[int] = set()


class _Look(threading.local):
    """The snapshot of the pickling that this thread is in."""

    snapshot: Snapshot | None = None


class _Entry(NamedTuple):
    """Which object holds the bytes of some memory, and whose memory that was."""

    stored: weakref.ref[StoredObject]
    owner: Callable[[], Any]


class _Origin(NamedTuple):
    """Where some bytes come from.

    Attributes
    ----------
    key
        Tells them from all others that exist at the same time.
    owner
        Whose memory it is; ``None`` when it is gone as soon as the value is pickled.
    is_watchable
        Whether the owner allows weak references, and lives as long as the memory.
    """

    key: tuple[Any, ...]
    owner: Any
    is_watchable: bool


class StoredBuffers:
    """The large buffers that tasks of this process carry.

    Parameters
    ----------
    owner
        The client whose store it is.
    limit_bytes
        More than this is not written for outstanding tasks, but for one object.
    retained_bytes
        How much stays after the last task that carried it.
    """

    def __init__(self, owner: Owner, limit_bytes: int, retained_bytes: int) -> None:
        self._owner = owner
        self._limit_bytes = limit_bytes
        self._entries: dict[tuple[Any, ...], _Entry] = {}  # by origin
        self._alike: dict[int, weakref.ref[StoredObject]] = {}  # by sample
        self._met: dict[int, None] = {}  # samples of buffers that did not become objects
        self._look = _Look()
        self.retained = Retained(retained_bytes)
        self.carried = Carried()

    def put(self, parts: Sequence[Any]) -> StoredObject:
        """Write contiguous buffers into the store, one after the other, as one object.

        Raises
        ------
        StoreError
            When no memory or no file descriptor is left.
        """
        owner, outgoing = self._owner, self._owner.outgoing
        if outgoing.released and sum(memoryview(part).nbytes for part in parts) >= _WORTH_WAITING_BYTES:
            # The hub has not heard yet of memory that could be written again: tell it first.
            owner.pump.wait_for(lambda: not outgoing.released, monotonic_s() + _SETTLE_S)
        ref = owner.store.create(owner.new_object_id(), parts)
        outgoing.held.add(ref.object_id)
        stored = StoredObject(ref, outgoing.released)
        owner.post(m.Put(tuple(ref)))
        return stored

    def share(self, view: memoryview) -> StoredObject:
        """Return the object that holds these very bytes, made now if there is none; raises as `put`."""
        return self.find(view, None) or self.add(view, None)

    def make_room(self) -> None:
        """Wait while too many bytes were written for outstanding tasks; not in a callback."""
        carried, pump = self.carried, self._owner.pump
        if carried.bytes > self._limit_bytes and not pump.is_mine:
            pump.wait_for(lambda: carried.bytes <= self._limit_bytes or self._owner.closed)

    def find(self, view: memoryview, snapshot: Snapshot | None, *, retain: bool = True) -> StoredObject | None:
        """Return the object that holds these very bytes, if there is one; keep it for the next call to `retain` it."""
        from scalepool._store.content import are_equal, sample_of  # programs without large objects need no ctypes

        origin = _origin_of(view)
        stored = self._trusted(origin, snapshot)
        if stored is None:
            sample = sample_of(view)
            known = self._alike.get(sample)
            stored = known() if known is not None else None
            content = self._owner.store.content(stored.ref.object_id) if stored is not None else None
            if stored is None or content is None or not are_equal(view, content):
                self._outdate(origin)
                return None
            self._remember(origin, sample, stored, snapshot)
        if retain:
            self.retained.keep(stored, origin.owner if origin.is_watchable else None)
        return stored

    def recurs(self, view: memoryview) -> bool:
        """Whether a buffer that was not found is worth an object of its own."""
        from scalepool._store.content import sample_of

        if view.nbytes >= _SHARED_AT_ONCE_BYTES:
            return True
        sample, met = sample_of(view), self._met
        if sample in met:
            return True
        met[sample] = None
        if len(met) > _MET:
            met.pop(next(iter(met)), None)
        return False

    def _trusted(self, origin: _Origin, snapshot: Snapshot | None) -> StoredObject | None:
        """Return the object of the same memory, if nobody can have changed that meanwhile."""
        entry = self._entries.get(origin.key)
        if entry is None or origin.owner is None:
            return None
        stored, owner = entry.stored(), entry.owner()
        # Arrow wraps its memory anew each time; but we hold the first wrapper, so the same address is the same memory.
        is_same = owner is origin.owner or (_is_arrow(owner) and _is_arrow(origin.owner))
        if stored is None or not is_same:
            return None
        is_snapshot = snapshot is not None and stored.ref.object_id in snapshot.objects
        return stored if is_snapshot or type(owner) is bytes else None

    def _outdate(self, origin: _Origin) -> None:
        """Let go of the bytes that this memory had before."""
        entry = self._entries.get(origin.key)
        stored = entry.stored() if entry is not None else None
        if stored is not None:
            self.retained.drop(stored.ref.object_id)

    def add(self, view: memoryview, snapshot: Snapshot | None, *, retain: bool = True) -> StoredObject:
        """Write a buffer into the store, to be found there (and kept, as by `find`); raises as `put`."""
        from scalepool._store.content import sample_of

        sample = sample_of(view)
        stored = self.put([view])
        origin = _origin_of(view)
        self._remember(origin, sample, stored, snapshot)
        if retain:
            self.retained.keep(stored, origin.owner if origin.is_watchable else None)
        return stored

    @contextmanager
    def one_look(self) -> Iterator[Snapshot]:
        """Look at each buffer once in the following, which is one pickling in this thread."""
        snapshot = self._look.snapshot = Snapshot()
        try:
            yield snapshot
        finally:
            self._look.snapshot = None

    def keep(self, view: memoryview) -> int | None:
        """Keep the bytes of an array in the store while the array lives; return the number of the object.

        It is another one when the bytes have changed. ``None`` when they cannot be kept.
        """
        origin = _origin_of(view)
        if not origin.is_watchable or not self._owner.store.has_capacity():
            return None
        snapshot = self._look.snapshot
        try:
            stored = self.find(view, snapshot) or self.add(view, snapshot)
        except StoreError:  # no memory left
            return None
        self.retained.keep(stored, origin.owner, pin=True)
        return stored.ref.object_id

    def rest(self, now: float, *, tight: bool) -> None:
        """Give up what nobody has used for some seconds, or all that no task carries while memory is short."""
        if tight:
            self.retained.give_up()
        self.retained.expire(now)

    def clear(self) -> None:
        """Let go of everything."""
        self.retained.clear()
        self.carried.clear()

    def still_holds(self, stored: StoredObject, view: memoryview) -> bool:
        """Whether an object still looks like some memory: compared in full up to 16 MB, beyond that in samples."""
        from scalepool._store.content import look_alike

        content = self._owner.store.content(stored.ref.object_id)
        return content is not None and content.nbytes == view.nbytes and look_alike(view, content)

    def _remember(self, origin: _Origin, sample: int, stored: StoredObject, snapshot: Snapshot | None) -> None:
        entries, alike, key = self._entries, self._alike, origin.key

        def forget(dead: weakref.ref[StoredObject]) -> None:
            entry = entries.get(key)
            if entry is not None and entry.stored is dead:
                entries.pop(key, None)
            if alike.get(sample) is dead:
                alike.pop(sample, None)

        reference = weakref.ref(stored, forget)
        alike[sample] = reference
        owner = origin.owner
        if owner is not None:
            entries[key] = _Entry(reference, weakref.ref(owner) if origin.is_watchable else lambda: owner)
        if snapshot is not None:
            snapshot.objects.add(stored.ref.object_id)


def _is_arrow(owner: object) -> bool:
    return type(owner).__module__.startswith("pyarrow")


_VIEW_REFERENCES = 3  # of the view, of the variable, and of the call that counts


def _origin_of(view: memoryview) -> _Origin:
    """Return whose memory a contiguous buffer is."""
    from scalepool._store.content import address_of

    numpy: Any = sys.modules.get("numpy")
    array_type: Any = getattr(numpy, "ndarray", ())  # numpy may not be there, or be half imported
    key: tuple[Any, ...] = (address_of(view), view.nbytes)
    owner: Any = view.obj
    while True:
        source = source_of(owner)
        if source is not None:
            owner = source
            key = (source.__array_interface__["data"][0], view.nbytes, source.shape, source.strides)
        elif isinstance(owner, array_type) and owner.base is not None:
            owner = owner.base
        elif isinstance(owner, memoryview):
            owner = owner.obj
        else:
            break
    if _is_arrow(owner):
        return _Origin(key, owner, is_watchable=False)
    try:
        weakref.ref(owner)
    except TypeError:
        is_temporary = sys.getrefcount(owner) <= _VIEW_REFERENCES
        return _Origin(key, None if is_temporary else owner, is_watchable=False)
    return _Origin(key, owner, is_watchable=True)


class Carried:
    """Which outstanding tasks carry stored objects: those objects stay until the last such task has ended."""

    __slots__ = ("bytes", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[int, tuple[Packed | None, Function]] = {}
        self.bytes = 0
        """Written for them: to be bounded."""

    def begin(self, task: int, packed: Packed | None, function: Function) -> None:
        """A task goes out with arguments packed so and this function."""
        self.tasks[task] = (packed, function)
        if packed is not None:
            self.bytes += packed.stored_bytes

    def end(self, task: int) -> None:
        """A task has ended; it need not carry anything."""
        packed, _ = self.tasks.pop(task, _NOTHING)
        if packed is not None:
            self.bytes -= packed.stored_bytes

    def clear(self) -> None:
        """All have ended."""
        self.tasks.clear()
        self.bytes = 0


_NOTHING = (None, None)
