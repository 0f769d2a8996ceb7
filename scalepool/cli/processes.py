"""The sessions of this user as ``/proc`` shows them; nothing is asked of the processes themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from scalepool._runtime.overview import FILE_NAME as SESSION_FILE_NAME
from scalepool._runtime.whereabouts import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Seen", "Session", "session_file", "sessions", "stack_file", "state_of"]

_ZYGOTE: Final = "from scalepool._proc.zygote import main"
"""Stands in the command line of each zygote, and of the workers forked from it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process of ours."""

    pid: int
    parent: int
    command: str


@dataclass(frozen=True, slots=True)
class Session:
    """A driver with its zygotes and workers; ``driver`` is None where it is gone and they are about to follow.

    One whose workers are on other hosts has neither here.
    """

    driver: Seen | None
    zygotes: tuple[Seen, ...]
    workers: tuple[Seen, ...]
    is_whole: bool = True
    """Whether all of it is to be shown, not one of its workers."""


def sessions() -> list[Session]:
    """Return all sessions of this user, by the driver's pid."""
    everybody = {process.pid: process for process in _own_processes()}
    helpers = {seen.pid: seen for seen in everybody.values() if _ZYGOTE in seen.command}
    zygotes = [seen for seen in helpers.values() if seen.parent not in helpers]
    by_driver: dict[int, list[Seen]] = {}
    for zygote in zygotes:
        by_driver.setdefault(zygote.parent, []).append(zygote)
    found = []
    for pid, theirs in sorted(by_driver.items()):
        parents = {zygote.pid for zygote in theirs}
        workers = [seen for seen in everybody.values() if seen.parent in parents and stack_file(seen.pid) is not None]
        found.append(Session(everybody.get(pid), tuple(theirs), tuple(sorted(workers, key=lambda one: one.pid))))
    others = (seen for pid, seen in everybody.items() if pid not in by_driver and pid not in helpers)
    found.extend(Session(seen, (), ()) for seen in others if session_file(seen.pid) is not None)
    return found


def stack_file(pid: int) -> Path | None:
    """Return where a worker's file can be opened; None for a process that has none or has ended."""
    return _open_file(pid, f"/memfd:{FILE_NAME}")


def session_file(pid: int) -> Path | None:
    """Return where the file of a program's own process can be opened; None as above."""
    return _open_file(pid, f"/memfd:{SESSION_FILE_NAME}")


def _open_file(pid: int, name: str) -> Path | None:
    folder = Path(f"/proc/{pid}/fd")
    try:
        entries = list(folder.iterdir())
    except OSError:
        return None
    for entry in entries:
        try:
            target = entry.readlink()
        except OSError:
            continue  # closed since it was listed
        if str(target).startswith(name):
            return entry
    return None


def state_of(pid: int) -> str:
    """Return the letter that the kernel has for what a process does, "X" when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "X"
    return text[text.rindex(")") + 2]


def _own_processes() -> Iterable[Seen]:
    own = os.getuid()
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "uids"]):
        facts = process.info
        if facts["uids"] is not None and facts["uids"].real == own and facts["cmdline"]:
            yield Seen(facts["pid"], facts["ppid"], " ".join(facts["cmdline"]))
