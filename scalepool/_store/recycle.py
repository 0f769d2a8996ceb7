"""Which idle segments to keep: decisions only, the caller closes what it is handed back.

Pages are the cost of shared memory: the first write into fresh ones is several times slower than a copy into pages
that exist. So a freed segment waits here for the next object of about its size.
"""

from __future__ import annotations

from scalepool._base.tuples import NamedTuple
from scalepool._store.files import FDS_PER_MAPPING
from scalepool._store.layout import capacity_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

__all__ = ["RecycleLimits", "RecyclePool", "Segment"]


class RecycleLimits(NamedTuple):
    """How much idle memory one process may keep.

    Attributes
    ----------
    max_bytes
        Allocated bytes of all idle segments together; by default enough for one object of 1 GiB and some small ones.
    max_count
        Idle segments.
    idle_s
        Seconds after which an idle segment is given back to the system.
    """

    max_bytes: int = 5 << 28
    max_count: int = 256
    idle_s: float = 10.0


_NOT_YET_KNOWN = float("inf")


class Segment:
    """One file: its descriptor, its size class, and how much of it has pages behind it (``written_bytes``).

    ``charged_bytes`` is what the budget counts for it: of memory, or of disk where it is ``on_disk``.
    """

    __slots__ = (
        "capacity",
        "charged_bytes",
        "fd",
        "idle_since",
        "mapping",
        "on_disk",
        "size_bytes",
        "window",
        "written_bytes",
    )

    def __init__(self, fd: int, capacity: int, written_bytes: int = 0) -> None:
        self.fd = fd
        self.capacity = capacity
        self.size_bytes = 0
        self.written_bytes = written_bytes
        self.charged_bytes = 0
        self.on_disk = False
        self.mapping: mmap.mmap | None = None
        self.window: memoryview | None = None  # of the mapping; slice assignment to it is the copy
        self.idle_since = _NOT_YET_KNOWN

    @property
    def open_fds(self) -> int:
        """Descriptors that this segment costs."""
        return 1 if self.mapping is None else 1 + FDS_PER_MAPPING


class RecyclePool:
    """Idle segments by size class, newest first: its pages are the likeliest to be in the cache."""

    def __init__(self, limits: RecycleLimits) -> None:
        self._limits = limits
        self._by_capacity: dict[int, list[Segment]] = {}
        self._age: dict[int, Segment] = {}  # by descriptor, in the order in which they came: oldest first
        self._bytes = 0

    @property
    def idle_bytes(self) -> int:
        """Allocated bytes of all idle segments."""
        return self._bytes

    @property
    def open_fds(self) -> int:
        """Descriptors of all idle segments."""
        return sum(segment.open_fds for segment in self._age.values())

    def __len__(self) -> int:
        return len(self._age)

    def put(self, segment: Segment) -> list[Segment]:
        """Take in a freed segment; the result are those to close now, oldest first, which may include this one."""
        segment.idle_since = _NOT_YET_KNOWN
        self._age[segment.fd] = segment
        self._by_capacity.setdefault(segment.capacity, []).append(segment)
        self._bytes += segment.written_bytes
        if segment.written_bytes > self._limits.max_bytes:
            return [self._remove(segment)]  # alone too large: do not throw out the others for it
        surplus = []
        while self._bytes > self._limits.max_bytes or len(self._age) > self._limits.max_count:
            surplus.append(self._remove(next(iter(self._age.values()))))
        return surplus

    def take(self, capacity: int) -> Segment | None:
        """A segment of this class, or of one below twice as large; ``None`` when there is none."""
        if not self._age:
            return None
        candidate = capacity
        while candidate < 2 * capacity:
            segments = self._by_capacity.get(candidate)
            if segments:
                return self._remove(segments[-1])
            candidate = capacity_for(candidate + 1)
        return None

    def take_oldest(self) -> Segment | None:
        """The segment that has waited longest, to be closed; ``None`` when the pool is empty."""
        return self._remove(next(iter(self._age.values()))) if self._age else None

    def expire(self, now: float) -> list[Segment]:
        """Segments that have been idle too long, to be closed.

        A segment's time begins with the first call after it came (so `put` needs no clock): it stays up to one
        interval longer.
        """
        for segment in self._age.values():
            segment.idle_since = min(segment.idle_since, now)
        limit = now - self._limits.idle_s
        return [self._remove(one) for one in list(self._age.values()) if one.idle_since <= limit]

    def clear(self) -> list[Segment]:
        """All segments, to be closed."""
        return [self._remove(segment) for segment in list(self._age.values())]

    def _remove(self, segment: Segment) -> Segment:
        del self._age[segment.fd]
        same_class = self._by_capacity[segment.capacity]
        same_class.remove(segment)
        if not same_class:
            del self._by_capacity[segment.capacity]
        self._bytes -= segment.written_bytes
        return segment
