"""Reading the segments of any process, and knowing which of them this process still reads.

A view is a memoryview of a mapped object. Whoever uses the memory (a slice of it, a numpy array) keeps alive the object
that exports it; when that dies, nobody in this process can read the object any more, and `Views` learns it.

How it learns it. The exporter owns a token, and a weak reference to the *token* has ``deque.append`` as its callback:
one step in C, safe at any moment of a garbage collection and in any thread, without a lock. The token, not the
exporter, is watched because of reference cycles: the collector clears weak references to garbage *before* it runs the
garbage's ``__del__`` methods, and such a method may still read the memory, or even rescue it. An object that the
collector does not track is spared this: it dies when its owner is torn down. Few types are untracked and weakly
referenceable; code objects are both.

Then the mapping itself is free for the next object in that segment, see ``windows``. What a forked child may still read
is not reported, see ``forks``.

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

from scalepool._store.files import FDS_PER_MAPPING, SegmentRef, default_max_fds, map_file, open_segment
from scalepool._store.forks import ForkedReaders
from scalepool._store.windows import IdleLimits, IdleMappings, SegmentMapping, view_of
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any, Literal

    ViewMode = Literal["r", "c"]

__all__ = ["IdleLimits", "ViewMode", "Views"]

# Linux allows 65 530 mappings per process; the program has some of its own.
_MAX_MAPPINGS = 16_384

_READ_BYTES = 1 << 28

_TOKEN = (lambda: None).__code__


class Views:
    """The live mappings of this process, by object. Thread-safe.

    Parameters
    ----------
    max_mappings
        Beyond this many live mappings, mode ``"c"`` copies; default by the limit on descriptors (see the module's
        text).
    idle
        How many mappings are kept for the next object in the same segment; default ``IdleLimits()``, less where
        descriptors are few.
    tight
        Whether memory is so short that none should be kept for later; default never.
    opener
        Returns a new descriptor of an object's segment.
    """

    def __init__(
        self,
        *,
        max_mappings: int | None = None,
        idle: IdleLimits | None = None,
        tight: Callable[[], bool] = lambda: False,
        opener: Callable[[SegmentRef], int] = open_segment,
    ) -> None:
        few = min(default_max_fds(), _MAX_MAPPINGS) if FDS_PER_MAPPING else _MAX_MAPPINGS
        self._max_mappings = few if max_mappings is None else max_mappings
        idle = idle or IdleLimits()
        self._tight = tight
        self._open_segment = opener
        self._idle = IdleMappings(idle._replace(max_count=min(idle.max_count, few // 4)))
        # Reentrant: the collector may run user code (a __del__ that opens an object) while this thread holds it.
        self._lock = threading.RLock()
        # Finalizers append to this and do nothing else: they may run while this very thread holds the lock.
        self._dead: deque[weakref.ref[CodeType]] = deque()
        # Keyed by identity: weak references compare by their referents, and all tokens are equal.
        self._pins: dict[int, dict[int, _Pin]] = {}
        self._count = 0
        self._readonly: dict[int, weakref.ref[Any]] = {}
        self._released: list[int] = []
        self._forked = ForkedReaders()
        _all_views.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._pins)} objects, {self._count} mappings, {len(self._idle)} idle>"

    def open(self, ref: SegmentRef, mode: ViewMode) -> memoryview:
        """A view on the object, private or shared with the other readers of this process.

        Parameters
        ----------
        mode
            ``"c"``: private and writable, a page is copied when it is written; new memory per call. ``"r"``: read-only;
            the same memory as long as some view of it lives.

        Raises
        ------
        StoreError
            The object cannot be reached or is gone, or there is no room for the mapping.
        ValueError
            Another mode.
        """
        if mode not in ("r", "c"):
            raise ValueError(f"mode must be 'r' or 'c', not {mode!r}")
        readonly = mode == "r"
        with self._lock:
            self._settle()
            window = self._shared(ref.object_id) if readonly else None
            copying = not readonly and self._count >= self._max_mappings
        if window is not None:
            return view_of(window, ref.size_bytes, readonly=True)
        # Outside the lock: a copy takes long. Until the view is pinned, the caller's own claim on the object keeps it.
        fd = self._open_segment(ref)
        try:
            if copying:
                return self._copy(fd, ref)
            window = self._pin(self._take(fd), ref, readonly=readonly)
        finally:
            os.close(fd)
        return view_of(window, ref.size_bytes, readonly=readonly)

    def live(self, object_id: int) -> bool:
        """Whether some view of this process, or of a child that it has forked, still reads the object's segment."""
        with self._lock:
            self._settle()
            return object_id in self._pins or object_id in self._forked

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
            if not self._forked:
                return released
            released += self._forked.released()
            free = [object_id for object_id in released if object_id not in self._forked]
            for object_id in set(released).difference(free):
                self._forked.give_up(object_id)
            return free

    def expire(self, now: float) -> None:
        """Take down mappings that nobody has used for some seconds; to be called every few seconds.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        with self._lock:
            self._settle()
            _close(self._idle.expire(now))
            self._released += self._forked.released()

    def close(self) -> None:
        """Take down all mappings that nobody uses."""
        with self._lock:
            self._settle()
            _close(self._idle.clear())

    def fork_begins(self) -> None:
        """Be told that this process will fork. The lock is held meanwhile: in the child nobody else would free it."""
        self._lock.acquire()
        self._settle()
        self._forked.fork_begins(frozenset(self._pins))

    def fork_ends(self, *, in_child: bool) -> None:
        """Be told that it has forked."""
        self._forked.fork_ends(in_child=in_child)
        self._lock.release()

    def _take(self, fd: int) -> SegmentMapping:
        with self._lock:
            mapping = self._idle.take(fd)
        return SegmentMapping(fd) if mapping is None else mapping

    def _shared(self, object_id: int) -> Any:
        reference = self._readonly.get(object_id)
        return None if reference is None else reference()

    def _pin(self, mapping: SegmentMapping, ref: SegmentRef, *, readonly: bool) -> Any:
        """Return the exporter of what was mapped, or that of another thread which was faster."""
        token = _TOKEN.replace()  # a new, equal code object
        window = mapping.hand_out(token)
        with self._lock:
            if readonly:
                shared = self._shared(ref.object_id)
                if shared is not None:
                    return shared
                self._readonly[ref.object_id] = weakref.ref(window)
            pin = _Pin(token, self._dead.append)
            pin.object_id, pin.used_bytes, pin.mapping = ref.object_id, ref.size_bytes, mapping
            self._pins.setdefault(ref.object_id, {})[id(pin)] = pin
            self._count += 1
        return window

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
            mapping = pin.mapping
            if self._tight():
                _close([mapping, *self._idle.clear()])
            else:
                _close(self._idle.put(mapping) if mapping.is_worth_keeping(pin.used_bytes) else [mapping])

    def _copy(self, fd: int, ref: SegmentRef) -> memoryview:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        copy = memoryview(map_file(-1, max(ref.size_bytes, 1), flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        done = 0
        while done < ref.size_bytes:
            count = os.preadv(fd, [copy[done : min(done + _READ_BYTES, ref.size_bytes)]], done)
            if count == 0:
                raise StoreError(f"object {ref.object_id} ends after {done} of {ref.size_bytes} bytes")
            done += count
        with self._lock:
            if ref.object_id not in self._pins:
                self._released.append(ref.object_id)  # the segment itself is not needed any longer
        return copy[: ref.size_bytes]


class _Pin(weakref.ref["CodeType"]):
    __slots__ = ("mapping", "object_id", "used_bytes")

    object_id: int
    used_bytes: int
    mapping: SegmentMapping


def _close(mappings: Iterable[SegmentMapping]) -> None:
    for mapping in mappings:
        mapping.close()


_all_views: weakref.WeakSet[Views] = weakref.WeakSet()
_fork_lock = threading.RLock()  # held from before a fork until after it: two threads may want to fork at once
_forking: list[Views] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking[:] = _all_views  # the same ones after the fork, whatever the collector takes meanwhile
    for views in _forking:
        views.fork_begins()


def _after_fork(*, in_child: bool) -> None:
    for views in _forking:
        views.fork_ends(in_child=in_child)
    _forking.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=lambda: _after_fork(in_child=True),
    )
