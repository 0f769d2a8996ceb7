"""How many CPUs this process may really use, and why.

``os.cpu_count()`` is the number of CPUs of the machine. In a container, a batch job or under ``taskset`` that is a
multiple of what the process gets, and a pool of that size thrashes or is killed for its memory. The answer here is the
*smallest* of all limits that apply:

1. ``-X cpu_count=N`` or ``PYTHON_CPU_COUNT=N``: the user has spoken; nothing else is looked at (as in CPython 3.13,
   where the option beats the variable and the word ``default`` means "not set").
2. The affinity mask of this process.
3. The cgroup's CPU quota, version 2 (``cpu.max``) or 1 (``cpu.cfs_quota_us``), of the process's own cgroup and of
   each of its parents, rounded up to whole CPUs.
4. What a batch system granted: SLURM, PBS, LSF.

A file or variable that is missing, empty or malformed sets no limit: a wrong guess must not stop a program that would
have run. All inputs are arguments, so every rule is tested without being root.

Each program loads this before its first task: hence no ``pathlib``, and ``re`` only where it is needed (5 ms).
"""

from __future__ import annotations

import os
import sys

from scalepool._base.cgroups import memberships, read_text
from scalepool._base.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CpuCount", "cpu_count"]

_SLURM_ENTRY = r"(\d+)(?:\(x(\d+)\))?"
_SLURM_NODES_MAX = 100_000  # far above any real job; a hostile "1(x999999999)" must not eat the memory
_CGROUP_DEFAULT_MOUNTS = {"cgroup2": "/sys/fs/cgroup", "cgroup": "/sys/fs/cgroup/cpu"}


class CpuCount(NamedTuple):
    """How many CPUs may be used (at least 1) and the limit that decided it, in words."""

    count: int  # type: ignore[assignment]  # hides a method of tuple, which nobody needs here
    reason: str


class _Mount(NamedTuple):
    """One cgroup file system: where it is seen (`point`) and which cgroup is its top directory (`top`)."""

    point: str
    top: str


def cpu_count(
    *,
    environ: Mapping[str, str] | None = None,
    affinity: int | None = None,
    root: str | os.PathLike[str] = "/",
    xoption: str | None = None,
) -> CpuCount:
    """Count the CPUs that this process may use.

    Parameters
    ----------
    environ
        Environment variables; ``None`` means those of this process (none under ``python -E``).
    affinity
        Number of CPUs in the affinity mask; ``None`` asks the kernel.
    root
        Directory that stands for ``/`` when ``proc`` and ``sys`` are read.
    xoption
        Value of ``-X cpu_count``; ``None`` takes the one this interpreter was started with.

    Returns
    -------
    CpuCount
        The smallest limit and its reason; the count is never below 1.
    """
    if environ is None:
        environ = {} if sys.flags.ignore_environment else os.environ
    if xoption is None:
        given = sys._xoptions.get("cpu_count")
        xoption = given if isinstance(given, str) else None
    override = _override(environ, xoption)
    if override is not None:
        return override
    top = os.fspath(root)
    limits = [
        _affinity(affinity),
        *_cgroup_limits(top),
        *_slurm(environ),
        *_pbs(environ),
        *_lsf(environ),
    ]
    return min(limits, key=lambda limit: limit.count)  # the first of equals: affinity is the plainest reason


def _override(environ: Mapping[str, str], xoption: str | None) -> CpuCount | None:
    """Return what the user ordered; an option of ``default`` also cancels the variable, as in CPython."""
    if xoption == "default":
        return None
    for name, text in (("-X cpu_count", xoption), ("PYTHON_CPU_COUNT", environ.get("PYTHON_CPU_COUNT"))):
        count = _positive(text)
        if count is not None:
            return CpuCount(count, f"{name}={count}")
    return None


def _affinity(given: int | None) -> CpuCount:
    if given is not None:
        return CpuCount(max(1, given), "affinity mask")
    ask = getattr(os, "sched_getaffinity", None)  # Linux and some BSDs
    if ask is not None:
        return CpuCount(max(1, len(ask(0))), "affinity mask")
    return CpuCount(os.cpu_count() or 1, "CPUs of the machine")


# --- cgroups -----------------------------------------------------------------------------------------------------


def _cgroup_limits(root: str) -> Iterator[CpuCount]:
    mounts = _cgroup_mounts(root)
    for controllers, path in memberships(root):
        if not controllers:
            yield from _walk_up(root, mounts["cgroup2"], path, _quota_v2, "cgroup v2")
        elif "cpu" in controllers:
            yield from _walk_up(root, mounts["cgroup"], path, _quota_v1, "cgroup v1")


