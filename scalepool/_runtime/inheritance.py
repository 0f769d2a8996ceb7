"""What a worker gets of objects that travel "only through inheritance": locks, queues, shared values, ends of pipes.

A worker inherits nothing, for it is no child of the process that made the group. But all that such an object has can
be opened by any process of the same user: a semaphore of the ``spawn`` context by its name, a descriptor through
``/proc`` or, where that is not allowed, by the way that the store has (``_store.handover``). So, while a group's
initializer is pickled, a stand-in is where multiprocessing has the child that it is about to start, and the objects
take themselves apart as they do for a child. Nothing of multiprocessing is changed.
"""

from __future__ import annotations

import fcntl
import functools
import os
import stat
import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.tuples import NamedTuple
from scalepool._wire.pickling.culprit import ReducerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalepool._store.handover import Handover
    from scalepool._wire.pickling.pickler import Reducers

__all__ = ["ForkContextError", "Inheritance", "SentDescriptor"]

_PIDFD_GETFD: Final = 438
"""Number of the system call, the same on all architectures."""

_PICKLED_ANYWAY: Final = (types.MethodType, types.MethodDescriptorType, types.WrapperDescriptorType, functools.partial)
"""Types for which multiprocessing has reducers of its own although pickle knows them, and knows them better."""

_MAKERS: Final = {"Synchronized": "Value", "SynchronizedArray": "Array", "SynchronizedString": "Array"}


class ForkContextError(ReducerError):
    """A lock, or something that has one, was made for children forked by its maker: it has no name to open it by."""

    def explain(self, kind: str) -> str:
        """Return what to do with a culprit whose class is ``kind``."""
        name = kind.rpartition(".")[2]
        maker = _MAKERS.get(name, name)
        return (
            "it belongs to the 'fork' context, whose locks only reach processes forked by this one; "
            f"create it with scalepool.multiprocessing.{maker}() or multiprocessing.get_context('spawn').{maker}()"
        )


class SentDescriptor(NamedTuple):
    """A descriptor of another process, as the ``DupFd`` of multiprocessing.

    Attributes
    ----------
    pid, fd
        Whose it is, and its number there.
    flags
        Access mode and status flags.
    identity
        Device and inode: what is behind the number must still be the same.
    is_socket
        Whether it is one; those cannot be opened by path.
    number
        What it is fetched by where descriptors are passed over a socket; 0: it is opened.
    """

    pid: int
    fd: int
    flags: int
    identity: tuple[int, int]
    is_socket: bool
    number: int = 0

    @classmethod
    def of(cls, fd: int) -> SentDescriptor:
        """Describe a descriptor of this process."""
        status = os.fstat(fd)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK)
        return cls(os.getpid(), fd, flags, (status.st_dev, status.st_ino), stat.S_ISSOCK(status.st_mode))

    def detach(self) -> int:
        """Return a descriptor of the calling process for the same thing.

        Raises
        ------
        OSError
            When its owner is gone or has closed it, or the system does not allow it.
        """
        if self.number:
            fd = _fetch(self.number)
        else:
            fd = _take_descriptor(self.pid, self.fd) if self.is_socket else self._open()
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.identity:
            os.close(fd)
            raise OSError(f"descriptor {self.fd} of process {self.pid} has been closed, and its number used again")
        return fd

    def _open(self) -> int:
        # Not blocking, or a pipe whose other end is closed already would wait for one to be opened.
        fd = os.open(f"/proc/{self.pid}/fd/{self.fd}", self.flags | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_SETFL, self.flags)
        return fd


def _fetch(number: int) -> int:
    from scalepool._runtime.session import current

    handover = current().client.storage.handover
    if handover is None:
        raise OSError("it is out of another session")
    return handover.fetch(number)


def _take_descriptor(pid: int, fd: int) -> int:
    import ctypes

    pidfd = os.pidfd_open(pid)
    try:
        taken: int = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, fd, 0)
        if taken < 0:
            code = ctypes.get_errno()
            raise OSError(
                code,
                f"a socket or two-way Pipe could not be taken over from process {pid} ({os.strerror(code)}); "
                "use Pipe(duplex=False), a Queue or a Manager",
            )
        return taken
    finally:
        os.close(pidfd)


