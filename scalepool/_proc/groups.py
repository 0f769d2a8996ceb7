"""Signals to a worker's process group that cannot hit a stranger whose process got the same number.

Only the parent may trust a number: it has not reaped the process. Everybody else goes through the pidfd.
"""

from __future__ import annotations

import os
import select
import signal

__all__ = ["process_ended", "signal_group", "signal_process", "state_of"]

_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2  # Linux 6.9
# Members that fork while we go through the list are met in a later round; SIGKILL leaves none after two or three.
_MAX_ROUNDS = 10


def process_ended(pidfd: int, timeout_ms: int = 0) -> bool:
    """True when the process behind ``pidfd`` has ended, waiting for it at most ``timeout_ms``."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(timeout_ms))


def signal_process(pidfd: int, sig: int) -> bool:
    """Send ``sig`` to one process; False when it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, sig)
    except ProcessLookupError:
        return False
    return True


def signal_group(pidfd: int, group: int, session: int, sig: int) -> bool:
    """Send ``sig`` to every process of a group, also when its leader is long gone.

    Parameters
    ----------
    pidfd
        The group's leader; may have ended.
    group
        Number of the group, which is the leader's pid.
    session
        Session that the group belongs to; tells ours from a stranger's group under the same number.
    sig
        Signal number.

    Returns
    -------
    bool
        False when nobody was there to be signalled.
    """
    try:
        signal.pidfd_send_signal(pidfd, sig, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except ProcessLookupError:
        return False
    except OSError:
        # EINVAL from a kernel before 6.9 (or a sandbox with its own idea): go through the members one by one.
        return _signal_members(group, session, sig)
    return True


def _signal_members(group: int, session: int, sig: int) -> bool:
    seen: set[int] = set()
    for _ in range(_MAX_ROUNDS):
        fresh = [pid for pid in _members(group, session) if pid not in seen]
        if not fresh:
            break
        seen.update(fresh)
        for pid in fresh:
            _signal_member(pid, group, session, sig)
    return bool(seen)


def _signal_member(pid: int, group: int, session: int, sig: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return  # it ended since it was listed
    try:
        # Looked at again now that the pidfd pins it: the number may have changed hands in between.
        if _group_and_session(pid) == (group, session):
            signal_process(pidfd, sig)
    finally:
        os.close(pidfd)


def _members(group: int, session: int) -> list[int]:
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib is a heavy import
    except OSError:
        return []
    return [pid for pid in pids if _group_and_session(pid) == (group, session)]


def state_of(pid: int) -> str:
    """Return the state that the kernel gives for a process, one letter as in ``ps``; empty: there is none."""
    fields = _stat(pid)
    return fields[0].decode() if fields else ""


def _group_and_session(pid: int) -> tuple[int, int] | None:
    fields = _stat(pid)
    return (int(fields[2]), int(fields[3])) if fields else None


def _stat(pid: int) -> list[bytes]:
    """Return state, parent, group, session and so on of a process; empty: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is a heavy import
            stat = file.read()
    except OSError:
        return []
    return stat[stat.rindex(b")") + 2 :].split()  # after the name, which may itself hold spaces and parentheses
