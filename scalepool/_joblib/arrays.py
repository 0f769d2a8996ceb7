"""Large arrays on their way to joblib tasks: once into the store, then mapped by every task that gets them.

What joblib's own process backends do with files in a temporary folder. A task finds an ``np.memmap`` that has no file:
its memory is a mapping of the store's segment. An ``np.memmap`` of the user's, backed by a file, travels as the name of
that file, so that workers can write their results into it, as with joblib.

One array, one crossing: in a call it is known by its identity, as in joblib, and in the next call by its bytes. Unlike
there, one that the caller's
generator has changed between two items is stored anew, if that is to be seen: up to 16 MB all of it is compared with
what is in the store, beyond that blocks all over it (0.1 ms; all of 1 GiB would take 70 for each batch).
"""

from __future__ import annotations

import copyreg
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scalepool._wire.pickling.arrays import as_copy_of
from scalepool.api import SharedBuffer, in_worker, put_buffer

__all__ = ["ArrayMapper", "arrays_from"]

#: How a task may use the mapping. The store's segments never change, so what joblib calls "r+" and "w+" (write through
#: to the file) is a private copy here, made page by page when written.
_MODES: Final = {"r": "r", "c": "c", "r+": "c", "w+": "c"}


class ArrayMapper:
    """Puts arrays into the store, each once, and pickles a reference in their place.

    Parameters
    ----------
    max_nbytes
        Larger arrays are mapped; None: no array is.
    mmap_mode
        joblib's: ``"r"`` read-only, ``"c"``, ``"r+"`` and ``"w+"`` private and copied where written, None: no mapping.

    Raises
    ------
    ValueError
        For another mode.
    """

    def __init__(self, max_nbytes: int | None, mmap_mode: str | None) -> None:
        if mmap_mode is not None and mmap_mode not in _MODES:
            raise ValueError(f"mmap_mode must be None or one of {sorted(_MODES)}, not {mmap_mode!r}")
        self._max_nbytes = max_nbytes if mmap_mode is not None else None
        self._mode = _MODES.get(mmap_mode or "", "r")
        self._stored: _ByIdentity = _ByIdentity()

    def reducers(self, used: list[SharedBuffer]) -> dict[type, Callable[[Any], Any]]:
        """Return how to pickle arrays; what the pickle refers to is appended to `used` meanwhile."""
        numpy = sys.modules.get("numpy")
        if numpy is None:  # then there are no arrays either
            return {}

        def reduce_array(array: Any) -> Any:
            return self._reduce(array, used)

        return {numpy.ndarray: reduce_array, numpy.memmap: reduce_array}

    def forget(self) -> None:
        """Let go of the stored arrays: their contents may change from here on."""
        self._stored.clear()

    def _reduce(self, array: Any, used: list[SharedBuffer]) -> Any:
        mapping, memmap = _backing(array) if array.size else (None, None)
        if memmap is not None and memmap.filename is not None:
            return _reduce_file(array, memmap)
        if self._max_nbytes is None or array.nbytes <= self._max_nbytes or not _is_mappable(array.dtype):
            return _as_plain(array).__reduce_ex__(5)
        known = _received.get(mapping) if mapping is not None else None
        if known is not None and memmap is not None and not memmap.flags.writeable:
            return self._refer(known, array, array.strides, _address(array) - _address_of_buffer(mapping), used)
        stored, strides = self._stored.get(array) or (None, ())
        if stored is not None and _is_contiguous(array) and not stored.still_holds(_bytes_of(array)):
            stored = None
        if stored is None:
            flat = _contiguous(array)
            stored, strides = put_buffer(_bytes_of(flat), reuse=True), flat.strides
            self._stored.set(array, (stored, strides))
        return self._refer(stored, array, strides, 0, used)

    def _refer(self, stored: SharedBuffer, array: Any, strides: Any, offset: int, used: list[SharedBuffer]) -> Any:
        if stored not in used:
            used.append(stored)
        return _rebuild, (used.index(stored), self._mode, array.dtype, array.shape, strides, offset)


# --- in the worker ---


class _Loading(threading.local):
    """The buffers of the batches that this thread is unpickling; nested batches set their caller's aside."""

    buffers: tuple[SharedBuffer, ...] = ()


_loading = _Loading()


