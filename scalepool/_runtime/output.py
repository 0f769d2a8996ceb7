"""What tasks print: taken from the worker's ``sys.stdout`` and ``sys.stderr``, shown on those of the driver.

Lines that repeat fast are folded: on stderr always, on stdout only where a person reads it, since what goes to a file
may be data. A group that captures has the text of each task in its future instead.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from scalepool._runtime.folding import Folder
    from scalepool._runtime.outlet import Outlet
    from scalepool._store.written import Written

__all__ = ["LOG", "Printer", "TaskOutput", "run_for", "show"]

STDOUT: Final = 1
STDERR: Final = 2
LOG: Final = 3

Result = TypeVar("Result")


def show(stream: int, text: str) -> None:
    """Write ``text`` to what is ``sys.stdout`` (1) or ``sys.stderr`` (2) at this moment."""
    target = sys.stdout if stream == STDOUT else sys.stderr
    if target is None:
        return
    try:
        target.write(text)
        target.flush()
    except (OSError, ValueError, UnicodeEncodeError):
        # The user's stream is closed, full or cannot show the text: losing a printed line must not lose results.
        return


class Printer:
    """Shows what comes from workers.

    Parameters
    ----------
    mode
        ``"auto"``: folded as described above; ``"fold"``: folded on both streams; ``"plain"``: as it comes; ``"off"``:
        nothing comes.

    Attributes
    ----------
    due_at
        When ``flush`` has something to say; ``None``: it has not.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._folders: dict[int, Folder] = {}
        self.due_at: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether what workers say is to be shown at all."""
        return self._mode != "off"

    def show(self, stream: int, text: str, now: float) -> None:
        """Show printed text, or have ``logging`` records handled."""
        if stream == LOG:
            from scalepool._runtime.logs import handle

            handle(text)
        elif not self._folds(stream):
            show(stream, text)
        else:
            if stream not in self._folders:
                from scalepool._runtime.folding import Folder

                self._folders[stream] = Folder()
            if shown := self._folders[stream].take(text, now):
                show(stream, shown)
            self._look_ahead()

    def flush(self, now: float, *, everything: bool = False) -> None:
        """Show the counts of folded lines that are due, or all."""
        for stream, folder in self._folders.items():
            if text := folder.flush(now, everything=everything):
                show(stream, text)
        self._look_ahead()

    def _look_ahead(self) -> None:
        self.due_at = min(
            (due for folder in self._folders.values() if (due := folder.due_at) is not None), default=None
        )

    def _folds(self, stream: int) -> bool:
        if self._mode != "auto":
            return self._mode == "fold"
        return stream == STDERR or _is_read_by_a_person()


def _is_read_by_a_person() -> bool:
    try:
        return sys.stdout.isatty() or "ipykernel" in type(sys.stdout).__module__
    except (AttributeError, ValueError):  # none, or closed
        return False


def run_for(task: int, streams: Sequence[TaskOutput], run: Callable[[], Result]) -> Result:
    """Call ``run``, and note that what is printed meanwhile belongs to ``task`` (0: to all)."""
    before = [stream.switch(task) for stream in streams]
    try:
        return run()
    finally:
        for stream, outer in zip(streams, before, strict=True):
            stream.switch(outer)


_KEPT_CHARACTERS = 2000


class TaskOutput(io.TextIOBase):
    """Stands in for a standard stream in a worker: passes on whole lines, and the rest when flushed.

    It also passes on what C code and child processes write to the descriptor below it, in the order in which it finds
    it: before what is printed next, before a message leaves, and every few milliseconds while a task runs.

    Parameters
    ----------
    stream
        1 for stdout, 2 for stderr.
    outlet
        Takes it to the hub.
    is_shown
        Whether anybody wants to see what is not captured.

    Attributes
    ----------
    task
        The task that what is written belongs to; 0: it is to be shown.
    keep
        Called with the last of what was written, after each write.
    written
        What else is written to its descriptor.
    switched
        Called when what is written from now on belongs to another task.
    fallback
        In a process that a task has forked, which nobody passes anything on for: where to write.
    """

    def __init__(self, stream: int, outlet: Outlet, *, is_shown: bool = True) -> None:
        super().__init__()
        self._stream = stream
        self._outlet = outlet
        self._is_shown = is_shown
        self.task = 0
        self.keep: Callable[[bytes], None] | None = None
        self.written: Written | None = None
        self.switched: Callable[[], object] | None = None
        self.fallback: TextIO | None = None
        # A signal's handler may print in the middle of all this.
        self._lock = threading.RLock()
        self._looking = False
        self._rest = ""
        self._said = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Any string can be printed, also one with lone surrogates."""
        return "surrogatepass"

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """False: there is no terminal here."""
        return False

    def fileno(self) -> int:
        """Return the descriptor that children of this process inherit, for code that redirects them."""
        return self._stream

    def write(self, text: str) -> int:
        """Take ``text``; whole lines are passed on."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.fallback is not None:
            return self.fallback.write(text)
        if self.written is not None and self.written.has_grown:
            self.look()
        with self._lock:
            whole, newline, rest = (self._rest + text).rpartition("\n")
            self._rest = rest
        if newline:
            self._outlet.wait_for_room()
            self._pass_on(whole + newline)
        if self.keep is not None:
            self._keep_end(text)
        return len(text)

    def flush(self) -> None:
        """Pass on an unfinished line, too."""
        if self.fallback is not None:
            self.fallback.flush()
            return
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self._pass_on(rest)

    def look(self, *, everything: bool = False) -> None:
        """Pass on what was written to the descriptor: whole lines, with ``everything`` also an unfinished one."""
        if self.written is None or (not everything and self._outlet.is_full and not self.written.is_too_much):
            return
        with self._lock:
            if self._looking:
                return
            self._looking = True
            try:
                text = self.written.take(everything=everything).decode("utf-8", "backslashreplace")
            finally:
                self._looking = False
            if text:
                self._pass_on(text)
                self._keep_end(text)

    def _pass_on(self, text: str) -> None:
        if self._is_shown or self.task:
            self._outlet.put(self._stream, text, self.task)

    def _keep_end(self, text: str) -> None:
        if self.keep is not None:
            self._said = (self._said + text)[-_KEPT_CHARACTERS:]
            self.keep(self._said.encode("utf-8", "replace"))

    def switch(self, task: int) -> int:
        """What is written from now on belongs to ``task``; return whose it was before."""
        self._outlet.wait_for_room()
        self.look(everything=True)
        self.flush()
        before, self.task = self.task, task
        if self.switched is not None:
            self.switched()
        return before

    def leave_to(self, fallback: TextIO | None) -> None:
        """From now on write there; for a process that a task has forked."""
        self._lock = threading.RLock()  # another thread of the parent may have had it
        self._rest = ""
        self.fallback = fallback
