"""A large buffer that is sent once and used by many tasks."""

from __future__ import annotations

from scalepool._runtime.session import current
from scalepool._store.files import SegmentRef
from scalepool._wire.payload import announce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from scalepool._runtime.stored import StoredObject

__all__ = ["SharedBuffer", "put_buffer"]


class SharedBuffer:
    """A handle of one object in the store; made by :func:`put_buffer`.

    Pickling it sends the reference only. The object is freed when the last handle in the process that made it, and the
    last task that carries it, are gone.
    """

    __slots__ = ("__weakref__", "_ref", "_stored")

    def __init__(self, ref: SegmentRef, stored: StoredObject | None = None) -> None:
        self._ref = ref
        self._stored = stored

    @property
    def size_bytes(self) -> int:
        """Length of the buffer."""
        return self._ref.size_bytes

    def open(self, mode: Literal["r", "c"] = "r") -> memoryview:
        """Map the buffer: ``"r"`` read-only and shared, ``"c"`` private, writable and copied where written."""
        return current().client.views.open(self._ref, mode)

    def still_holds(self, array_buffer: memoryview) -> bool:
        """Whether it still looks like the memory of the array that it was made from; False where it was not made.

        Compared in full up to 16 MB, beyond that in samples.
        """
        return self._stored is not None and current().client.stored.still_holds(self._stored, array_buffer)

    def __reduce__(self) -> tuple[Any, ...]:
        announce(self._ref.object_id)
        return _rebuild, tuple(self._ref)

    def __repr__(self) -> str:
        return f"<SharedBuffer {self._ref.object_id} {self._ref.size_bytes} bytes>"


def put_buffer(buffer: Any, *, reuse: bool = False) -> SharedBuffer:
    """Copy one contiguous buffer into the store.

    Parameters
    ----------
    buffer
        Anything with a contiguous buffer: bytes, an array, a memoryview.
    reuse
        Refer to what the store has already if that is the same, and let it be kept for the next call.

    Raises
    ------
    StoreError
        When no memory or no file descriptor is left.
    """
    view = memoryview(buffer).cast("B")
    client = current().client
    stored = client.stored.share(view) if reuse else client.stored.put([view])
    return SharedBuffer(stored.ref, stored)


def _rebuild(object_id: int, pid: int, fd: int, size_bytes: int) -> SharedBuffer:
    return SharedBuffer(SegmentRef(object_id, pid, fd, size_bytes))
