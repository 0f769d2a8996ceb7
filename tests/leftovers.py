"""Hooks of pytest: nothing that tests have made may be left when the last one has ended, or the run fails.

A run has a folder of its own for temporary files, and a mark in its environment that all processes inherit which it
starts. What is left in the end is named with the test that made it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import keeper
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE_S = 5.0
"""What belongs to a program notices its end, and removes what it has; servers that tests have started do not."""
PATIENCE_S = 60.0
"""For what is ending when the last test has."""
_ORIGINALS = ("compat_tests/", "tests/bench/")
"""Whose tests use pools of others, which keep processes and files until the process of the tests ends, and in which
sessions of ours may live: where they ran what is left is told, and fails nothing."""
_BESIDE = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "loky.backend")
_KEPT = ("pymp-", "joblib_memmapping_folder_", "sem.loky-", "loky-")
"""Commands and files of multiprocessing and loky that end with the process that uses them, and no sooner."""


class Run:
    """What a process that runs tests makes, and who made it."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        # Not below pytest's folder: a Unix socket's path must be short.
        self.folder = tempfile.mkdtemp(prefix="tests-")
        self._open = os.open(self.folder, os.O_RDONLY)  # by which forked children are known
        self._makers: dict[Path, str] = {}
        self._before = set(self._files())
        self.left: list[str] = []
        self.fails = True
        """Whether the run does when something is left."""

    def start_keeper(self) -> None:
        arguments = [str(os.getpid()), self.mark, self.folder, str(GRACE_S)]
        command = [sys.executable, "-S", "-E", keeper.__file__, *arguments]
        nothing = subprocess.DEVNULL
        subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, check=True)

    def enter(self) -> None:
        """Have all use the folder and have the mark that is made or started from now on."""
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest's own folders outlast the run
        os.environ.update({"TMPDIR": self.folder, keeper.MARK: self.mark})
        tempfile.tempdir = None

    def _files(self) -> list[Path]:
        """Return what is in the folder, and in the shared memory for all to see that is surely of this process."""
        pid = os.getpid()
        ours = (f"_{pid}_", f"-{pid}-")
        shared = [path for path in Path("/dev").glob("shm/*") if any(part in path.name for part in ours)]
        return [path for path in [*Path(self.folder).iterdir(), *shared] if not path.name.startswith(_KEPT)]

    def note(self, test: str) -> None:
        """Remember that what is new was made by this test."""
        for path in self._files():
            self._makers.setdefault(path, test)
        if test.startswith(_ORIGINALS):
            self.fails = False

    def find(self) -> list[str]:
        """Return what is left, in words."""
        made = {path: self._makers.get(path, "no test") for path in self._files() if path not in self._before}
        found = [f"{path} of {test}" for path, test in made.items() if not test.startswith(_ORIGINALS)]
        for pid in keeper.processes_of(self.mark, self.folder):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
                tests = [word.partition("=")[2] for word in words if word.startswith("PYTEST_CURRENT_TEST=")]
                test = tests[0] if tests else "no test"
                if command and not test.startswith(_ORIGINALS) and not any(one in command for one in _BESIDE):
                    found.append(f"process {pid} ({command.strip()[:200]}) of {test}")
        return found

    def finish(self) -> None:
        """Wait until nothing is left, but for a while only."""
        if "scalepool" in sys.modules:
            sys.modules["scalepool"].shutdown()
        deadline = time.monotonic() + PATIENCE_S
        while (left := self.find()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.left = left


_RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return  # others run the tests
    config.stash[_RUN] = run = Run()
    run.start_keeper()
    run.enter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)  # type: ignore[return-value]
    finally:
        if _RUN in item.config.stash:
            item.config.stash[_RUN].note(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Runs when all fixtures are gone."""
    run = session.config.stash.get(_RUN, None)
    if run is not None:
        run.finish()
        if run.left and run.fails and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is not None and run.left:
        terminalreporter.section("left behind by tests", red=True)
        for line in run.left:
            terminalreporter.line(line)
