"""Asks git which files of a folder it ignores."""

from __future__ import annotations

import os
import subprocess
from typing import Final

__all__ = ["ignored_paths"]

_TIMEOUT_S: Final = 20.0
_COMMAND: Final = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory", "--", ".")


def ignored_paths(folder: str) -> list[str]:
    """Return the paths below a folder that git ignores, those of folders with a slash at their end.

    Nothing where there is no git, or the folder is in no repository, or in one that git does not trust.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-C", folder, *_COMMAND]
    # Inside of a hook there are some that name another repository.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=environ, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [path.decode("utf-8", "surrogateescape") for path in done.stdout.split(b"\0") if path]