class Inheritance:
    """What one group's initializer was given, kept usable for as long as workers may start.

    The semaphores, shared memory and managers' objects behind the arguments live as long as the objects here, and the
    user may drop or close his own at once; descriptors are duplicated for that.

    Parameters
    ----------
    handover
        Where descriptors are deposited for the workers; ``None``: they open them through ``/proc``.
    new_number
        Returns a number that nothing else has, to deposit one under.
    """

    __slots__ = ("_descriptors", "_handover", "_kept", "_new_number", "_numbers", "_used")

    def __init__(self, handover: Handover | None = None, new_number: Callable[[], int] = int) -> None:
        self._handover = handover
        self._new_number = new_number
        self._numbers: dict[int, int] = {}
        self._descriptors: dict[int, int] = {}
        self._kept: object = None
        self._used = False

    @contextmanager
    def spawning(self, value: object) -> Iterator[Reducers]:
        """While this is entered ``value`` can be pickled, in this thread and with these reducers, as for a child."""
        from multiprocessing import context

        outer = context.get_spawning_popen()
        child: Any = _Child(self)
        context.set_spawning_popen(child)
        try:
            yield self._reducers()
        except BaseException:
            self.release()
            raise
        finally:
            context.set_spawning_popen(outer)
        if self._used:
            self._kept = value

    def send(self, fd: int) -> SentDescriptor:
        """Duplicate a descriptor and return where to find it."""
        self._used = True
        if fd not in self._descriptors:  # a value may have to be pickled twice
            self._descriptors[fd] = os.dup(fd)
        own = self._descriptors[fd]
        sent = SentDescriptor.of(own)
        if self._handover is None:
            return sent
        if fd not in self._numbers:
            number = self._numbers[fd] = self._new_number()
            self._handover.deposit(number, own)
        return sent._replace(number=self._numbers[fd])

    def release(self) -> None:
        """No worker will start any more."""
        while self._numbers and self._handover is not None:
            self._handover.withdraw(self._numbers.popitem()[1])
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
        self._kept = None

    def _reducers(self) -> Reducers:
        """Return what multiprocessing's own pickler has, corrected, and what we have to look at."""
        from multiprocessing import current_process, reduction

        found: dict[type, Callable[[Any], Any]] = dict(vars(reduction.ForkingPickler)["_extra_reducers"])
        found = {kind: reducer for kind, reducer in found.items() if kind not in _PICKLED_ANYWAY}
        shared_ctypes = sys.modules.get("multiprocessing.sharedctypes")
        for kind, reducer in found.items():
            if shared_ctypes is not None and reducer is shared_ctypes.reduce_ctype:
                found[kind] = functools.partial(_reduce_ctype, reducer)
        synchronize = sys.modules.get("multiprocessing.synchronize")
        if synchronize is not None:
            found.update(dict.fromkeys(_with_subclasses(synchronize.SemLock), self._reduce_semaphore))
        found[type(current_process().authkey)] = self._reduce_key
        return found

    def _reduce_semaphore(self, lock: Any) -> Any:
        if lock._semlock.name is None:
            raise ForkContextError("a lock of the 'fork' context cannot leave the processes forked from here")
        self._used = True
        return lock.__reduce_ex__(5)

    def _reduce_key(self, key: Any) -> Any:
        # A manager's object: it lives as long as somebody has a proxy of it.
        self._used = True
        return key.__reduce__()


class _Child:
    """The part of ``multiprocessing.popen_spawn_posix.Popen`` that objects talk to while they are pickled."""

    def __init__(self, inheritance: Inheritance) -> None:
        self._inheritance = inheritance

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> SentDescriptor:  # noqa: N802  # the original's name
        return self._inheritance.send(fd)


def _reduce_ctype(original: Callable[[Any], Any], value: Any) -> Any:
    """Copy a ctypes object that is in nobody's shared memory, though others of its type are."""
    return original(value) if hasattr(value, "_wrapper") else value.__reduce_ex__(5)


def _with_subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _with_subclasses(derived)
