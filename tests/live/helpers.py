"""Plumbing of the live tests: scripts in processes of their own, conditions to wait for, and a ledger of what ran."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
#: By when nothing may be left of a driver, however it ended. The promise is 2 s on a machine with time to spare.
GONE_S = 30.0
_MARK = "SCALEPOOL_TEST_FAMILY"

Result = TypeVar("Result")


def wait_for(condition: Callable[[], Result], patience_s: float = PATIENCE_S) -> Result:
    """Return the first true result of ``condition``; fail when there is none in time."""
    deadline_s = time.monotonic() + patience_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline_s, f"not within {patience_s} s: {condition}"
        time.sleep(0.005)


class Ledger:
    """A file to which tasks append what they do; one write each, so nothing is lost or torn when they are killed."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    def lines(self) -> list[str]:
        return Path(self.path).read_text().split()

    def counts(self) -> Counter[str]:
        return Counter(self.lines())


def write_line(path: str, line: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def is_running(pid: int) -> bool:
    """True unless the process is gone or a zombie that somebody has yet to reap."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text[text.rindex(")") + 2] not in "ZX"


class Family:
    """A temporary folder of its own for a process, and a mark by which all that descends from it is found."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        # Not below pytest's folder: a Unix socket's path must be short.
        self.temporary = Path(tempfile.mkdtemp(prefix=f"live-{self.mark}-"))
        self.head_pid = 0

    def environ(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment that its first process is to have."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "TMPDIR": str(self.temporary), _MARK: self.mark}
        return {**os.environ, **own, **(more or {})}

    def descendants(self) -> list[int]:
        """Every process that inherited the mark, the head excepted."""
        mark = f"{_MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.head_pid:
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0") and is_running(int(entry.name)):
                        found.append(int(entry.name))
        return found

    def assert_nothing_left(self) -> None:
        """Neither processes nor files nor shared memory by name."""
        wait_for(lambda: not self.descendants(), GONE_S)
        wait_for(lambda: not list(self.temporary.iterdir()), GONE_S)
        assert not [path for path in Path("/dev/shm").iterdir() if "scalepool" in path.name]
        self.temporary.rmdir()


class Script(Family):
    """A driver in a process, process group and temporary folder of its own, and everything that descends from it."""

    def __init__(
        self, folder: Path, arguments: list[str], *, environ: dict[str, str] | None = None, program: str | None = None
    ) -> None:
        super().__init__()
        self.process = subprocess.Popen(
            [*([sys.executable, "-W", "error"] if program is None else [program]), *arguments],
            env=self.environ(environ),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.head_pid = self.process.pid

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self, text: str | None = None) -> tuple[str, str]:
        """Give the driver its stdin, wait for its end; return what it printed."""
        try:
            return self.process.communicate(text, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def script(folder: Path, source: str, *, environ: dict[str, str] | None = None) -> Iterator[Script]:
    """Run ``source`` as the user's script; ends with the check that nothing is left of it."""
    path = folder / f"user_script_{secrets.token_hex(4)}.py"
    path.write_text(textwrap.dedent(source))
    running = Script(folder, [str(path)], environ=environ)
    try:
        yield running
    finally:
        running.close()
    running.assert_nothing_left()


def run(folder: Path, source: str, *, environ: dict[str, str] | None = None) -> str:
    """Run a script that must end well: exit code 0, nothing on stderr, nothing left. Return what it printed."""
    with script(folder, source, environ=environ) as running:
        out, err = running.finish()
        assert running.process.returncode == 0, out + err
        assert not err, err
    return out
