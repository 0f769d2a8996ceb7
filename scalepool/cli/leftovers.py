"""What programs that were killed together with their helper process have left; normally the helper removes it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scalepool._proc.marked import kill_marked, marked
from scalepool._runtime.session_dir import folder_root, stale, sweep

__all__ = ["Leftovers", "clean", "find"]

_SEMAPHORES: Final = "sem.mp-*"
_YOUNG_S: Final = 60.0
"""A semaphore is left alone for so long: it may be on its way to the process that will open it."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What there is: folders of sessions, processes that their tasks had started, and multiprocessing's semaphores."""

    folders: tuple[str, ...] = ()
    processes: tuple[int, ...] = ()
    semaphores: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.folders or self.processes or self.semaphores)

    def describe(self) -> str:
        """Return it in words."""
        parts = (
            (len(self.folders), "folder", "folders"),
            (len(self.processes), "process", "processes"),
            (len(self.semaphores), "semaphore in /dev/shm", "semaphores in /dev/shm"),
        )
        return ", ".join(f"{count} {one if count == 1 else more}" for count, one, more in parts if count)


def find(shm: str = "/dev/shm") -> Leftovers:
    """Look for all of it."""
    try:
        root = folder_root()
    except OSError:  # there is no folder for temporary files: then nothing of ours can be in it
        return Leftovers(semaphores=tuple(_orphaned_semaphores(shm)))
    folders = stale(root)
    processes = [pid for folder in folders for pid in marked(os.path.basename(folder))]  # noqa: PTH119 - no Path needed
    return Leftovers(tuple(folders), tuple(processes), tuple(_orphaned_semaphores(shm)))


def clean(found: Leftovers) -> None:
    """Remove it."""
    for folder in found.folders:
        kill_marked(os.path.basename(folder))  # noqa: PTH119 - no Path needed
    if found.folders:
        sweep(folder_root())
    for path in found.semaphores:
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            Path(path).unlink()


def _orphaned_semaphores(shm: str) -> list[str]:
    """Semaphores of multiprocessing that no process has open: each that uses one has it mapped."""
    own, now = os.getuid(), time.time()
    candidates: set[str] = set()
    for path in Path(shm).glob(_SEMAPHORES):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid == own and now - status.st_mtime > _YOUNG_S:
                candidates.add(str(path))
    if not candidates:
        return []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            maps = (entry / "maps").read_text(errors="replace")
        except PermissionError:
            if _may_use_them(entry):
                return []  # somebody whom we cannot look into might use them
            continue
        except OSError:
            continue  # it ended meanwhile
        candidates = {path for path in candidates if path not in maps}
    return sorted(candidates)


def _may_use_them(entry: Path) -> bool:
    """Whether a process that does not let us look into it may use semaphores of multiprocessing."""
    try:
        return entry.stat().st_uid == os.getuid() and "py" in (entry / "comm").read_text()
    except OSError:
        return False
