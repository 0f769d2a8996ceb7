"""Objects that stay in the store after the last task that carried them, because the next call may bring the same bytes.

As long as the array lives that an object was made of, up to a limit and for some seconds without use. An object whose
array cannot be watched (``bytes`` know no weak references) stays less than a second.
"""

from __future__ import annotations

import sys
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from scalepool._runtime.stored import StoredObject

__all__ = ["Retained"]

WATCHED_S: Final = 30.0
UNWATCHED_S: Final = 0.4
"""With the second that the session's helper takes to look, less than a second and a half."""

_OWN_REFERENCES: Final = 2  # of the entry, and of the call that counts


class _Kept:
    __slots__ = ("idle_since", "is_pinned", "stored", "watch")

    def __init__(self, stored: StoredObject, *, is_pinned: bool) -> None:
        self.stored = stored
        self.is_pinned = is_pinned
        self.watch: weakref.ref[Any] | None = None
        self.idle_since = float("inf")


class Retained:
    """Decides what stays; what it lets go of is released by whoever refers to it last.

    Each step on the table is one step of the interpreter: an array may die at any moment, in any thread.

    Parameters
    ----------
    limit_bytes
        Of all that is not pinned.
    """

    __slots__ = ("_kept", "_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: dict[int, _Kept] = {}  # least recently used first

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Of all that is kept and not pinned."""
        return sum(kept.stored.ref.size_bytes for kept in list(self._kept.values()) if not kept.is_pinned)

    def keep(self, stored: StoredObject, array: Any, *, pin: bool = False) -> None:
        """Keep an object, or note its use.

        Parameters
        ----------
        array
            Whose death ends it; ``None``: none that could be watched.
        pin
            Keep it whatever the limit: somebody holds it in any case.
        """
        object_id = stored.ref.object_id
        known = self._kept.pop(object_id, None)
        if stored.ref.size_bytes > self._limit_bytes and not pin and known is None:
            return
        kept = known or _Kept(stored, is_pinned=pin)
        kept.is_pinned = kept.is_pinned or pin
        kept.idle_since = float("inf")
        if array is not None:
            kept.watch = weakref.ref(array, self._forgets(object_id))
        self._kept[object_id] = kept
        self._shrink(self._limit_bytes)

    def _forgets(self, object_id: int) -> Callable[[weakref.ref[Any]], None]:
        entries = self._kept

        def forget(dead: weakref.ref[Any]) -> None:
            kept = entries.get(object_id)
            if kept is not None and kept.watch is dead:
                entries.pop(object_id, None)

        return forget

    def _shrink(self, limit_bytes: int) -> None:
        excess = self.size_bytes - limit_bytes
        for object_id, kept in list(self._kept.items()):
            if excess <= 0:
                return
            if not kept.is_pinned:
                excess -= kept.stored.ref.size_bytes
                self._kept.pop(object_id, None)

    def drop(self, object_id: int) -> None:
        """Let go of one: its array has other bytes by now."""
        self._kept.pop(object_id, None)

    def give_up(self) -> None:
        """Let go of all that is not pinned: memory is short."""
        self._shrink(0)

    def expire(self, now: float) -> None:
        """Let go of what nobody has used for some seconds; to be called once a second or so.

        Parameters
        ----------
        now
            Seconds of a monotonic clock.
        """
        for object_id, kept in list(self._kept.items()):
            if kept.is_pinned:
                continue
            if sys.getrefcount(kept.stored) > _OWN_REFERENCES:  # a task carries it
                kept.idle_since = float("inf")
                continue
            kept.idle_since = min(kept.idle_since, now)
            if now - kept.idle_since >= (UNWATCHED_S if kept.watch is None else WATCHED_S):
                self._kept.pop(object_id, None)

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
