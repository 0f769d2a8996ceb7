"""numpy arrays that pickle only by copying themselves: how they travel as buffers all the same.

numpy leaves the memory of an array out of a protocol-5 pickle when it is contiguous and of plain numbers. A slice with
gaps, an array of dates and the subclasses that numpy itself has are copied into the pickle, so the reader could not map
them, and nobody could tell that the same one comes again. They are rebuilt here as what numpy's own pickle makes of
them.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ArrayReducers", "as_copy_of", "source_of"]

_DATES: Final = "mM"


class ArrayReducers:
    """How arrays are taken apart in one pickle.

    Parameters
    ----------
    least_bytes
        Smaller ones go as numpy has it.
    """

    __slots__ = ("_least_bytes", "_numpy", "used")

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._numpy: Any = sys.modules.get("numpy")
        self.used = False
        """Whether an array was taken apart that numpy would have copied."""

    def table(self) -> dict[type, Callable[[Any], Any]]:
        """Return the functions by exact type; none as long as there is no numpy."""
        numpy = self._numpy
        if numpy is None or not hasattr(numpy, "recarray"):  # not there, or half imported
            return {}
        return dict.fromkeys((numpy.ndarray, numpy.memmap, numpy.recarray, numpy.matrix), self._reduce)

    def _reduce(self, array: Any) -> Any:
        numpy, dtype, kind = self._numpy, array.dtype, type(array)
        if array.nbytes < self._least_bytes or dtype.hasobject or dtype.kind == "T":
            return array.__reduce_ex__(5)
        is_contiguous = array.flags.c_contiguous or array.flags.f_contiguous
        if is_contiguous and kind is numpy.ndarray and dtype.kind not in _DATES:
            return array.__reduce_ex__(5)
        self.used = True
        memory: Any = array.view(numpy.ndarray)
        if not is_contiguous:
            memory = as_copy_of(array, numpy.ascontiguousarray(memory))
        order = "C" if memory.flags.c_contiguous else "F"
        flat = memory.ravel(order="K").view("u1")
        return _rebuild, (pickle.PickleBuffer(flat), dtype, array.shape, order, kind)


def _rebuild(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any, kind: Any) -> Any:
    import numpy

    array: Any = numpy.frombuffer(buffer, dtype).reshape(shape, order=order)
    return array if kind is numpy.ndarray else array.view(kind)


_made: list[type] = []


def as_copy_of(source: Any, copy: Any) -> Any:
    """Return a contiguous copy as one that knows what it is a copy of."""
    import numpy

    if not _made:
        _made.append(type("ContiguousCopy", (numpy.ndarray,), {"source": None}))
    known = copy.view(_made[0])
    known.source = source
    return known


def source_of(owner: Any) -> Any:
    """Return the array that a buffer's owner is a contiguous copy of; ``None`` for all others."""
    return getattr(owner, "source", None) if _made and type(owner) is _made[0] else None
