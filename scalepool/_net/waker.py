"""What all channels need beside their sockets: a way to be woken, and a guard against use after a fork."""

from __future__ import annotations

import os

from scalepool.errors import SessionError

__all__ = ["ForkGuard", "Wakeable", "Waker"]

_forks = 0
"""Forks between the start of this program and this process. Asking for the process id is a system call each time."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one number per process, as there is one fork history
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class ForkGuard:
    """Knows whether this process is still the one that made it: a socket is of no use in a forked child."""

    __slots__ = ("_made_after",)

    def __init__(self) -> None:
        self._made_after = _forks

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the guard."""
        return self._made_after != _forks

    def check(self) -> None:
        """Raise SessionError in a forked child."""
        if self._made_after != _forks:
            raise SessionError("this scalepool session belongs to the parent process; make a new pool after the fork")


class Waker:
    """A descriptor that any thread can make readable. Wakes that nobody took yet are one."""

    __slots__ = ("_event", "_pipe", "closed", "fd")

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if hasattr(os, "eventfd") else -1
        self._pipe = (-1, -1)
        if self._event < 0:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        self.fd = self._event if self._event >= 0 else self._pipe[0]
        self.closed = False

    def wake(self) -> None:
        """Make ``fd`` readable; after ``close`` this does nothing."""
        try:
            if self._event >= 0:
                os.eventfd_write(self._event, 1)
            else:
                os.write(self._pipe[1], b"\0")
        except BlockingIOError:
            pass  # full: it will wake anyway
        except OSError:
            if not self.closed:
                raise

    def drain(self) -> None:
        """Take all wakes."""
        try:
            if self._event >= 0:
                os.eventfd_read(self._event)
            else:
                os.read(self.fd, 4096)
        except BlockingIOError:
            pass  # another wake-up was taken together with this one

    def close(self) -> None:
        """Close the descriptors."""
        self.closed = True
        for fd in (self._event, *self._pipe):
            if fd >= 0:
                os.close(fd)


class Wakeable:
    """Base of every channel: open until its waker is closed, of no use in a forked child."""

    def __init__(self) -> None:
        self._guard = ForkGuard()
        self._waker = Waker()

    @property
    def closed(self) -> bool:
        """Whether the channel was closed."""
        return self._waker.closed

    def wake(self) -> None:
        """Make a running or the next ``poll`` return; from any thread."""
        self._waker.wake()
