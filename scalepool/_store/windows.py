"""Private mappings of whole segments that are handed out again and again, so that pages are mapped once.

Page faults are most of what reading a large object costs. Measured for 1 GiB: reading it through a new mapping 95 ms,
of which the reading itself is 37 ms; taking that mapping down again 17 ms. Its creator writes a segment again and
again, so a reader keeps its mapping as well: through a page that was not written *here* it sees what is in the segment
*now*. A page that was written here is a private copy that nobody else may see, the next user of the mapping included.

Hence the rule, when a user has let go of the memory: the mapping is kept if many of its pages are in place (else a new
one is as good) and none of them was written; any other is taken down. The kernel tells both, in /proc/self/pagemap: in
8 ms per GiB, or 30 us for a sample that shows that most pages are not there. Without that file no mapping is kept.

A kept mapping holds the segment's memory even when its creator has given it up, so there is a limit to what is kept,
and after some seconds without use it is taken down.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

from scalepool._base.tuples import NamedTuple
from scalepool._store.files import map_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["IdleLimits", "IdleMappings", "SegmentMapping", "view_of"]

# Below this, faults cost no more than the questions.
_SMALLEST_KEPT_BYTES = 1 << 20

# An entry of the pagemap is eight bytes, and its highest byte says: 0x80 there is a page, 0x40 it is swapped out,
# 0x20 it is the file's and no private copy, 0x01 nobody else has mapped it.
_ENTRY_BYTES = 8
_HIGHEST = 7 if sys.byteorder == "little" else 0
_ABSENT = 0x00
_UNWRITTEN = bytes([_ABSENT, 0xA0, 0xA1])
_SAMPLES = 16
_ENOUGH = 0.25  # of the pages: from there on the faults that are saved cost more than the look at all entries
_ENTRIES_AT_ONCE = 8192

# ctypes makes a class for each length; there are few, since segments come in size classes.
_kinds: dict[int, Any] = {}


class SegmentMapping:
    """One private, writable mapping of a whole segment.

    Parameters
    ----------
    fd
        The segment; may be closed afterwards.

    Raises
    ------
    StoreError
        There is no room for the mapping.
    """

    __slots__ = ("_address", "_kind", "_mapping", "file", "idle_since", "size_bytes")

    def __init__(self, fd: int) -> None:
        import ctypes  # a program without large objects does not need it

        status = os.fstat(fd)
        self.file = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size
        self._mapping = map_file(fd, status.st_size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        kind = _kinds.get(status.st_size)
        self._kind = _kinds[status.st_size] = ctypes.c_ubyte * status.st_size if kind is None else kind
        self._address = ctypes.addressof(self._kind.from_buffer(self._mapping))
        self.idle_since = float("inf")  # not known yet

    def hand_out(self, token: object) -> Any:
        """Return an object that exports this memory and owns *token*, and so dies with the last use of the memory.

        Of the types that export foreign memory only those of `ctypes` export it as their own: whatever is made from
        this object keeps *it* alive, not only the mapping behind it.
        """
        window: Any = self._kind.from_buffer(self._mapping)
        window.token = token
        return window

    def is_worth_keeping(self, used_bytes: int) -> bool:
        """Whether many of the first *used_bytes* have been read and not one written; asked when nobody uses them."""
        if self.size_bytes < _SMALLEST_KEPT_BYTES:
            return False
        try:
            pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            first = self._address // mmap.PAGESIZE
            count = -(-used_bytes // mmap.PAGESIZE)
            return _looks_populated(pagemap, first, count) and _is_populated_and_unwritten(pagemap, first, count)
        except OSError:
            return False
        finally:
            os.close(pagemap)

    def close(self) -> None:
        """Take it down; nobody may be using it."""
        # The collector may be only half through with the exporter: then it takes this down as well.
        with contextlib.suppress(BufferError):
            self._mapping.close()


def view_of(window: Any, size_bytes: int, *, readonly: bool) -> memoryview:
    """Return the first *size_bytes* of what `SegmentMapping.hand_out` returned."""
    from pickle import PickleBuffer  # the one way from ctypes' own format of bytes to that of everybody else

    view = PickleBuffer(window).raw()[:size_bytes]
    return view.toreadonly() if readonly else view


def _looks_populated(pagemap: int, first: int, count: int) -> bool:
    if count <= _ENTRIES_AT_ONCE:
        return True  # to look at all is as quick
    pages = (first + count * number // _SAMPLES for number in range(_SAMPLES))
    found = sum(os.pread(pagemap, _ENTRY_BYTES, _ENTRY_BYTES * page)[_HIGHEST] != _ABSENT for page in pages)
    return found >= _ENOUGH * _SAMPLES


def _is_populated_and_unwritten(pagemap: int, first: int, count: int) -> bool:
    absent = 0
    for at in range(first, first + count, _ENTRIES_AT_ONCE):
        entries = min(_ENTRIES_AT_ONCE, first + count - at)
        highest = os.pread(pagemap, _ENTRY_BYTES * entries, _ENTRY_BYTES * at)[_HIGHEST::_ENTRY_BYTES]
        if len(highest) < entries or highest.translate(None, _UNWRITTEN):
            return False
        absent += highest.count(_ABSENT)
    return count - absent >= _ENOUGH * count


class IdleLimits(NamedTuple):
    """How many mappings that nobody uses are kept.

    Attributes
    ----------
    max_bytes
        Size of all of them together.
    max_count
        Their number.
    idle_s
        Seconds after which one is taken down.
    """

    max_bytes: int = 5 << 28
    max_count: int = 256
    idle_s: float = 10.0


class IdleMappings:
    """Mappings that wait to be used again, one per segment; decisions only, the caller closes what it is handed."""

    def __init__(self, limits: IdleLimits) -> None:
        self._limits = limits
        self._by_file: dict[tuple[int, int], SegmentMapping] = {}  # in the order in which they came
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_file)

    def take(self, fd: int) -> SegmentMapping | None:
        """The mapping of the segment behind *fd*, if there is one."""
        if not self._by_file:
            return None
        status = os.fstat(fd)
        found = self._by_file.pop((status.st_dev, status.st_ino), None)
        if found is not None:
            self._bytes -= found.size_bytes
        return found

    def put(self, mapping: SegmentMapping) -> list[SegmentMapping]:
        """Keep *mapping*; the result are those to close now, which may include it."""
        if mapping.file in self._by_file or mapping.size_bytes > self._limits.max_bytes:
            return [mapping]
        mapping.idle_since = float("inf")
        self._by_file[mapping.file] = mapping
        self._bytes += mapping.size_bytes
        surplus = []
        while self._bytes > self._limits.max_bytes or len(self._by_file) > self._limits.max_count:
            surplus.append(self._remove(next(iter(self._by_file.values()))))
        return surplus

    def expire(self, now: float) -> list[SegmentMapping]:
        """Those that have been idle too long, to be closed; time begins with the first call after they came."""
        for mapping in self._by_file.values():
            mapping.idle_since = min(mapping.idle_since, now)
        limit = now - self._limits.idle_s
        return [self._remove(one) for one in list(self._by_file.values()) if one.idle_since <= limit]

    def clear(self) -> list[SegmentMapping]:
        """All of them, to be closed."""
        return [self._remove(one) for one in list(self._by_file.values())]

    def _remove(self, mapping: SegmentMapping) -> SegmentMapping:
        del self._by_file[mapping.file]
        self._bytes -= mapping.size_bytes
        return mapping
