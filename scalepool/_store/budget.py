"""How much shared memory and disk the objects of a session may take: one account that all its processes share.

The account is a small file in the session's directory, with one slot for each process. A process writes its own slot
only, in one call and under a lock that the kernel takes back from the dead: so whoever is killed wherever, the sum of
the slots stays true, but for the slot of the dead one. That one is closed by the driver, which knows what is left of
it. The file is read and written, never mapped: a full disk is an error then, and no signal.

Only segments are counted, when they grow or are closed. Memory that is used again, the usual case, is no news here.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading

from scalepool._base.clock import monotonic_s
from scalepool._base.tuples import NamedTuple
from scalepool.errors import ObjectStoreFullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Budget", "BudgetLimits", "Patience", "Usage"]

_SLOT = struct.Struct("<qqq")  # peer + 1 (0: free), bytes of memory, bytes of disk
_SLOTS_BYTES = 1 << 20  # far more slots than there can be processes
_TIGHT = 0.75  # of the budget of memory: from there on nothing is kept for later use
_LOOK_S = 0.005  # a look at the account is not older than this where an exact one is not needed


_PATIENCE_S = 5.0


class BudgetLimits(NamedTuple):
    """What a session may use.

    Attributes
    ----------
    memory_bytes
        Shared memory of all processes together.
    disk_bytes
        Spilled objects of all processes together; ``None``: half of what the disk has left, theirs included.
    folder
        Where objects are spilled to; empty: nowhere.
    """

    memory_bytes: int
    disk_bytes: int | None = None
    folder: str = ""


class Usage(NamedTuple):
    """What a session, or one process of it, uses: bytes of shared memory, and of disk."""

    memory_bytes: int
    disk_bytes: int


class Budget:
    """One process's access to the account. Thread-safe; not for a child that inherits it by fork.

    Parameters
    ----------
    path
        The account; made if it is not there. Empty: this process counts alone.
    peer
        Number of this process, unique in the session.
    limits
        What all of them may use.

    Raises
    ------
    OSError
        The account can be neither opened nor made.
    """

    def __init__(self, path: str, peer: int, limits: BudgetLimits) -> None:
        self.limits = limits
        self._peer = peer
        self._lock = threading.RLock()  # reentrant: the collector may run user code that frees objects
        self._fd = -1
        if path:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._depth = 0
        self._slot = -1
        self._own = [0, 0]
        self._seen = Usage(0, 0)
        self._seen_at = float("-inf")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.usage()} of {self.limits}>"

    def usage(self) -> Usage:
        """What all processes of the session use."""
        return self._locked(self._look)

    @property
    def tight(self) -> bool:
        """Whether so much memory is in use that none should be kept for later; a few milliseconds old."""
        now = monotonic_s()
        if now - self._seen_at > _LOOK_S:
            with self._lock:
                self._look()
        return self._seen.memory_bytes > _TIGHT * self.limits.memory_bytes

    def take_memory(self, size_bytes: int, *, by_force: bool = False) -> bool:
        """Count memory that is about to be allocated; ``False``: it is not there, and nothing is counted.

        ``by_force`` is for memory that is in use already and has only changed hands.
        """

        def take() -> bool:
            if not by_force and self._look().memory_bytes + size_bytes > self.limits.memory_bytes:
                return False
            self._add(size_bytes, 0)
            return True

        return self._locked(take)

    def take_disk(self, size_bytes: int, *, by_force: bool = False) -> bool:
        """Count disk that is about to be written; ``False``: it is not there, and nothing is counted."""

        def take() -> bool:
            used = 0 if by_force else self._look().disk_bytes
            if not by_force and used + size_bytes > self._disk_limit(used):
                return False
            self._add(0, size_bytes)
            return True

        return self._locked(take)

    def give(self, memory_bytes: int = 0, disk_bytes: int = 0) -> None:
        """Count back what was taken."""
        if memory_bytes or disk_bytes:
            self._locked(lambda: self._add(-memory_bytes, -disk_bytes))

    def bury(self, peer: int) -> None:
        """Close the slot of a process that is gone. What is left of its memory is to be taken ``by_force`` before."""

        def close_slot() -> None:
            for slot, (owner, _, _) in enumerate(self._slots()):
                if owner == peer + 1:
                    self._write(slot, 0, 0, 0)

        self._locked(close_slot)

    def full(self, size_bytes: int, reason: str = "") -> ObjectStoreFullError:
        """The error for an object of this size that found no room."""
        usage = self.usage()
        return ObjectStoreFullError(
            size_bytes=size_bytes,
            memory=(usage.memory_bytes, self.limits.memory_bytes),
            disk=(usage.disk_bytes, self._disk_limit(usage.disk_bytes)),
            folder=self.limits.folder,
            reason=reason,
        )

    def close(self) -> None:
        """Let go of the account; what is counted from here on is counted for nobody."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _disk_limit(self, used_bytes: int) -> int:
        limit, folder = self.limits.disk_bytes, self.limits.folder
        if limit is not None or not folder:
            return limit or 0
        try:
            found = os.statvfs(folder)
        except OSError:
            return 0
        return (found.f_bavail * found.f_frsize + used_bytes) // 2

    def _locked(self, step: Callable[[], T]) -> T:
        """Take a step while no other process does.

        No context manager of our own: a signal's handler may raise between any two calls, all processes wait for this
        lock, and between the calls of one frame there is no moment at which it is held and not given back.
        """
        with self._lock:
            outermost = self._depth == 0
            self._depth += 1
            try:
                if outermost and self._fd >= 0:
                    fcntl.flock(self._fd, fcntl.LOCK_EX)
                return step()
            finally:
                self._depth -= 1
                if outermost and self._fd >= 0:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _look(self) -> Usage:
        memory, disk = self._own
        if self._fd >= 0:
            memory = disk = 0
            for _, slot_memory, slot_disk in self._slots():
                memory += slot_memory
                disk += slot_disk
            if self._slot < 0:  # counted alone so far: see _write
                memory += self._own[0]
                disk += self._own[1]
        self._seen, self._seen_at = Usage(memory, disk), monotonic_s()
        return self._seen

    def _slots(self) -> Iterator[tuple[int, int, int]]:
        data = os.pread(self._fd, _SLOTS_BYTES, 0) if self._fd >= 0 else b""
        return _SLOT.iter_unpack(data[: len(data) // _SLOT.size * _SLOT.size])

    def _add(self, memory_bytes: int, disk_bytes: int) -> None:
        self._own[0] += memory_bytes
        self._own[1] += disk_bytes
        if self._fd < 0:
            return
        slot = self._slot if self._slot >= 0 else self._free_slot()
        if self._write(slot, self._peer + 1, *self._own):
            self._slot = slot

    def _free_slot(self) -> int:
        slot = -1
        for slot, (owner, _, _) in enumerate(self._slots()):
            if owner in (0, self._peer + 1):
                return slot
        return slot + 1

    def _write(self, slot: int, owner: int, memory_bytes: int, disk_bytes: int) -> bool:
        try:
            os.pwrite(self._fd, _SLOT.pack(owner, memory_bytes, disk_bytes), slot * _SLOT.size)
        except OSError:
            return False  # the disk has not even these bytes left: this process counts alone until it has
        return True


class Patience:
    """How long it makes sense to wait for room: as long as others give some back.

    When that has come to nothing once, the next in need does not wait as long again for the same to happen. What
    counts is the least that was in use: those who try and fail take some and give it back all the time.

    Parameters
    ----------
    budget
        What is used up.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._least_bytes: float = float("inf")
        self._until = self._asked_at = float("-inf")

    def lasts(self, size_bytes: int) -> bool:
        """Whether to try again: what is used has shrunk in the last seconds, and could ever leave so much room."""
        limits = self._budget.limits
        if size_bytes > max(limits.memory_bytes, limits.disk_bytes or 0):
            return False
        now, used_bytes = monotonic_s(), sum(self._budget.usage())
        if used_bytes < self._least_bytes or now > self._asked_at + 2 * _PATIENCE_S:
            self._until = now + _PATIENCE_S
            self._least_bytes = used_bytes
        self._asked_at = now
        return used_bytes > 0 and now < self._until

    def rewarded(self) -> None:
        """There was room: the next in need may wait anew."""
        self._least_bytes = float("inf")
