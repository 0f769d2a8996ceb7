"""Reading the segments of any process, and knowing which of them this process still reads.

A view is a mapping of the whole object. Whoever uses the memory (a memoryview, a numpy array, a slice of it) keeps
the mapping object alive; when it dies, nobody in this process can read the object any more, and `Views` learns it.

How it learns it. The mapping owns a token, and a weak reference to the *token* has ``deque.append`` as its callback:
one step in C, safe at any moment of a garbage collection and in any thread, without a lock. The token, not the
mapping, is watched because of reference cycles: the collector clears weak references to garbage *before* it runs the
garbage's ``__del__`` methods, and such a method may still read the memory, or even rescue it. An object that the
collector does not track is spared this: it dies when its owner is torn down. Few types are untracked and weakly
referenceable; code objects are both.

Descriptors. Before Python 3.13 an `mmap.mmap` keeps a duplicate of its descriptor. A list of thousands of arrays must
not exhaust them, so beyond ``max_mappings`` a private view is a private copy instead: same type, same behaviour, read
at once.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from types import CodeType
from typing import Literal

from scalepool._store.files import FDS_PER_MAPPING, Mapping, SegmentRef, default_max_fds, map_file, open_segment
from scalepool.errors import StoreError

__all__ = ["ViewMode", "Views", "map_private", "map_readonly"]

ViewMode = Literal["r", "c"]
"""``"r"``: read-only, shared with the other readers; ``"c"``: writable and private; a page is copied when written."""

# Linux allows 65 530 mappings per process; the program has some of its own.
_MAX_MAPPINGS = 16_384

_READ_BYTES = 1 << 28

_TOKEN = (lambda: None).__code__


def map_private(ref: SegmentRef) -> Mapping:
    """Map an object writable and private (copy-on-write): no page is copied until it is written.

    An empty object is mapped as one byte, since no mapping can be empty.

    Raises
    ------
    StoreError
        The object cannot be reached or is gone, or there is no room for the mapping.
    """
    fd = open_segment(ref)
    try:
        return _map_private(fd, ref)
    finally:
        os.close(fd)


def map_readonly(ref: SegmentRef) -> Mapping:
    """Map an object read-only; numpy refuses to make such an array writable.

    Raises
    ------
    StoreError
        As `map_private`.
    """
    fd = open_segment(ref)
    try:
        return map_file(fd, _length(ref), flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(fd)


class Views:
    """The live mappings of this process, by object. Thread-safe.

    Parameters
    ----------
    max_mappings
        Beyond this many live mappings, mode ``"c"`` copies; default by the limit on descriptors (see the module's
        text).
    """

    def __init__(self, *, max_mappings: int | None = None) -> None:
        if max_mappings is None:
            max_mappings = min(default_max_fds(), _MAX_MAPPINGS) if FDS_PER_MAPPING else _MAX_MAPPINGS
        self._max_mappings = max_mappings
        # Reentrant: the collector may run user code (a __del__ that opens an object) while this thread holds it.
        self._lock = threading.RLock()
        # Finalizers append to this and do nothing else: they may run while this very thread holds the lock.
        self._dead: deque[weakref.ref[CodeType]] = deque()
        # Keyed by identity: weak references compare by their referents, and all tokens are equal.
        self._pins: dict[int, dict[int, _Pin]] = {}
        self._count = 0
        self._readonly: dict[int, weakref.ref[Mapping]] = {}
        self._released: list[int] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._pins)} objects, {self._count} mappings>"

    def open(self, ref: SegmentRef, mode: ViewMode) -> Mapping:
        """A view on the object, private or shared with the other readers of this process.

        Parameters
        ----------
        mode
            ``"c"``: private and writable, a new one per call. ``"r"``: read-only; the same one as long as it lives.

        Raises
        ------
        StoreError
            The object cannot be reached or is gone, or there is no room for the mapping.
        ValueError
            Another mode.
        """
        if mode not in ("r", "c"):
            raise ValueError(f"mode must be 'r' or 'c', not {mode!r}")
        with self._lock:
            self._settle()
            shared = self._shared(ref.object_id) if mode == "r" else None
            copying = mode == "c" and self._count >= self._max_mappings
        if shared is not None:
            return shared
        # Outside the lock: a copy takes long. Until the view is pinned, the caller's own claim on the object keeps it.
        view = _copy_of(ref) if copying else map_private(ref) if mode == "c" else map_readonly(ref)
        with self._lock:
            if copying:
                if ref.object_id not in self._pins:
                    self._released.append(ref.object_id)  # the segment itself is not needed any longer
                return view
            if mode == "r":
                shared = self._shared(ref.object_id)
                if shared is not None:  # another thread was faster
                    return shared
                self._readonly[ref.object_id] = weakref.ref(view)
            self._pin(ref.object_id, view)
        return view

    def live(self, object_id: int) -> bool:
        """Whether some view of this process still reads the object's segment."""
        with self._lock:
            self._settle()
            return object_id in self._pins

    @property
    def has_released(self) -> bool:
        """Whether `drain_released` may return something; takes no lock."""
        return bool(self._dead or self._released)

    def drain_released(self) -> list[int]:
        """Objects whose last view died since the last call, each once; not those that have been opened anew."""
        with self._lock:
            self._settle()
            released = [object_id for object_id in dict.fromkeys(self._released) if object_id not in self._pins]
            self._released.clear()
            return released

    def _shared(self, object_id: int) -> Mapping | None:
        reference = self._readonly.get(object_id)
        return None if reference is None else reference()

    def _pin(self, object_id: int, view: Mapping) -> None:
        token = _TOKEN.replace()  # a new, equal code object
        pin = _Pin(token, self._dead.append)
        pin.object_id = object_id
        self._pins.setdefault(object_id, {})[id(pin)] = pin
        self._count += 1
        view.token = token

    def _settle(self) -> None:
        while self._dead:
            pin = self._dead.popleft()
            assert isinstance(pin, _Pin)  # nothing else is given this callback
            pins = self._pins[pin.object_id]
            del pins[id(pin)]
            self._count -= 1
            if not pins:
                del self._pins[pin.object_id]
                self._readonly.pop(pin.object_id, None)
                self._released.append(pin.object_id)


class _Pin(weakref.ref[CodeType]):
    __slots__ = ("object_id",)

    object_id: int


def _length(ref: SegmentRef) -> int:
    return max(ref.size_bytes, 1)


def _map_private(fd: int, ref: SegmentRef) -> Mapping:
    return map_file(fd, _length(ref), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _copy_of(ref: SegmentRef) -> Mapping:
    fd = open_segment(ref)
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        copy = map_file(-1, _length(ref), flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with memoryview(copy) as window:
            done = 0
            while done < ref.size_bytes:
                with window[done : min(done + _READ_BYTES, ref.size_bytes)] as chunk:
                    count = os.preadv(fd, [chunk], done)
                if count == 0:
                    raise StoreError(f"object {ref.object_id} ends after {done} of {ref.size_bytes} bytes")
                done += count
        return copy
    finally:
        os.close(fd)
