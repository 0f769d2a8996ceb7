"""Pickles whose large ``bytes``, ``bytearray`` and ``str`` objects stay beside them, uncopied.

Protocol 5 leaves out of a pickle whatever offers a buffer, but not these types: they are copied into it, for each task
anew. The pickler hands each large one to its file in a call of its own, though, as the very object that it is. So a
file that keeps what it is given, `PieceWriter`, has the pickle in pieces of which the large ones are the user's memory;
and one that gives the pieces back in order, `PieceReader`, has them read straight to where they belong.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LARGE_BYTES", "PieceReader", "PieceWriter", "Pieces", "holds_large_bytes"]

LARGE_BYTES: Final = 1 << 17
"""From here on a piece is kept apart. Hardly any frame is as large: those end after 64 KiB, and hold nothing larger."""

_FRAME: Final = 0x95
_SHORT: Final = frozenset(b"BX")  # BINBYTES, BINUNICODE: four bytes of length
_LONG: Final = frozenset(b"\x8e\x96\x8d")  # BINBYTES8, BYTEARRAY8, BINUNICODE8: eight
_UINT32: Final = struct.Struct("<I")
_UINT64: Final = struct.Struct("<Q")


class Pieces(NamedTuple):
    """A pickle without its large pieces, those, and where each belongs."""

    data: bytes
    large: tuple[memoryview, ...]
    gaps: tuple[int, ...]


class PieceWriter:
    """What a pickler writes to."""

    __slots__ = ("_pieces", "write")

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        self.write: Callable[[Any], object] = self._pieces.append
        """What a file has; the result is of no interest."""

    def pieces(self) -> Pieces:
        """Return what was written."""
        small: list[Any] = []
        large: list[memoryview] = []
        gaps: list[int] = []
        at = 0
        for piece in self._pieces:
            if len(piece) >= LARGE_BYTES:
                large.append(memoryview(piece).cast("B"))
                gaps.append(at)
            else:
                small.append(piece)
                at += len(piece)
        return Pieces(b"".join(small), tuple(large), tuple(gaps))


class PieceReader:
    """What an unpickler reads from: a pickle and its large pieces, as if they were one.

    Parameters
    ----------
    data, large, gaps
        As in `Pieces`.
    """

    __slots__ = ("_at", "_next", "_now", "_pieces")

    def __init__(self, data: memoryview, large: Sequence[memoryview], gaps: Sequence[int]) -> None:
        pieces: list[memoryview] = []
        start = 0
        for gap, piece in zip(gaps, large, strict=True):
            pieces += (data[start:gap], piece)
            start = gap
        self._pieces = [piece for piece in (*pieces, data[start:]) if piece.nbytes]
        self._next = 0
        self._now = memoryview(b"")
        self._at = 0

    def read(self, size: int) -> bytes | memoryview:
        """Return the next *size* bytes, fewer at the end; without copying them if they lie together."""
        found = self._some(size)
        if found.nbytes == size or not found.nbytes:
            return found
        parts = [found]
        missing = size - found.nbytes
        while missing and (found := self._some(missing)).nbytes:
            parts.append(found)
            missing -= found.nbytes
        return b"".join(parts)

    def readinto(self, into: Any) -> int:
        """Fill a buffer; return how much there was for it."""
        target = memoryview(into).cast("B")
        done = 0
        while done < target.nbytes and (found := self._some(target.nbytes - done)).nbytes:
            target[done : done + found.nbytes] = found
            done += found.nbytes
        return done

    def readline(self) -> bytes:
        """Return the rest of the line, as old opcodes have it."""
        line = bytearray()
        while (found := self._some(1)).nbytes:
            line += found
            if found[0] == 0x0A:
                break
        return bytes(line)

    def _some(self, size: int) -> memoryview:
        """Return up to *size* bytes that lie together; none at the end."""
        while self._at == self._now.nbytes and self._next < len(self._pieces):
            self._now = self._pieces[self._next]
            self._next += 1
            self._at = 0
        found = self._now[self._at : self._at + size]
        self._at += found.nbytes
        return found


def holds_large_bytes(data: bytes) -> bool:
    """Whether a pickle has something in it that `PieceWriter` would keep apart; may err on the side of ``False``.

    Such things stand outside of the frames that the rest is in, so this need not look into them.
    """
    at, end = 2, len(data) - 9  # behind the protocol; nothing that is short of this end is large
    strays = 0
    while at < end:
        opcode = data[at]
        if opcode == _FRAME or opcode in _LONG:
            size = _UINT64.unpack_from(data, at + 1)[0]
            at += 9
        elif opcode in _SHORT:
            size = _UINT32.unpack_from(data, at + 1)[0]
            at += 5
        elif strays < 4:  # too few bytes for a frame: they come bare
            strays += 1
            at += 1
            continue
        else:
            return False
        if opcode != _FRAME and LARGE_BYTES <= size <= len(data) - at:
            return True
        strays = 0
        at += size
    return False
