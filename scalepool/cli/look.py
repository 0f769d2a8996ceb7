"""Look into workers from outside: their tasks, and where in their code they are.

See `scalepool._runtime.whereabouts` for the other side.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.whereabouts import ANSWER, FILE_BYTES, HAS_BEGUN, NOTE, REQUEST, SIGNAL
from scalepool.cli.processes import stack_file, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Call", "Frame", "Look", "look", "parse_dump"]

_ANSWER_S: Final = 3.0
"""A worker that runs a task looks every few milliseconds, one that is idle or waits every second."""
_DUMP_S: Final = 1.0
_QUIET_S: Final = 0.01
"""What is written in several pieces is complete when nothing has come for so long."""
_KEEP_BYTES: Final = 1 << 20
_FRAME: Final = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
_EXECUTOR: Final = re.compile(r"scalepool/_runtime/executor\.py$")
_CALLS: Final = ("_call", "_call_kept")
"""Its functions that call those of the user."""
_OURS: Final = re.compile(r"scalepool/(_shims|_runtime|multiprocessing|concurrent|_joblib|joblib_backend)\b")
_BUSY: Final = (
    "busy in C code that lets no other Python code run, so nothing more can be seen; "
    "--signal looks into it, but may end a sleep or a system call of that code early"
)
_STATES: Final = {
    "T": "stopped by a signal (SIGSTOP); kill -CONT lets it go on",
    "t": "stopped by a debugger",
    "D": "waits in the kernel for a device or file system, and cannot be disturbed",
    "Z": "has ended",
    "X": "has ended",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack."""

    file: str
    line: str
    function: str


@dataclass(frozen=True, slots=True)
class Call:
    """Calls that an actor runs, of one method and at one place.

    Attributes
    ----------
    name
        The method.
    count
        How many of them; 0: it is no call, but what keeps the event loop from going on with them.
    running_s
        Since when the oldest; None where that is not known.
    stack
        The user's frames, the innermost first.
    """

    name: str
    count: int
    running_s: float | None
    stack: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker does.

    Attributes
    ----------
    pid
        Its process.
    state
        ``running`` a task, ``idle``, or ``unknown``.
    task
        Name of the task's function, as far as it is known.
    running_s
        Since when, to a few milliseconds; None where that is not known.
    stack
        The user's frames, the innermost first.
    note
        Why there is no more to be told, or empty.
    actor_class, actor_name
        The actor that it is; empty: none, or it has no name.
    calls
        What an actor runs that runs several calls at once.
    calls_left_out
        How many of its calls are not among these: there are too many.
    waiting
        Tasks, or calls, that it holds and has not begun.
    """

    pid: int
    state: str
    task: str = ""
    running_s: float | None = None
    stack: tuple[Frame, ...] = ()
    note: str = ""
    actor_class: str = ""
    actor_name: str = ""
    calls: tuple[Call, ...] = ()
    calls_left_out: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A worker that was asked, and the answer's number; or why it was not."""

    pid: int
    path: Path | None
    number: bytes = b""
    reason: str = ""


def look(pids: Iterable[int], *, by_signal: bool = False) -> list[Look]:
    """Ask all these workers at once where they are.

    Parameters
    ----------
    pids
        Their processes.
    by_signal
        Send `SIGNAL` to those that cannot answer by themselves.
    """
    asked = [_ask(pid) for pid in pids]
    deadline = time.monotonic() + _ANSWER_S
    return [_look(one, deadline, by_signal) for one in asked]


def parse_dump(text: str) -> list[Frame]:
    """Return the frames of the last dump of `faulthandler` in a text, the innermost first."""
    last = text.rpartition("(most recent call first):")[2]
    found = (_FRAME.match(line) for line in last.splitlines())
    return [Frame(one["file"], one["line"], one["function"]) for one in found if one is not None]


def judge(pid: int, frames: list[Frame], note: dict[str, Any]) -> Look:
    """Say what a worker with this stack and this note does."""
    below = [at for at, one in enumerate(frames) if one.function in _CALLS and _EXECUTOR.search(one.file)]
    if not below:
        return Look(pid, "idle")
    own = frames[: below[0]]
    while own and _OURS.search(own[-1].file):
        own.pop()
    name, running_s = _task_of(note)
    if own and name.rpartition(".")[2] != own[-1].function and not _hides_its_name(name, own[-1].function):
        name, running_s = own[-1].function, None  # the note is of an earlier task
    return Look(pid, "running", name, running_s, tuple(own))


