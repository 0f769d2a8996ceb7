"""The border to the operating system: nameless shared files, and how to reach one that another process holds.

Every shared byte lives in a file without a name (a memfd; where there is none, a temporary file that is unlinked at
once), so that nothing is left behind whoever is killed, and a tiny /dev/shm does not matter.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import sys

from scalepool._base.tuples import NamedTuple
from scalepool._store.layout import STAMP_BYTES, pack_stamp, stamp_offset
from scalepool.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "FDS_PER_MAPPING",
    "HAS_MEMFD",
    "SegmentLost",
    "SegmentRef",
    "anonymous_file",
    "can_look_into",
    "check_stamp",
    "copy_file",
    "default_max_fds",
    "in_memory",
    "map_file",
    "memfds_work",
    "open_board",
    "open_segment",
    "places_of",
    "unlinked_file",
    "write_buffers",
]

HAS_MEMFD = hasattr(os, "memfd_create")
_REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)
"""How a kernel or a sandbox says that there are no memfds here."""

FDS_PER_MAPPING = 0 if sys.version_info >= (3, 13) else 1
"""Descriptors that an `mmap.mmap` keeps for itself: before 3.13 always a duplicate of the one it is given."""

# Bytes per system call. Linux writes at most 0x7ffff000 at once, macOS fails above 2**31 - 1; nothing is gained above
# this.
_IO_BYTES = 1 << 28
_COPY_BYTES = 1 << 22
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EBADF})


class SegmentRef(NamedTuple):
    """Where an object's bytes are: any process of this user on this host finds them at /proc/<pid>/fd/<fd>.

    Attributes
    ----------
    object_id
        The object, unique in the session.
    pid, fd
        The process that holds the segment, and its descriptor there.
    size_bytes
        Length of the object; the segment may be longer.
    """

    object_id: int
    pid: int
    fd: int
    size_bytes: int


def places_of(columns: Sequence[int]) -> dict[int, SegmentRef]:
    """Return the places of objects that are described by four integers each, as messages have them."""
    return {columns[at]: SegmentRef(*columns[at : at + 4]) for at in range(0, len(columns), 4)}


class SegmentLost(StoreError):
    """The object is nowhere any more, or its file is damaged: nobody can read it, whoever tries.

    Attributes
    ----------
    object_id
        The object.
    """

    def __init__(self, object_id: int, text: str) -> None:
        super().__init__(text)
        self.object_id = object_id

    def __reduce__(self) -> tuple[type[SegmentLost], tuple[int, str]]:
        return SegmentLost, (self.object_id, str(self))


def default_max_fds() -> int:
    """A quarter of the descriptors this process may open: the rest belongs to the user's program and to the sockets."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(soft // 4, 1)


def anonymous_file(name: str, size_bytes: int, *, use_memfd: bool = HAS_MEMFD, folder: str = "") -> int:
    """Open a new shared file that has no path, of *size_bytes*, all holes.

    Parameters
    ----------
    name
        Shown in /proc/<pid>/maps, for whoever debugs.
    use_memfd
        ``False``: a file in *folder*, unlinked at once (slower; may be on a disk).
    folder
        Where that file is; empty: the directory for temporary files.

    Raises
    ------
    StoreError
        No descriptor, or no room for a file of this size.
    """
    try:
        fd = _memfd(name, folder) if use_memfd else unlinked_file(folder)
    except OSError as error:
        raise StoreError(f"no shared memory file can be opened: {error}") from error
    try:
        os.ftruncate(fd, size_bytes)
    except OSError as error:
        os.close(fd)
        raise StoreError(f"no shared memory file of {size_bytes} bytes can be made: {error}") from error
    return fd


def memfds_work() -> bool:
    """Whether there are memfds here: an old kernel has none, and a sandbox may refuse them."""
    if not HAS_MEMFD:
        return False
    try:
        os.close(os.memfd_create("scalepool-trial", os.MFD_CLOEXEC))
    except OSError as error:
        return error.errno not in _REFUSALS
    return True


