"""Bytes into a segment, the fastest way that reports when there is no room for them.

By measurement (100 MiB, two cores; a memcpy into touched memory takes 8-9 ms):

* fresh pages: pwrite 41-52 ms, through a new mapping 80 ms, posix_fallocate and pwrite 48 ms: hence pwrite;
* first reuse: pwrite 20 ms, mapping with MAP_POPULATE and copy 20 ms, mapping without 38 ms; mapping, with another
  thread filling the page table ahead of the copy, 11-13 ms where a second core is free, else as before: hence that;
* every later reuse is a copy into the mapping that was kept: 8-9 ms.

Filling the page table during the first write would make that one slower (60 ms in the same thread or in another one;
50 ms afterwards), and most segments are never written again.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import threading

from scalepool._store.files import map_file, write_buffers
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalepool._store.recycle import Segment

__all__ = ["fill", "unmap", "window"]

# Bytes per slice assignment. A copy holds the GIL; between two of them (0.4 ms) other threads get their turn.
_COPY_BYTES = 4 << 20

# Below this, a thread costs more than it saves.
_BESIDE_BYTES = 16 << 20
# madvise, Linux 5.14: fill the page table as reading would, so that nothing is allocated where there are holes' worth.
_POPULATE_READ = 22


def fill(segment: Segment, need_bytes: int, parts: Sequence[tuple[int, memoryview]], *, may_map: bool) -> None:
    """Write *parts*, the fastest way that cannot die of SIGBUS.

    Parameters
    ----------
    need_bytes
        Where the last part ends.
    may_map
        Whether pages that exist may be written through a mapping.

    Raises
    ------
    OSError
        Memory, disk or a limit is exhausted.
    """
    if need_bytes > segment.written_bytes:
        # Pages are missing. A mapping made before does not reach as far as the segment will: the next use makes a new
        # one.
        unmap(segment)
        write_buffers(segment.fd, parts)
        segment.written_bytes = need_bytes
        return
    if may_map and segment.window is None and need_bytes >= _BESIDE_BYTES and _can_populate():
        memory = window(segment, populate=False)
        if memory is not None:
            _fill_beside(memory, parts)
            return
    memory = window(segment) if may_map else None
    if memory is None:
        write_buffers(segment.fd, parts)
        return
    for offset, view in parts:
        _copy(memory, offset, view)


def window(segment: Segment, *, populate: bool = True) -> memoryview | None:
    """The segment's memory; ``None`` where the system allows no more mappings: the file can still be written."""
    if segment.window is None:
        # MAP_POPULATE fills the page table at once, for half the price of one fault per page. Not beyond
        # written_bytes: it would allocate the holes there.
        flags = mmap.MAP_SHARED | (getattr(mmap, "MAP_POPULATE", 0) if populate else 0)
        try:
            segment.mapping = map_file(
                segment.fd, segment.written_bytes, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        except StoreError:
            return None
        segment.window = memoryview(segment.mapping)
    return segment.window


class _PageTable:
    """Fills the page table of some memory, piece by piece, in any number of threads."""

    def __init__(self, address: int, size_bytes: int) -> None:
        self._address = address
        self._size_bytes = size_bytes
        self._next = itertools.count(0, _COPY_BYTES)  # each piece is given to one thread
        self._filled = bytearray(-(-size_bytes // _COPY_BYTES))

    def fill_next(self) -> bool:
        """Fill a piece that nobody has begun; False when there is none left."""
        from scalepool._store.content import advise

        at = next(self._next)
        if at >= self._size_bytes:
            return False
        advise(self._address + at, min(_COPY_BYTES, self._size_bytes - at), _POPULATE_READ)
        self._filled[at // _COPY_BYTES] = 1
        return True

    def fill(self) -> None:
        """Fill what is left."""
        while self.fill_next():
            pass

    def see_to(self, at: int, size_bytes: int) -> None:
        """Help until a part is filled, or somebody is at its last pieces: then a few pages have a fault each."""
        for piece in range(at // _COPY_BYTES, -(-(at + size_bytes) // _COPY_BYTES)):
            while not self._filled[piece] and self.fill_next():
                pass


def _fill_beside(memory: memoryview, parts: Sequence[tuple[int, memoryview]]) -> None:
    """Copy, while another thread fills the page table ahead; where no core is free for it, this one does both."""
    from scalepool._store.content import address_of, move

    start = address_of(memory)
    pages = _PageTable(start, memory.nbytes)
    helper = threading.Thread(target=pages.fill, name="scalepool-map", daemon=True)
    with contextlib.suppress(RuntimeError):  # no thread can be had
        helper.start()
    try:
        for offset, view in parts:
            source = address_of(view)
            for at in range(0, len(view), _COPY_BYTES):
                size_bytes = min(_COPY_BYTES, len(view) - at)
                pages.see_to(offset + at, size_bytes)
                move(start + offset + at, source + at, size_bytes)
    finally:
        if helper.ident is not None:
            helper.join()  # the memory may be unmapped after this


_populates: list[bool] = []


def _can_populate() -> bool:
    """Whether this kernel knows how to fill a page table on demand; asked once."""
    if not _populates:
        from scalepool._store.content import address_of, advise

        with mmap.mmap(-1, mmap.PAGESIZE) as page, memoryview(page) as memory:
            _populates.append(advise(address_of(memory), mmap.PAGESIZE, _POPULATE_READ))
    return _populates[0]


def _copy(memory: memoryview, offset: int, view: memoryview) -> None:
    size_bytes = len(view)
    if size_bytes <= _COPY_BYTES:
        memory[offset : offset + size_bytes] = view
        return
    for start in range(0, size_bytes, _COPY_BYTES):
        chunk = view[start : start + _COPY_BYTES]
        memory[offset + start : offset + start + len(chunk)] = chunk


def unmap(segment: Segment) -> None:
    """Take down the mapping that `window` made."""
    if segment.window is not None:
        segment.window.release()
        segment.window = None
    if segment.mapping is not None:
        # Somebody may compare with `content` while the store is closed: then it goes with the last reference.
        with contextlib.suppress(BufferError):
            segment.mapping.close()
        segment.mapping = None
