"""Whether the kernel killed a process for want of memory: counters that it keeps, compared with what they were.

A process that the kernel kills looks like any other that got SIGKILL. The kernel counts such kills per cgroup and for
the whole machine; a counter that has grown is as good as a confession for the first, and a strong hint for the second.
"""

from __future__ import annotations

from scalepool._base.cgroups import memberships, read_text

__all__ = ["OomWatch"]


class OomWatch:
    """Remembers the counters; ``verdict`` says what has changed since it was last asked.

    Parameters
    ----------
    root
        Directory that stands for ``/`` when ``proc`` and ``sys`` are read.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._group = self._group_kills()
        self._machine = self._machine_kills()

    def verdict(self) -> str:
        """Return a sentence when some process was killed for want of memory since the last call, else nothing."""
        group, machine = self._group_kills(), self._machine_kills()
        of_group, of_machine = group > self._group, machine > self._machine
        self._group, self._machine = group, machine
        if of_group:
            return "the kernel killed a process of this cgroup because its memory limit was reached"
        if of_machine:
            return "the kernel killed a process because the machine's memory was full"
        return ""

    def _group_kills(self) -> int:
        kills = 0
        for controllers, path in memberships(self._root):
            if not controllers:
                kills += self._counter(f"{self._root}/sys/fs/cgroup", path, "memory.events")
            elif "memory" in controllers:
                kills += self._counter(f"{self._root}/sys/fs/cgroup/memory", path, "memory.oom_control")
        return kills

    def _counter(self, top: str, path: str, name: str) -> int:
        # A container sees its own group as the top, whatever the path says.
        text = read_text(f"{top}/{path.strip('/')}/{name}") or read_text(f"{top}/{name}")
        return _field(text, "oom_kill")

    def _machine_kills(self) -> int:
        return _field(read_text(f"{self._root}/proc/vmstat"), "oom_kill")


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0
