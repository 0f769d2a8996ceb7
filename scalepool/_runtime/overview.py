"""What a session's driver knows and its workers do not, for ``scalepool stack``: tasks that nobody runs yet, and hosts.

The driver has a file like that of each worker (``whereabouts``), with the same way to ask: whoever wants to know writes
a number into it, and whoever drives the session's socket, or the helper thread, answers when it next looks. It is made
with the first look, so programs that are over in a second or two never have it.
"""

from __future__ import annotations

import os
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from scalepool._base.clock import monotonic_s
from scalepool._store.files import anonymous_file
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scalepool._core.backlog import Held
    from scalepool._core.hub import Hub
    from scalepool._runtime.client import Client
    from scalepool._runtime.slots import Slot

__all__ = ["FILE_NAME", "FOUND", "REQUEST", "Overview", "summary"]

FILE_NAME: Final = "scalepool-overview"
_FILE_BYTES: Final = 16384
REQUEST: Final = slice(0, 8)
"""Where who asks writes a number other than the one that is there."""
_ANSWERED: Final = slice(8, 16)
"""The number of the latest request that has been answered; written last."""
FOUND: Final = slice(16, _FILE_BYTES)
"""The answer, as JSON in ASCII, filled up with zeros."""
_LOOK_S: Final = 2.0
_TASKS_MAX: Final = 20_000
"""So many tasks are looked at."""
_LINES_MAX: Final = 50


class Overview:
    """The file of this session.

    Parameters
    ----------
    hub
        Knows the tasks.
    client
        The driver's, which knows their names.

    Attributes
    ----------
    due_at
        When to look again.
    hosts
        Returns the processes of the workers that are on other hosts, by host.
    """

    __slots__ = ("_client", "_fd", "_hub", "_looking", "due_at", "hosts")

    def __init__(self, hub: Hub, client: Client) -> None:
        self._hub = hub
        self._client = client
        self._fd = -1
        self._looking = threading.Lock()
        self.due_at = monotonic_s() + _LOOK_S
        self.hosts: Callable[[], Mapping[str, Sequence[int]]] = dict

    def look(self, now: float) -> None:
        """Answer if somebody has asked; from any thread, and as often as one likes."""
        if now < self.due_at or not self._looking.acquire(blocking=False):
            return
        try:
            self.due_at = now + _LOOK_S
            if self._fd < 0:
                self._fd = anonymous_file(FILE_NAME, _FILE_BYTES)
            head = os.pread(self._fd, FOUND.start, 0)
            if head[REQUEST] != head[_ANSWERED]:
                os.pwrite(self._fd, self._answer(), FOUND.start)
                os.pwrite(self._fd, head[REQUEST], _ANSWERED.start)
        except (OSError, StoreError):
            self.due_at = float("inf")  # no descriptor or memory: this session cannot be asked, and works on
        finally:
            self._looking.release()

    def _answer(self) -> bytes:
        import json  # like what else is loaded here, only when somebody asks

        room_bytes = FOUND.stop - FOUND.start
        found: dict[str, Any] = {"pid": os.getpid()}
        try:
            kept = self._client.kept
            lines, more = summary(self._hub.held_back(), {} if kept is None else kept.table)
            found.update(waiting=lines, more=more, hosts={name: list(pids) for name, pids in self.hosts().items()})
        except Exception as error:  # noqa: BLE001 - who looks must never do harm: it is told instead
            found["note"] = f"cannot be looked into: {type(error).__name__}: {error}"[:500]
        while len(data := json.dumps(found).encode("ascii")) > room_bytes:
            lines = found["waiting"]
            if lines:
                found["more"] += sum(one["count"] for one in lines[len(lines) // 2 :])
                found["waiting"] = lines[: len(lines) // 2]
            else:
                found["hosts"] = {name: pids[: len(pids) // 2] for name, pids in found["hosts"].items()}
        return data.ljust(room_bytes, b"\0")

    def close(self) -> None:
        """Nobody can ask any more."""
        with self._looking:
            self.due_at = float("inf")
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def summary(held: Iterator[Held], slots: Mapping[int, Slot]) -> tuple[list[dict[str, Any]], int]:
    """Count tasks by their name and what they wait for; return the counts, and how many tasks there are beyond.

    Parameters
    ----------
    held
        The tasks.
    slots
        What the driver knows of their values, their names included.
    """
    counts: dict[tuple[str, str], int] = {}
    for one in islice(held, _TASKS_MAX):
        reason = one.reason
        if not reason:
            makers = dict.fromkeys(_name(slots, maker) or "a task of another process" for maker in one.makers)
            reason = f"what {', '.join(makers)} returns" if makers else "values"
        name = _name(slots, one.task) if one.is_kept else "calls of pools and executors"
        key = (name or (f"{one.actor}'s methods" if one.actor else "tasks of other processes"), reason)
        counts[key] = counts.get(key, 0) + 1
    lines = [{"name": name, "reason": reason, "count": count} for (name, reason), count in counts.items()]
    rest = sum(1 for _ in held)
    return lines[:_LINES_MAX], rest + sum(int(str(one["count"])) for one in lines[_LINES_MAX:])


def _name(slots: Mapping[int, Slot], task: int) -> str:
    slot = slots.get(task)
    return "" if slot is None else slot.name[:200]
