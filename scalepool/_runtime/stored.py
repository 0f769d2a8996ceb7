"""Large buffers of arguments: written into the store once, however many tasks carry them.

The same array is often an argument of many tasks, or part of a function that is sent with each call. So each large
buffer becomes an object of its own, and while some outstanding task carries it, the next task that comes with the same
buffer refers to that object. When the last of them has ended it is freed, and its memory is written again by the next.

Never stale. That a buffer lies at the same address says nothing about what is in it by now, so its bytes are compared
with those in the store: that is reading twice (70 ms per GiB) instead of writing (80 ms into memory that is being
recycled, 500 ms into fresh memory), holds no second copy, and is right whoever changed the array in between. Only where
the caller states that arguments do not change is the comparison left out: all items of one ``map`` are taken as they
were when the first task with that buffer was made. That statement is a `Snapshot`. It trusts the identity of the
memory's owner, not the address alone: a temporary array that ``__getstate__`` makes may come to lie where the last one
was.

A large global of functions that travel by value is kept for as long as the array itself lives. The workers hold it in
any case, and whether the next call must send it anew is then told by comparing, in place of a digest (1 s per GiB).
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from contextlib import contextmanager

from scalepool._base.clock import monotonic_s
from scalepool._wire import messages as m
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

SHARED_BYTES = 1 << 20
"""Buffers from this size on become objects of their own; smaller ones are copied as fast as they are looked up."""

_SETTLE_S = 0.05
"""How long a large object waits for memory to be given back that it could be written into."""

_COMPARE_BYTES = 1 << 24  # at a time; between two of these a difference that another thread has found ends it
_COMPARE_ALONE_BYTES = 64 << 20
_COMPARE_THREADS = 4  # more do not read faster on most machines
_LOOK_BYTES = 1 << 24
_BLOCK_BYTES = 4096
_BLOCKS = 64


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


class _Entry:
    """Which object holds the bytes of some memory, and whose memory that was."""

    __slots__ = ("owner", "stored")

    def __init__(self, stored: weakref.ref[StoredObject], owner: Callable[[], Any]) -> None:
        self.stored = stored
        self.owner = owner


class StoredBuffers:
    """The large buffers that tasks of this process carry.

    Parameters
    ----------
    owner
        The client whose store it is.
    limit_bytes
        More than this is not written for outstanding tasks, but for one object.
    """

    def __init__(self, owner: Owner, limit_bytes: int) -> None:
        self._owner = owner
        self._limit_bytes = limit_bytes
        self._entries: dict[tuple[int, int], _Entry] = {}  # by address and size
        self._kept: dict[tuple[int, int], tuple[StoredObject, weakref.ref[Any]]] = {}
        self._look = _Look()
        self.carried = Carried()

    def put(self, parts: Sequence[Any]) -> StoredObject:
        """Write contiguous buffers into the store, one after the other, as one object.

        Raises
        ------
        StoreError
            When no memory or no file descriptor is left.
        """
        owner, outgoing = self._owner, self._owner.outgoing
        if outgoing.released:
            # The hub has not heard yet of memory that could be written again: tell it first.
            owner.pump.wait_for(lambda: not outgoing.released, monotonic_s() + _SETTLE_S)
        ref = owner.store.create(owner.new_object_id(), parts)
        outgoing.held.add(ref.object_id)
        stored = StoredObject(ref, outgoing.released)
        owner.post(m.Put(tuple(ref)))
        return stored

    def make_room(self) -> None:
        """Wait while too many bytes were written for outstanding tasks; not in a callback."""
        carried, pump = self.carried, self._owner.pump
        if carried.bytes > self._limit_bytes and not pump.is_mine:
            pump.wait_for(lambda: carried.bytes <= self._limit_bytes or self._owner.closed)

    def find(self, view: memoryview, snapshot: Snapshot | None) -> StoredObject | None:
        """Return the object that holds these very bytes, if there is one."""
        origin = _origin(view)
        entry = self._entries.get(origin[0]) if origin is not None else None
        stored = entry.stored() if entry is not None else None
        if origin is None or entry is None or stored is None:
            return None
        trusted = snapshot.objects if snapshot is not None else ()
        if stored.ref.object_id in trusted and entry.owner() is origin[1]:
            return stored
        content = self._owner.store.content(stored.ref.object_id)
        if content is None or content.nbytes != view.nbytes or not _are_equal(view, content):
            return None
        self._remember(origin, stored, snapshot)
        return stored

    def add(self, view: memoryview, snapshot: Snapshot | None) -> StoredObject:
        """Write a buffer into the store, to be found there; raises as `put`."""
        stored = self.put([view])
        origin = _origin(view)
        if origin is not None:
            self._remember(origin, stored, snapshot)
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
        origin = _origin(view)
        if origin is None or not self._owner.store.has_capacity():
            return None
        key, owner = origin
        kept = self._kept

        def forget(dead: weakref.ref[Any]) -> None:
            if kept.get(key, (None, None))[1] is dead:
                del kept[key]

        try:
            stored = self.find(view, self._look.snapshot) or self.add(view, self._look.snapshot)
            kept[key] = (stored, weakref.ref(owner, forget))
        except (StoreError, TypeError):  # no memory left; or an owner that cannot be watched
            return None
        return stored.ref.object_id

    def still_holds(self, stored: StoredObject, view: memoryview) -> bool:
        """Whether an object still looks like some memory: compared in full up to 16 MB, beyond that in samples."""
        content = self._owner.store.content(stored.ref.object_id)
        if content is None or content.nbytes != view.nbytes:
            return False
        return _look_alike(view, content) if view.nbytes > _LOOK_BYTES else _are_equal(view, content)

    def _remember(self, origin: tuple[tuple[int, int], Any], stored: StoredObject, snapshot: Snapshot | None) -> None:
        key, owner = origin
        entries = self._entries

        def forget(dead: weakref.ref[StoredObject]) -> None:
            entry = entries.get(key)
            if entry is not None and entry.stored is dead:
                del entries[key]

        try:
            entries[key] = _Entry(weakref.ref(stored, forget), weakref.ref(owner))
        except TypeError:  # no weak references to bytes and the like: such memory is compared each time
            entries[key] = _Entry(weakref.ref(stored, forget), _nobody)
        if snapshot is not None:
            snapshot.objects.add(stored.ref.object_id)


def _nobody() -> None:
    return None


def _origin(view: memoryview) -> tuple[tuple[int, int], Any] | None:
    """Return where a buffer lies (address, size) and whose memory it is; ``None`` where there can be no arrays."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "frombuffer"):  # not there, or half imported
        return None
    address = numpy.frombuffer(view, "u1").__array_interface__["data"][0]
    owner: Any = view.obj
    while True:
        if isinstance(owner, numpy.ndarray) and owner.base is not None:
            owner = owner.base
        elif isinstance(owner, memoryview):
            owner = owner.obj
        else:
            return (address, view.nbytes), owner


