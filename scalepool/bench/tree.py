"""CPU time and memory of a process with everything it has started. Linux only, like the package."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import psutil

__all__ = ["MemoryMeter", "cpu_s", "free_bytes", "members"]


def members(root_pid: int) -> list[psutil.Process]:
    """Return a process and all its living descendants; empty when it is gone."""
    try:
        root = psutil.Process(root_pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s() -> float:
    """Return the CPU seconds, user and system, that this process and its descendants have used so far.

    Those of the living come from their CPU clocks (nanoseconds, threads that have ended included), those of the dead
    from whoever reaped them. A process that nobody in the tree reaps is lost with its end.
    """
    me = os.getpid()
    total = 0.0
    for process in members(me):
        if process.pid != me:
            total += _clock_s(process.pid) + _reaped_s(process)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return total + children.ru_utime + children.ru_stime + time.process_time()


def _clock_s(pid: int) -> float:
    # What clock_getcpuclockid(3) returns on Linux. /proc/PID/stat would count in ticks of ten milliseconds.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has just ended: its parent has the figure


def _reaped_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.children_user + times.children_system)


class MemoryMeter:
    """Measures the memory of a tree of processes: what would come free if it ended.

    That is the proportional set size of all members, but shared memory counts by what is allocated, be it mapped or
    not: a segment that a library holds without having it mapped is memory all the same.

    Parameters
    ----------
    root_pid
        The tree's first process.
    """

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._dev_shm_before = _dev_shm_bytes()

    def read_bytes(self) -> int:
        """Return the bytes that the tree has now; 0 when it is gone."""
        private, mapped_shared = 0, 0
        files: dict[tuple[int, int], int] = {}
        for process in members(self._root_pid):
            pss, shared = _rollup_bytes(process.pid)
            private += pss - shared
            mapped_shared += shared
            files.update(_memory_files(process.pid))
        allocated = sum(files.values()) + max(0, _dev_shm_bytes() - self._dev_shm_before)
        return private + max(mapped_shared, allocated)


def _rollup_bytes(pid: int) -> tuple[int, int]:
    """Return (proportional set size, its part in shared memory) of one process."""
    found = {"Pss": 0, "Pss_Shmem": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    except OSError:
        pass  # it has ended, or is about to: it counts as nothing
    return found["Pss"], found["Pss_Shmem"]


def _memory_files(pid: int) -> dict[tuple[int, int], int]:
    """Return the allocated bytes of each memfd that a process has open, by the file's identity."""
    found: dict[tuple[int, int], int] = {}
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - thousands of names, no Path for each
    except OSError:
        return found
    for name in names:
        path = f"{folder}/{name}"
        try:
            if os.readlink(path).startswith("/memfd:"):  # noqa: PTH115
                status = os.stat(path)  # noqa: PTH116
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
        except OSError:
            continue  # closed meanwhile
    return found


def _dev_shm_bytes() -> int:
    try:
        usage = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def free_bytes() -> int:
    """Return the memory that is available on this machine."""
    return int(psutil.virtual_memory().available)
