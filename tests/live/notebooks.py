"""Programs that people sit at: a Jupyter kernel as a notebook has it, spoken to by messages; one at a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import queue
import re
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from jupyter_client.manager import KernelManager

from live.helpers import PATIENCE_S, Family, is_running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient

__all__ = ["Cell", "Kernel", "Terminal", "kernel_in"]


class Cell(NamedTuple):
    """What a cell left: its output, and the name of the error that ended it."""

    out: str
    err: str
    error: str = ""
    traceback: str = ""


class Kernel(Family):
    """A kernel in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        own = {
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "PYTHONDONTWRITEBYTECODE": "1",  # an edit within the same second would be missed
        }
        self.manager = KernelManager(connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel(cwd=str(folder), env=self.environ(own))
        self._meet()

    def _meet(self) -> None:
        self.head_pid = int(self.manager.provisioner.pid)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)

    def start_cell(self, source: str) -> str:
        """Have a cell executed; returns its id."""
        message: str = self.client.execute(source)
        return message

    def await_output(self, cell: str, text: str) -> None:
        """Wait until the cell has printed this line."""
        out = ""
        while text not in out.split("\n")[:-1]:
            message = self._next(cell)
            assert message["msg_type"] not in ("error", "status") or message["content"] == {"execution_state": "busy"}
            out += message["content"].get("text", "")

    def finish_cell(self, cell: str) -> Cell:
        """Wait for a cell's end."""
        streams = {"stdout": "", "stderr": ""}
        error = traceback = ""
        while True:
            message = self._next(cell)
            content = message["content"]
            if message["msg_type"] == "stream":
                streams[content["name"]] += content["text"]
            elif message["msg_type"] == "error":
                error, traceback = content["ename"], "\n".join(content["traceback"])
            elif content.get("execution_state") == "idle":
                return Cell(streams["stdout"], streams["stderr"], error, traceback)

    def run(self, source: str) -> str:
        """Run a cell that must end well and say nothing on stderr; returns what it printed."""
        cell = self.finish_cell(self.start_cell(source))
        assert (cell.error, cell.err) == ("", ""), cell
        return cell.out

    def _next(self, cell: str) -> dict[str, dict[str, str]]:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the cell said nothing for {PATIENCE_S} s") from None
            if message["parent_header"].get("msg_id") == cell:
                found: dict[str, dict[str, str]] = message
                return found

    def restart(self, *, now: bool) -> None:
        """Restart it: by asking (``now=False``) or by killing it, as when it does not answer."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._meet()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)


@contextlib.contextmanager
def kernel_in(folder: Path) -> Iterator[Kernel]:
    """Give a kernel; at the end nothing may be left of it."""
    kernel = Kernel(folder)
    try:
        yield kernel
    finally:
        kernel.close()
    kernel.assert_nothing_left()


class Terminal(Family):
    """A program at a terminal of its own."""

    def __init__(self, folder: Path, arguments: list[str], environ: dict[str, str]) -> None:
        super().__init__()
        self.head_pid, self._fd = pty.fork()
        if not self.head_pid:
            os.chdir(folder)
            os.execve(arguments[0], arguments, self.environ(environ))
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, pattern: str) -> str:
        """Read on until this regular expression is found; returns all that came up to its end."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline_s - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            self.seen += os.read(self._fd, 1 << 16).decode(errors="replace").replace("\r", "")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def close(self) -> None:
        if is_running(self.head_pid):
            os.kill(self.head_pid, signal.SIGKILL)
        os.waitpid(self.head_pid, 0)
        os.close(self._fd)
