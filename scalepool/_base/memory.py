"""How much memory this process may use: what the machine has, or less where a container sets a limit.

A file that is missing, empty or malformed sets no limit.
"""

from __future__ import annotations

import os

from scalepool._base.cgroups import memberships, read_text

__all__ = ["memory_bytes", "private_bytes"]

_UNKNOWN_BYTES = 1 << 32


def memory_bytes(*, physical_bytes: int | None = None, root: str = "/") -> int:
    """Return the smallest limit that applies, in bytes.

    Parameters
    ----------
    physical_bytes
        Memory of the machine; ``None`` asks the system.
    root
        Directory that stands for ``/`` when ``proc`` and ``sys`` are read.
    """
    limits = [_physical_bytes() if physical_bytes is None else physical_bytes]
    for controllers, path in memberships(root):
        if not controllers:
            limits += _walk_up(f"{root}/sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers:
            limits += _walk_up(f"{root}/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(limits)


def private_bytes(root: str = "/") -> int:
    """Return how much memory this process has to itself: resident, and neither a mapped file nor shared.

    That is what its end would give back. 0 where the system does not tell.

    Parameters
    ----------
    root
        Directory that stands for ``/`` when ``proc`` is read.
    """
    fields = read_text(f"{root}/proc/self/statm").split()
    if len(fields) < 3:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # the system does not know these names
        return _UNKNOWN_BYTES


def _walk_up(top: str, path: str, name: str) -> list[int]:
    """Read the limit of a cgroup and of its parents. A container sees its own as the top, whatever the path says."""
    parts = [part for part in path.split("/") if part]
    texts = (read_text("/".join([top, *parts[:depth], name])).strip() for depth in range(len(parts), -1, -1))
    return [int(text) for text in texts if text.isascii() and text.isdecimal() and int(text)]