def _cgroup_mounts(root: str) -> dict[str, _Mount]:
    """Find where version 2 and the cpu controller of version 1 are mounted; the usual places when not told."""
    found = {kind: _Mount(point, "/") for kind, point in _CGROUP_DEFAULT_MOUNTS.items()}
    for line in read_text(f"{root}/proc/self/mountinfo").splitlines():
        # 36 35 98:0 /top /point rw,noatime master:1 - cgroup cgroup rw,cpu,cpuacct
        left, dash, right = line.partition(" - ")
        here, there = left.split(), right.split()
        if not dash or len(here) < 5 or len(there) < 3:
            continue
        kind, options = there[0], there[2].split(",")
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options):
            found[kind] = _Mount(_unescape(here[4]), _unescape(here[3]))
    return found


def _walk_up(
    root: str, mount: _Mount, path: str, quota: Callable[[str], float | None], label: str
) -> Iterator[CpuCount]:
    """Yield the quota of the cgroup at `path` and of each parent that is visible below the mount point."""
    parts = [part for part in _below(path, mount.top).split("/") if part]
    if ".." in parts:  # our cgroup lies outside of our namespace: only its visible top can be read
        parts = []
    base = f"{root}/{mount.point}"
    for depth in range(len(parts), -1, -1):
        cpus = quota("/".join([base, *parts[:depth]]))
        if cpus is not None:
            name = "/" + "/".join(parts[:depth])
            yield CpuCount(max(1, int(-(-cpus // 1))), f"{label} quota of {cpus:g} CPUs at {name}")


def _below(path: str, top: str) -> str:
    """Return `path` as seen from the mount: a container without a cgroup namespace mounts a subdirectory as top."""
    if top == "/" or not (path == top or path.startswith(top + "/")):
        return path
    return path[len(top) :]


def _quota_v2(directory: str) -> float | None:
    words = read_text(f"{directory}/cpu.max").split()
    if len(words) != 2:
        return None
    return _ratio(words[0], words[1])  # "max" is no number and so no limit


def _quota_v1(directory: str) -> float | None:
    quota = read_text(f"{directory}/cpu.cfs_quota_us")
    period = read_text(f"{directory}/cpu.cfs_period_us")
    return _ratio(quota, period)  # a quota of -1 is no limit


def _ratio(quota: str, period: str) -> float | None:
    quota_us, period_us = _positive(quota), _positive(period)
    return None if quota_us is None or period_us is None else quota_us / period_us


# --- batch systems -----------------------------------------------------------------------------------------------


def _slurm(environ: Mapping[str, str]) -> Iterator[CpuCount]:
    """Yield the CPUs of one task, else those of the job on this node.

    Without ``--cpus-per-task`` only ``SLURM_JOB_CPUS_PER_NODE`` tells, e.g. ``4(x2),2`` for three nodes.
    ``SLURM_NODEID`` says which of them we are on; without it, the first, where the batch script runs.
    """
    per_task = _positive(environ.get("SLURM_CPUS_PER_TASK"))
    if per_task is not None:
        yield CpuCount(per_task, f"SLURM_CPUS_PER_TASK={per_task}")
        return
    text = environ.get("SLURM_JOB_CPUS_PER_NODE", "")
    nodes = _expand_slurm(text) if text else []
    if not nodes:
        return
    node = environ.get("SLURM_NODEID", "0").strip()
    index = int(node) if node.isdecimal() and int(node) < len(nodes) else 0
    if nodes[index] > 0:
        yield CpuCount(nodes[index], f"SLURM_JOB_CPUS_PER_NODE={text} on node {index}")


def _expand_slurm(text: str) -> list[int]:
    """Turn ``4(x2),2`` into ``[4, 4, 2]``; anything else into ``[]``."""
    import re

    nodes: list[int] = []
    for entry in text.split(","):
        match = re.fullmatch(_SLURM_ENTRY, entry.strip())
        if match is None:
            return []
        times = int(match[2] or 1)
        if times + len(nodes) > _SLURM_NODES_MAX:
            return []
        nodes += [int(match[1])] * times
    return nodes


def _pbs(environ: Mapping[str, str]) -> Iterator[CpuCount]:
    """Yield PBS's grants; ``NCPUS`` counts only inside a PBS job, other programs use that name as well."""
    names = ["PBS_NP", "NCPUS"] if "PBS_JOBID" in environ or "PBS_ENVIRONMENT" in environ else ["PBS_NP"]
    for name in names:
        count = _positive(environ.get(name))
        if count is not None:
            yield CpuCount(count, f"{name}={count}")


def _lsf(environ: Mapping[str, str]) -> Iterator[CpuCount]:
    """Yield LSF's slots. They span all hosts of the job; affinity caps them to this host."""
    count = _positive(environ.get("LSB_DJOB_NUMPROC"))
    if count is not None:
        yield CpuCount(count, f"LSB_DJOB_NUMPROC={count}")


# --- reading -----------------------------------------------------------------------------------------------------


def _positive(text: str | None) -> int | None:
    """Return a whole number >= 1, or ``None`` for everything else."""
    stripped = (text or "").strip()
    if not (stripped.isascii() and stripped.isdecimal()) or len(stripped) > 18:
        return None
    return int(stripped) or None


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes: a space is written as a backslash and 040."""
    if "\\" not in field:
        return field
    import re

    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
