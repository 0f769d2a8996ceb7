"""Children of this process that read what it had mapped when they were forked.

A child made by ``fork`` inherits every view, and sees what is in the segment *now*: also when its parent has let go of
the object and the creator has written the next one there. So what was being read at a fork counts as read until that
child is gone.

How that is known: the child inherits one end of a pipe, and the other reaches its end when the child, and whatever it
has forked in turn, has exited or called ``exec``. (A child that closes descriptors which it does not know, as daemons
do, is lost sight of.) The pipe is made only when there is something to protect.
"""

from __future__ import annotations

import os

__all__ = ["ForkedReaders"]


class ForkedReaders:
    """Which objects forked children may read, and of these, which nobody else reads any more."""

    __slots__ = ("_forks", "_given_up", "_making")

    def __init__(self) -> None:
        self._forks: dict[int, frozenset[int]] = {}  # by the descriptor that tells of the end
        self._given_up: set[int] = set()
        self._making: tuple[int, int] | None = None

    def __contains__(self, object_id: int) -> bool:
        return any(object_id in objects for objects in self._forks.values())

    def __len__(self) -> int:
        return len(self._forks)

    def fork_begins(self, objects: frozenset[int]) -> None:
        """Be told that this process will fork while it reads these."""
        if not objects:
            return
        try:
            self._making = os.pipe()
        except OSError:  # no descriptor is left: then these are never given up
            self._forks[-1 - len(self._forks)] = objects
        else:
            self._forks[self._making[0]] = objects

    def fork_ends(self, *, in_child: bool) -> None:
        """Be told that it has forked, or that this failed."""
        making, self._making = self._making, None
        if in_child:  # what the parent waits for is no concern of its child
            for fd in self._forks:
                if fd >= 0:
                    os.close(fd)
            self._forks.clear()
            self._given_up.clear()
        elif making is not None:
            os.close(making[1])
            os.set_blocking(making[0], False)

    def give_up(self, object_id: int) -> None:
        """The last view of this process on an object that a child may read is gone."""
        self._given_up.add(object_id)

    def released(self) -> list[int]:
        """Objects that nobody reads any more, because children have ended since the last call."""
        over = [fd for fd in self._forks if _is_closed(fd)]
        for fd in over:
            os.close(fd)
            del self._forks[fd]
        free = [object_id for object_id in self._given_up if object_id not in self] if over else []
        self._given_up.difference_update(free)
        return free


def _is_closed(fd: int) -> bool:
    if fd < 0:
        return False
    try:
        return not os.read(fd, 1)
    except BlockingIOError:
        return False
