"""What `Facts` mean for a user, and what to do about it: pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalepool.cli.facts import Facts
    from scalepool.cli.leftovers import Leftovers

__all__ = ["Finding", "examine", "of_leftovers", "of_trial"]

FDS_PER_WORKER: Final = 4
"""Descriptors of the driver for each worker; tests/live/test_limits.py holds it to that."""
_FDS_OF_A_PROGRAM: Final = 28
"""The program's own, some that it may open included; the same test."""
_TASKS_PER_WORKER: Final = 3
_OLDEST: Final = {"pyzmq": (26,), "cloudpickle": (3, 0), "joblib": (1, 4), "psutil": (5, 9)}
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_SMALL_SHM_BYTES: Final = 256 * _MIB
_SMALL_TEMPORARY_BYTES: Final = 8 * _MIB
_SMALL_ADDRESS_SPACE_BYTES: Final = 4 * _GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    subject
        What it is about.
    level
        ``ok``, ``hint`` (works, but worth to know) or ``problem``.
    text
        What was found.
    remedy
        What to do; empty where there is nothing to do.
    """

    subject: str
    level: str
    text: str
    remedy: str = ""


def examine(facts: Facts) -> list[Finding]:
    """Judge everything but leftovers and the trial."""
    judges = (_versions, _cpus, _memory, _shared_memory, _processes, _files, _tasks, _temporary)
    return [finding for judge in judges for finding in judge(facts)]


def of_leftovers(found: Leftovers, *, cleaned: bool) -> Finding:
    """Judge what dead programs have left."""
    if not found:
        return Finding("leftovers", "ok", "nothing is left of programs that were killed")
    text = found.describe()
    if cleaned:
        return Finding("leftovers", "ok", f"removed {text}")
    return Finding("leftovers", "problem", f"{text} of programs that were killed", "scalepool doctor --clean")


def of_trial(seconds: float, error: str, *, explained: bool = True) -> Finding:
    """Judge the trial; ``explained``: a problem was found before."""
    if error:
        remedy = "see the problems above" if explained else "run a short script with a Pool: its errors say more"
        return Finding("trial", "problem", f"a pool of two workers failed: {error}", remedy)
    if seconds > 10.0:
        text = f"a pool of two workers works, but took {seconds:.1f} s for its first calls"
        return Finding("trial", "hint", text, "the machine is overloaded, or its file system is slow")
    return Finding("trial", "ok", f"a pool of two workers gave its first results after {seconds:.2f} s")


def _versions(facts: Facts) -> Iterator[Finding]:
    python = ".".join(map(str, facts.python))
    if facts.python < (3, 10):
        yield Finding("python", "problem", f"{python} is too old", "use Python 3.10 or later")
    elif facts.python >= (3, 14):
        yield Finding("python", "hint", f"{python} has not been tested", "Python 3.10 to 3.13 have")
    else:
        yield Finding("python", "ok", f"{python} on {facts.system}")
    for name, version in facts.versions.items():
        oldest = _OLDEST.get(name)
        if name in facts.import_errors:
            text = f"{version} is installed and cannot be loaded: {facts.import_errors[name]}"
            yield Finding(name, "problem", text, f"pip install --force-reinstall '{name}'")
        elif version is None:
            if oldest is not None:
                wanted = ".".join(map(str, oldest))
                yield Finding(name, "problem", "is not installed", f"pip install '{name}>={wanted}'")
        elif oldest is not None and _numbers(version) < oldest:
            wanted = ".".join(map(str, oldest))
            yield Finding(name, "problem", f"{version} is too old", f"pip install '{name}>={wanted}'")
        else:
            yield Finding(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _cpus(facts: Facts) -> Iterator[Finding]:
    text = f"{facts.cpus} of {facts.machine_cpus} are used by default ({facts.cpus_reason})"
    if facts.cpus < facts.machine_cpus:
        remedy = "if you want more: raise the container's or batch job's limit, or give the number of workers yourself"
        yield Finding("CPUs", "hint", text, remedy)
    else:
        yield Finding("CPUs", "ok", text)


def _memory(facts: Facts) -> Iterator[Finding]:
    text = f"{_size(facts.memory_bytes)} may be used, the machine has {_size(facts.physical_bytes)}"
    if facts.memory_bytes < facts.cpus * _GIB // 4:
        yield Finding("memory", "hint", text, f"little for {facts.cpus} workers: start fewer, or they may be killed")
    else:
        yield Finding("memory", "ok", text)
    if facts.address_space_bytes is not None and facts.address_space_bytes < _SMALL_ADDRESS_SPACE_BYTES:
        text = f"a process may have {_size(facts.address_space_bytes)} of address space (ulimit -v)"
        yield Finding("address space", "hint", text, "numeric libraries reserve gigabytes: ulimit -v unlimited")
    if facts.memlock_bytes is not None and facts.memlock_bytes < _MIB:
        text = f"{_size(facts.memlock_bytes)} may be locked (ulimit -l); scalepool locks nothing"
        yield Finding("locked memory", "ok", text)


def _shared_memory(facts: Facts) -> Iterator[Finding]:
    if not facts.memfd_error:
        if facts.has_memfd:
            yield Finding("shared memory", "ok", "by memfd: no file, and no limit but memory")
        else:
            text = "by files in the temporary folder, which are slower on a disk: there are no memfds here"
            yield Finding("shared memory", "hint", text, "allow memfd_create in the sandbox, or set TMPDIR to a tmpfs")
    else:
        yield Finding("shared memory", "problem", f"cannot be had: {facts.memfd_error}", "see limits and memory here")
    if facts.shm_error:
        text = (
            f"/dev/shm cannot be used ({facts.shm_error}); scalepool does not need it, but locks of multiprocessing do"
        )
        yield Finding("/dev/shm", "hint", text, "for those: mount -t tmpfs -o mode=1777 tmpfs /dev/shm")
    elif facts.shm_bytes is not None and facts.shm_bytes < _SMALL_SHM_BYTES:
        text = f"/dev/shm has {_size(facts.shm_bytes)}; scalepool does not use it, but other libraries do"
        yield Finding("/dev/shm", "hint", text, "for those: docker run --shm-size=1g")


def _processes(facts: Facts) -> Iterator[Finding]:
    if facts.proc_error:
        text = f"/proc cannot be read: {facts.proc_error}"
        yield Finding("/proc", "problem", text, "mount it; large objects and blame for dead workers need it")
    else:
        yield Finding("/proc", "ok", "can be read")
    if facts.pidfd_error:
        remedy = "Linux 5.3 or later, and a sandbox that allows pidfd_open"
        yield Finding("pidfd", "problem", f"processes cannot be watched: {facts.pidfd_error}", remedy)


def _files(facts: Facts) -> Iterator[Finding]:
    limit = facts.nofile
    if limit is None:
        yield Finding("open files", "ok", "no limit (ulimit -n)")
        return
    # A quarter may be taken by large objects.
    workers = max(0, (limit * 3 // 4 - _FDS_OF_A_PROGRAM) // FDS_PER_WORKER)
    text = f"{limit} per process (ulimit -n), enough for about {workers} workers"
    if workers < facts.cpus * 2:
        more = f" (up to {facts.nofile_hard})" if facts.nofile_hard is None or facts.nofile_hard > limit else ""
        level = "problem" if workers < 2 else "hint"
        yield Finding("open files", level, text, f"ulimit -n {max(1024, limit * 4)}{more.replace('None', 'any')}")
    else:
        yield Finding("open files", "ok", text)


def _tasks(facts: Facts) -> Iterator[Finding]:
    rooms = []
    if facts.nproc is not None:
        rooms.append((facts.nproc - facts.processes, f"ulimit -u is {facts.nproc}, {facts.processes} are taken"))
    if facts.pids_left is not None:
        rooms.append((facts.pids_left, "the container's pids limit"))
    if not rooms:
        yield Finding("processes", "ok", "no limit (ulimit -u)")
        return
    left, reason = min(rooms)
    workers = max(0, left // _TASKS_PER_WORKER)
    text = f"room for about {workers} workers ({reason})"
    if workers < facts.cpus * 2:
        level = "problem" if workers < 2 else "hint"
        yield Finding("processes", level, text, "raise the limit, or end processes that are not needed")
    else:
        yield Finding("processes", "ok", text)


def _temporary(facts: Facts) -> Iterator[Finding]:
    if facts.temporary_error:
        where = facts.temporary or "no folder for temporary files"
        remedy = "set TMPDIR to a folder that can be written"
        yield Finding("temporary folder", "problem", f"{where}: {facts.temporary_error}", remedy)
        return
    if facts.temporary_wanted:
        text = f"TMPDIR is {facts.temporary_wanted!r}, which cannot be used, so {facts.temporary} is"
        remedy = "make that folder, with room that can be written, at a path of 70 bytes at most; or unset TMPDIR"
        yield Finding("temporary folder", "hint", text, remedy)
        return
    free = facts.temporary_free_bytes
    text = f"{facts.temporary}, {_size(free)} free" if free is not None else facts.temporary
    if free is not None and free < _SMALL_TEMPORARY_BYTES:
        yield Finding("temporary folder", "hint", text, "make room there, or set TMPDIR to another folder")
    else:
        yield Finding("temporary folder", "ok", text)


def _size(size_bytes: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} B"
