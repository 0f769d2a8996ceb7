"""Where things lie inside a segment: arithmetic only.

A segment holds the buffers of one object, one after the other, each on a cache line of its own, and behind the last
one a stamp that says whose bytes these are::

    | buffer 0 | pad | buffer 1 | pad | ... | last buffer | pad | stamp |          (room up to the size class)
    0          ^ a multiple of 64                         ^ size_bytes

The stamp lies behind the data, not before it, so that buffer 0 is at offset 0: ``np.ndarray(buffer=mapping)`` needs
no offset.
"""

from __future__ import annotations

import struct

from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ALIGNMENT",
    "MIN_CAPACITY",
    "STAMP_BYTES",
    "Layout",
    "align",
    "capacity_for",
    "pack_stamp",
    "pages",
    "place",
    "stamp_offset",
]

ALIGNMENT = 64
"""Bytes. A cache line: enough for AVX-512 loads, and what numpy and Arrow ask for."""

MIN_CAPACITY = 64 * 1024
"""Bytes. Smaller objects travel inside messages, where they are cheaper."""

_CLASSES_PER_DOUBLING_LOG2 = 2
_PAGE_BYTES = 4096

_STAMP = struct.Struct("<qq")
STAMP_BYTES = _STAMP.size


class Layout(NamedTuple):
    """Where each buffer of an object begins, and how long the object is.

    Attributes
    ----------
    offsets
        Bytes from the start of the segment, one per buffer, each a multiple of `ALIGNMENT`.
    size_bytes
        End of the last buffer; what a reader has to map. 0 when there is nothing to store.
    """

    offsets: tuple[int, ...]
    size_bytes: int


def align(size_bytes: int, alignment: int = ALIGNMENT) -> int:
    """Round *size_bytes* up to a multiple of *alignment* (a power of two, bytes)."""
    return (size_bytes + alignment - 1) & -alignment


def place(sizes_bytes: Iterable[int]) -> Layout:
    """Lay out buffers of these sizes (bytes); writer and reader both call this, so offsets need not travel.

    Raises
    ------
    ValueError
        A size is negative.
    """
    offsets = []
    end = 0
    for size_bytes in sizes_bytes:
        if size_bytes < 0:
            raise ValueError(f"a buffer cannot have {size_bytes} bytes")
        start = align(end)
        offsets.append(start)
        end = start + size_bytes
    return Layout(tuple(offsets), end)


def pages(size_bytes: int) -> int:
    """Round up to whole pages."""
    return align(size_bytes, _PAGE_BYTES)


def stamp_offset(size_bytes: int) -> int:
    """Where the stamp of an object of *size_bytes* lies."""
    return align(size_bytes)


def pack_stamp(object_id: int, size_bytes: int) -> bytes:
    """The stamp: a reader that finds another one has been sent to the wrong segment."""
    return _STAMP.pack(object_id, size_bytes)


def capacity_for(need_bytes: int) -> int:
    """The size class for *need_bytes* (stamp included): four classes per doubling, so at most a quarter is not used.

    Classes are what makes segments interchangeable. The unused part costs address space only: its pages are never
    allocated.
    """
    if need_bytes <= MIN_CAPACITY:
        return MIN_CAPACITY
    shift = (need_bytes - 1).bit_length() - 1 - _CLASSES_PER_DOUBLING_LOG2
    return align(need_bytes, 1 << shift)
