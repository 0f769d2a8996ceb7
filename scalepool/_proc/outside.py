"""Programs that are not ours, run for what they do: the system's ssh, the submit commands of batch systems."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from scalepool._base.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outcome", "run_program", "start_detached"]


class Outcome(NamedTuple):
    """How a program ended; ``code`` is None when it could not be started, or was given up. What it said is text."""

    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """The last lines that it said, errors before the rest, in one line."""
        said = self.err.strip() or self.out.strip()
        return "; ".join(line.strip() for line in said.splitlines()[-6:] if line.strip())


def run_program(command: Sequence[str], *, feed: bytes | Path = b"", timeout_s: float) -> Outcome:
    """Run a program to its end, with ``feed`` (bytes, or a file's contents) as its standard input; never raises.

    It cannot ask the user anything: its standard input is what it is fed, and no terminal.
    """
    try:
        if isinstance(feed, Path):
            with feed.open("rb") as file:
                done = subprocess.run(command, stdin=file, capture_output=True, timeout=timeout_s, check=False)
        else:
            done = subprocess.run(command, input=feed, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or b"").decode("utf-8", "replace")
        return Outcome(None, "", f"{said}\n{command[0]} did not end within {timeout_s:g} seconds")
    except OSError as error:
        return Outcome(None, "", f"{command[0]} cannot be run: {error.strerror}")
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def start_detached(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that outlives us, in a session of its own; what it says goes to the end of ``log``.

    Raises
    ------
    OSError
        When it cannot be started, or the log not be written.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, close_fds=True
        )