@contextmanager
def arrays_from(buffers: tuple[SharedBuffer, ...]) -> Iterator[None]:
    """Let arrays that are unpickled here find their memory."""
    outer = _loading.buffers
    _loading.buffers = buffers
    try:
        yield
    finally:
        _loading.buffers = outer


def _rebuild(index: int, mode: str, dtype: Any, shape: Any, strides: Any, offset: int) -> Any:
    buffer = _loading.buffers[index]
    mapping = buffer.open("r" if mode == "r" else "c")
    _received.set(mapping, buffer)
    return _make_memmap(mapping, mode, dtype, shape, strides, offset)


def _make_memmap(memory: Any, mode: str, dtype: Any, shape: Any, strides: Any, offset: int) -> Any:
    import numpy as np

    if in_worker():
        copyreg.pickle(np.memmap, _reduce_result)
    made = np.ndarray.__new__(np.memmap, shape, dtype=dtype, buffer=memory, offset=offset, strides=strides)
    made._mmap = memory
    made.mode = mode
    made.offset = offset
    made.filename = None
    return made


def _rebuild_file(filename: str, mode: str, start: int, size: int, layout: tuple[Any, ...]) -> Any:
    import numpy as np

    base = np.memmap(filename, dtype="u1", mode=mode, offset=start, shape=(size,))
    dtype, shape, strides, offset = layout
    made = np.ndarray.__new__(np.memmap, shape, dtype=dtype, buffer=base, offset=offset, strides=strides)
    for name in ("_mmap", "filename", "offset", "mode"):
        setattr(made, name, getattr(base, name))
    return made


def _reduce_result(array: Any) -> Any:
    """Pickle a memmap that a task returns: as its file when it has one, else as a plain array, as joblib does."""
    memmap = _backing(array)[1] if array.size else None
    if memmap is not None and memmap.filename is not None:
        return _reduce_file(array, memmap)
    import numpy as np

    # Not array.__reduce__(): numpy's own form for old protocols loses the byte order.
    flat = _contiguous(_as_plain(array))
    memory = bytearray(flat.ravel(order="K").view("u1").data) if flat.size else bytearray(1)
    return np.ndarray, (flat.shape, flat.dtype, memory, 0, flat.strides)


# --- layout ---


def _is_mappable(dtype: Any) -> bool:
    return not dtype.hasobject and dtype.kind != "T"  # "T" strings keep their characters elsewhere


def _as_plain(array: Any) -> Any:
    import numpy as np

    return array.view(np.ndarray) if type(array) is np.memmap else array


def _is_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _bytes_of(array: Any) -> memoryview:
    memory: memoryview = array.ravel(order="K").view("u1").data
    return memory


def _contiguous(array: Any) -> Any:
    if _is_contiguous(array):
        return array
    return as_copy_of(array, array.copy(order="K") if array.ndim > 1 else array.copy())


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _address_of_buffer(memory: Any) -> int:
    import numpy as np

    return _address(np.frombuffer(memory, dtype="u1"))


def _backing(array: Any) -> tuple[Any, Any]:
    """Return the mapping that an array's memory is, and the memmap that was made for it; (None, None) else."""
    import numpy as np

    memmap = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array._mmap is not None:
            memmap = array
        array = array.base
    return (memmap._mmap, memmap) if memmap is not None else (None, None)


def _reduce_file(array: Any, memmap: Any) -> Any:
    low, high = _bounds(array)
    start = int(memmap.offset) + low - _bounds(memmap)[0]
    mode = "r+" if memmap.mode == "w+" else memmap.mode  # else the reader would clear the file
    layout = (array.dtype, array.shape, array.strides, _address(array) - low)
    return _rebuild_file, (str(memmap.filename), mode, start, high - low, layout)


def _bounds(array: Any) -> tuple[int, int]:
    """Return the addresses of the first byte of an array's memory and of the one behind it."""
    low = high = _address(array)
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high + int(array.itemsize)


class _ByIdentity:
    """A mapping by identity of objects that need not be hashable; forgets the dead ones."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def get(self, key: Any) -> Any:
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def set(self, key: Any, value: Any) -> None:
        number, entries = id(key), self._entries
        entries[number] = (weakref.ref(key, lambda _: entries.pop(number, None)), value)

    def clear(self) -> None:
        """Forget all: at once, where dropping the whole thing would leave it, in a cycle, to the collector."""
        self._entries.clear()


#: What backs the mappings that this process made, so that a nested call passes the same object on.
_received = _ByIdentity()
