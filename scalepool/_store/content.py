"""Telling whether two runs of bytes are the same, at the speed of memory and without keeping other threads waiting.

By ``memcmp``: Python's own comparisons of buffers look at each byte, or hold the interpreter's lock meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading

__all__ = ["address_of", "advise", "are_equal", "look_alike", "move", "sample_of"]

_COMPARE_BYTES = 1 << 24  # at a time; between two of these a difference that another thread has found ends it
_COMPARE_ALONE_BYTES = 64 << 20
_COMPARE_THREADS = 4  # more do not read faster on most machines
_LOOK_BYTES = 1 << 24
_BLOCK_BYTES = 4096
_BLOCKS = 64
_SAMPLES = 32
_SAMPLE_BYTES = 64


class _Buffer(ctypes.Structure):
    """CPython's ``Py_buffer``, the same from 3.3 on."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_get.restype = ctypes.c_int
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_Buffer)]
_release.restype = None
_libc = ctypes.CDLL(None)
_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int
_memmove = _libc.memmove
_memmove.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memmove.restype = None
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_madvise.restype = ctypes.c_int


def address_of(view: memoryview) -> int:
    """Return where the memory of a contiguous view begins; it stays there while the view lives."""
    buffer = _Buffer()
    _get(view, ctypes.byref(buffer), 0)  # raises what refuses
    address = buffer.buf or 0
    _release(ctypes.byref(buffer))
    return address


def advise(address: int, size_bytes: int, advice: int) -> bool:
    """Tell the kernel what to do with some pages, as ``mmap.madvise``, but without the interpreter's lock.

    False: it does not know that advice, or could not follow it.
    """
    return _madvise(address, size_bytes, advice) == 0  # type: ignore[no-any-return]


def move(target: int, source: int, size_bytes: int) -> None:
    """Copy between two addresses, without the interpreter's lock; whose memory it is the caller keeps."""
    _memmove(target, source, size_bytes)


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Compare all bytes; those of large buffers in several threads.

    Parameters
    ----------
    one, other
        Contiguous.
    """
    size_bytes = one.nbytes
    if other.nbytes != size_bytes:
        return False
    places = address_of(one), address_of(other)
    threads = min(os.cpu_count() or 1, _COMPARE_THREADS) if size_bytes >= _COMPARE_ALONE_BYTES else 1
    share = -(-size_bytes // threads // _COMPARE_BYTES) * _COMPARE_BYTES
    differences: list[int] = []
    helpers = [
        threading.Thread(
            target=_find_difference, args=(places, start, min(start + share, size_bytes), differences), daemon=True
        )
        for start in range(share, size_bytes, share)
    ]
    for helper in helpers:
        helper.start()
    _find_difference(places, 0, min(share, size_bytes), differences)
    for helper in helpers:
        helper.join()
    return not differences


def _find_difference(places: tuple[int, int], start: int, stop: int, differences: list[int]) -> None:
    one, other = places
    for at in range(start, stop, _COMPARE_BYTES):
        if differences or _memcmp(one + at, other + at, min(_COMPARE_BYTES, stop - at)):
            differences.append(at)
            return


def look_alike(one: memoryview, other: memoryview) -> bool:
    """Compare in full up to 16 MB, beyond that blocks that are evenly spread."""
    if one.nbytes <= _LOOK_BYTES or other.nbytes != one.nbytes:
        return are_equal(one, other)
    last = one.nbytes - _BLOCK_BYTES
    starts = (last * number // (_BLOCKS - 1) for number in range(_BLOCKS))
    places = address_of(one), address_of(other)
    return not any(_memcmp(places[0] + at, places[1] + at, _BLOCK_BYTES) for at in starts)


def sample_of(view: memoryview) -> int:
    """Return a number that is the same for equal bytes, and another one for most that differ."""
    flat = view.cast("B")
    last = max(flat.nbytes - _SAMPLE_BYTES, 0)
    starts = [last * number // (_SAMPLES - 1) for number in range(_SAMPLES)]
    return hash((flat.nbytes, *[bytes(flat[at : at + _SAMPLE_BYTES]) for at in starts]))
