"""A large buffer that is sent once and used by many tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scalepool._runtime.session import current
from scalepool._store.files import SegmentRef
from scalepool._wire.payload import announce

if TYPE_CHECKING:
    import mmap

__all__ = ["SharedBuffer", "put_buffer"]


class SharedBuffer:
    """A handle of one object in the store; made by :func:`put_buffer`.

    Pickling it sends the reference only. The object is freed when the last handle in the process that made it, and the
    last task that carries it, are gone.
    """

    __slots__ = ("__weakref__", "_owner", "_ref")

    def __init__(self, ref: SegmentRef, *, owner: Any = None) -> None:
        self._ref = ref
        self._owner = owner

    @property
    def size_bytes(self) -> int:
        """Length of the buffer."""
        return self._ref.size_bytes

    def open(self, mode: Literal["r", "c"] = "r") -> mmap.mmap:
        """Map the buffer: ``"r"`` read-only and shared, ``"c"`` private, writable and copied where written."""
        return current().client.views.open(self._ref, mode)

    def __reduce__(self) -> tuple[Any, ...]:
        announce(self._ref.object_id)
        ref = self._ref
        return _rebuild, (ref.object_id, ref.pid, ref.fd, ref.size_bytes)

    def __del__(self) -> None:
        if self._owner is not None:
            self._owner.outgoing.released.append(self._ref.object_id)

    def __repr__(self) -> str:
        return f"<SharedBuffer {self._ref.object_id} {self._ref.size_bytes} bytes>"


def put_buffer(buffer: Any) -> SharedBuffer:
    """Copy one contiguous buffer into the store.

    Parameters
    ----------
    buffer
        Anything with a contiguous buffer: bytes, an array, a memoryview.

    Raises
    ------
    StoreError
        When no memory or no file descriptor is left.
    """
    client = current().client
    view = memoryview(buffer).cast("B")
    ref = client.store.create(client.new_object_id(), [view])
    client.put(ref)
    return SharedBuffer(ref, owner=client)


def _rebuild(object_id: int, pid: int, fd: int, size_bytes: int) -> SharedBuffer:
    return SharedBuffer(SegmentRef(object_id, pid, fd, size_bytes))
