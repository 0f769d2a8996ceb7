"""Verbs that go on in the background: started in a session of their own, with a log file in place of a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from scalepool._proc.outside import start_detached
from scalepool.errors import SessionError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["detach"]

_LOOK_S: Final = 0.05
_SLACK_S: Final = 30.0
"""What loading and starting may take besides what the verb itself waits for."""


def detach(arguments: Sequence[str], log: Path, ready: str, timeout_s: float = 0.0) -> str:
    """Start a verb of ours that goes on when this process has ended; return what it has said so far.

    Parameters
    ----------
    arguments
        The verb and its options.
    log
        Where what it says is put, at the end.
    ready
        What it says when it serves.
    timeout_s
        How long the verb itself may wait before that.

    Raises
    ------
    SessionError
        When it cannot be started, or ends; with its last words.
    """
    try:
        log.parent.mkdir(mode=0o700, exist_ok=True)
        log.touch(mode=0o600)
        before = log.stat().st_size
        process = start_detached([sys.executable, "-m", "scalepool", *arguments], log)
    except OSError as error:
        raise SessionError(f"it cannot be started in the background: {error}") from None
    deadline = time.monotonic() + timeout_s + _SLACK_S
    while True:
        ended = process.poll() is not None  # looked at first: what it says before it ends is there then
        said = _said(log, before)
        if ready in said and not ended:
            process.returncode = 0  # it is not ours to wait for, and no mistake that we do not
            return said
        if ended or time.monotonic() >= deadline:
            _give_up(process)
            raise SessionError(f"it did not start, and said: {said.strip().removeprefix('Error: ') or 'nothing'}")
        time.sleep(_LOOK_S)


def _said(log: Path, before: int) -> str:
    with log.open("rb") as file:
        file.seek(before)
        return file.read().decode("utf-8", "replace")


def _give_up(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