def _are_equal(one: memoryview, other: memoryview) -> bool:
    """Compare the bytes of two buffers of one size, large ones in several threads: numpy lets go of the lock."""
    threads = min(os.cpu_count() or 1, _COMPARE_THREADS) if one.nbytes >= _COMPARE_ALONE_BYTES else 1
    share = -(-one.nbytes // threads // _COMPARE_BYTES) * _COMPARE_BYTES
    differences: list[int] = []
    helpers = [
        threading.Thread(target=_find_difference, args=(one, other, start, start + share, differences), daemon=True)
        for start in range(share, one.nbytes, share)
    ]
    for helper in helpers:
        helper.start()
    _find_difference(one, other, 0, share, differences)
    for helper in helpers:
        helper.join()
    return not differences


def _find_difference(one: memoryview, other: memoryview, start: int, stop: int, differences: list[int]) -> None:
    import ctypes

    numpy: Any = sys.modules["numpy"]
    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    mine, theirs = (numpy.frombuffer(part, "u1").__array_interface__["data"][0] for part in (one, other))
    stop = min(stop, one.nbytes)
    for at in range(start, stop, _COMPARE_BYTES):
        if differences or memcmp(mine + at, theirs + at, min(_COMPARE_BYTES, stop - at)):
            differences.append(at)
            return


def _look_alike(one: memoryview, other: memoryview) -> bool:
    """Compare some blocks, evenly spread."""
    numpy: Any = sys.modules["numpy"]
    blocks = one.nbytes // _BLOCK_BYTES
    mine, theirs = (
        numpy.frombuffer(part, "u1", blocks * _BLOCK_BYTES).reshape(blocks, -1)[:: blocks // _BLOCKS]
        for part in (one, other)
    )
    return bool((mine == theirs).all())


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