def _memfd(name: str, folder: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return unlinked_file(folder)


def map_file(fd: int, size_bytes: int, *, flags: int, prot: int) -> mmap.mmap:
    """Map the first *size_bytes* of *fd*, which may be closed afterwards.

    Raises
    ------
    StoreError
        No address space, too many mappings, or the file is shorter than that.
    """
    try:
        if sys.version_info >= (3, 13):
            return mmap.mmap(fd, size_bytes, flags=flags, prot=prot, trackfd=False)
        return mmap.mmap(fd, size_bytes, flags=flags, prot=prot)
    except (OSError, ValueError) as error:
        raise StoreError(f"{size_bytes} bytes of shared memory cannot be mapped: {error}") from error


def open_board(name: str, size_bytes: int) -> tuple[int, mmap.mmap]:
    """Make an anonymous file that this process writes through a mapping and others read through its descriptor.

    Raises
    ------
    StoreError
        No descriptor or no memory for it.
    """
    fd = anonymous_file(name, size_bytes)
    try:
        os.posix_fallocate(fd, 0, size_bytes)  # a page that is missing when it is written would kill the writer
        return fd, map_file(fd, size_bytes, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, StoreError) as error:
        os.close(fd)
        raise StoreError(f"no memory for {name}: {error}") from error


def write_buffers(fd: int, parts: Sequence[tuple[int, memoryview]]) -> None:
    """Write byte views at their offsets, allocating what is missing: where a mapping would die of SIGBUS, this reports.

    Raises
    ------
    OSError
        Memory, disk or a limit is exhausted; what has been written so far stays.
    """
    for offset, view in parts:
        done = 0
        while done < len(view):
            done += os.pwrite(fd, view[done : done + _IO_BYTES], offset + done)


def unlinked_file(folder: str) -> int:
    """Open a new file in *folder* that has no name there; empty: in the directory for temporary files.

    Raises
    ------
    OSError
        The folder is not there, or cannot be written to.
    """
    if not folder:
        import tempfile  # not needed where there are memfds

        folder = tempfile.gettempdir()
    flags = os.O_RDWR | os.O_CLOEXEC
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless:
        try:
            return os.open(folder, flags | nameless, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise  # else the file system does not know how
    path = f"{folder}/scalepool-{os.getpid()}-{os.urandom(8).hex()}"
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(path)  # noqa: PTH108 - pathlib takes 5 ms to import, in each program
    return fd


def in_memory(fd: int) -> bool:
    """Whether the file behind *fd* is one of memory: a memfd, or on a tmpfs."""
    import fcntl  # where nothing is spilled and no worker dies, nobody asks

    try:
        fcntl.fcntl(fd, getattr(fcntl, "F_GET_SEALS", 1034))
    except OSError:
        return False
    return True


def copy_file(source: int, target: int, size_bytes: int) -> Iterator[int]:
    """Write the first *size_bytes* of one file into another; yield after each few MB how much there is.

    Raises
    ------
    OSError
        Either cannot be read or written, or the disk is full.
    """
    at = 0
    room = memoryview(bytearray(min(_COPY_BYTES, size_bytes)))
    while at < size_bytes:
        count = os.preadv(source, [room[: size_bytes - at]], at)
        if not count:
            raise OSError(errno.EIO, f"the file ends after {at} of {size_bytes} bytes")
        write_buffers(target, [(at, room[:count])])
        at += count
        yield at


def open_segment(ref: SegmentRef) -> int:
    """Open the segment that *ref* names and make sure that it holds that object; the caller closes the descriptor.

    It is opened read-only: a reader's private mapping is writable all the same.

    Raises
    ------
    StoreError
        The holder is gone, does not let us in, or the segment holds something else by now.
    """
    try:
        fd = _open_descriptor_of(ref.pid, ref.fd)
    except OSError as error:
        text = _why_not_opened(ref, error)
        raise (SegmentLost(ref.object_id, text) if error.errno in _GONE else StoreError(text)) from error
    return check_stamp(fd, ref)


def check_stamp(fd: int, ref: SegmentRef) -> int:
    """Return *fd* if it is the segment of that object; it is closed if not.

    Raises
    ------
    StoreError
        It is not.
    """
    try:
        found = os.pread(fd, STAMP_BYTES, stamp_offset(ref.size_bytes))
    except OSError as error:  # not a file at all
        os.close(fd)
        text = f"descriptor {ref.fd} of process {ref.pid} cannot be read, or is no segment: {error}"
        raise SegmentLost(ref.object_id, text) from error
    if found != pack_stamp(ref.object_id, ref.size_bytes):
        os.close(fd)
        text = f"object {ref.object_id} is gone: descriptor {ref.fd} of process {ref.pid} no longer holds it"
        raise SegmentLost(ref.object_id, text)
    return fd


def can_look_into(pid: int) -> bool:
    """Whether this process may open descriptors of another one, a child of its, and be treated likewise.

    A process that has made itself undumpable may look into others, but its own entry in /proc belongs to root.
    """
    try:
        os.stat(f"/proc/{pid}/fd/0")  # noqa: PTH116 - follows the link, which is what has to be allowed
        return os.stat("/proc/self/fd").st_uid == os.geteuid()  # noqa: PTH116
    except OSError:
        return False


def _open_descriptor_of(pid: int, fd: int) -> int:
    if pid == os.getpid():
        return os.dup(fd)  # needs no /proc
    # O_NONBLOCK: should the number belong to a stranger's pipe by now, opening it must not wait for a writer.
    return os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _why_not_opened(ref: SegmentRef, error: OSError) -> str:
    start = f"object {ref.object_id} ({ref.size_bytes} bytes) cannot be reached: process {ref.pid}"
    if error.errno in _GONE:
        if os.access(f"/proc/{ref.pid}", os.F_OK):
            return f"{start} no longer holds it (descriptor {ref.fd} is closed)"
        return f"{start}, which held it, is gone"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{start} does not let this process look into its /proc entry ({error}); "
            "SCALEPOOL_STORE_ACCESS=fds does without"
        )
    return f"{start}, descriptor {ref.fd}: {error}"