def with_actor(seen: Look, found: dict[str, Any]) -> Look:
    """Add what a worker's answer says of an actor, and of what waits there."""
    actor = found.get("actor") or {}
    calls = tuple(
        Call(one["name"], one["count"], one["running_s"], tuple(_frames(one["stack"])))
        for one in found.get("calls", ())
    )
    changed: dict[str, Any] = {"state": "running"} if calls else {}
    if actor and seen.stack and seen.stack[-1].function == "__init__":
        changed["task"] = f"{actor.get('class', '')}.__init__"  # its task is one of ours
    return replace(
        seen,
        actor_class=actor.get("class", ""),
        actor_name=actor.get("name", ""),
        calls=calls,
        calls_left_out=found.get("left_out", 0),
        waiting=found.get("waiting", 0),
        note=found.get("note", "") or seen.note,
        **changed,
    )


def _frames(entries: Iterable[Sequence[Any]]) -> list[Frame]:
    return [Frame(file, str(line), function) for file, line, function in entries]


def _hides_its_name(name: str, function: str) -> bool:
    return bool(name) and (function in ("__call__", "__init__", "<lambda>") or "<lambda>" in name)


def _task_of(note: dict[str, Any]) -> tuple[str, float | None]:
    since = note.get("since")
    return str(note.get("name", "")), max(0.0, time.time() - since) if isinstance(since, float) else None


# ---- asking ----


def _ask(pid: int) -> _Asked:
    path = stack_file(pid)
    state = state_of(pid)
    if path is None:
        return _Asked(pid, None, reason="has ended" if state in "XZ" else "is only just starting")
    number = os.urandom(8)
    try:
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), number, REQUEST.start)
    except OSError:
        return _Asked(pid, None, reason="has ended")
    return _Asked(pid, path, number, _STATES.get(state, ""))


def _look(asked: _Asked, deadline: float, by_signal: bool) -> Look:
    pid, path = asked.pid, asked.path
    if path is None:
        return Look(pid, "unknown", note=asked.reason)
    while True:
        data = _read(path)
        if data[: len(asked.number)] == asked.number:
            found = _json(data[4096 - 8 :], {})
            return with_actor(judge(pid, _frames(found.get("stack", ())), _note(path)), found)
        if data and not data[HAS_BEGUN - ANSWER.start] and not asked.reason:
            return Look(pid, "idle")
        if asked.reason or time.monotonic() >= deadline or not data:
            break
        time.sleep(0.002)
    reason = asked.reason or _STATES.get(state_of(pid), "")
    if by_signal and not reason:
        frames, reason = _dump(pid, path)
        if frames:
            return judge(pid, frames, _note(path))
    return Look(pid, "unknown", *_task_of(_note(path)), note=reason or _BUSY)


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), ANSWER.stop - ANSWER.start, ANSWER.start)
    return b""


def _note(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        found = _json(os.pread(file.fileno(), NOTE.stop - NOTE.start, NOTE.start), {})
        return found if isinstance(found, dict) else {}
    return {}


def _json(data: bytes, default: Any) -> Any:
    try:
        return json.loads(data.rstrip(b"\0") or b"null") or default
    except ValueError:  # it is being written this moment
        return default


# ---- by signal ----


def _dump(pid: int, path: Path) -> tuple[list[Frame], str]:
    """Have `faulthandler` write; return the frames, or none and the reason."""
    if not _listens(pid):
        return [], f"does not answer {SIGNAL.name}: its code has taken it over"
    try:
        with path.open("r+b", buffering=0) as file, _pidfd(pid) as pidfd:
            before = max(FILE_BYTES, os.fstat(file.fileno()).st_size)
            if stack_file(pid) != path:  # the number has changed hands since
                return [], "has ended"
            signal.pidfd_send_signal(pidfd, SIGNAL)
            size = _await_end(file.fileno(), before)
            text = os.pread(file.fileno(), size - before, before).decode("utf-8", "replace")
            if size > _KEEP_BYTES:
                os.ftruncate(file.fileno(), FILE_BYTES)  # what comes next lies behind a hole, which costs nothing
    except OSError:
        return [], "has ended"
    return parse_dump(text), "did not answer"


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _listens(pid: int) -> bool:
    """Whether the process has a handler for our signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (SIGNAL - 1) & 1)


def _await_end(fd: int, before: int) -> int:
    """Return the size of the file when it has grown and has stopped to."""
    deadline = time.monotonic() + _DUMP_S
    size, since = before, time.monotonic()
    while time.monotonic() < deadline:
        now = max(before, os.fstat(fd).st_size)
        if now != size:
            size, since = now, time.monotonic()
        elif size > before and time.monotonic() - since >= _QUIET_S:
            break
        time.sleep(0.001)
    return size
