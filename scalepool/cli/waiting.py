"""What a program's own process says when it is asked: tasks that nobody runs yet, and workers on other hosts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from scalepool._runtime.overview import FOUND, REQUEST
from scalepool.cli.processes import session_file, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Overview", "Waiting", "ask_drivers"]

_ANSWER_S: Final = 5.0
"""It looks every two seconds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks of one name that wait for the same."""

    name: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What a program said.

    Attributes
    ----------
    waiting
        Tasks that nobody runs.
    more
        How many others there are: too many to look at.
    hosts
        Processes of workers on other hosts, by host.
    note
        Why there is no more to be told, or empty.
    """

    waiting: tuple[Waiting, ...] = ()
    more: int = 0
    hosts: Mapping[str, list[int]] = field(default_factory=dict)
    note: str = ""


def ask_drivers(pids: Iterable[int]) -> dict[int, Overview]:
    """Ask all these programs at once; those that have nothing to answer with are missing."""
    asked = {pid: number for pid in pids if (number := _ask(pid))}
    deadline = time.monotonic() + _ANSWER_S
    return {pid: _answer(pid, number, deadline) for pid, number in asked.items()}


def _ask(pid: int) -> bytes:
    path = session_file(pid)
    if path is None:
        return b""
    number = os.urandom(8)
    try:
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), number, REQUEST.start)
    except OSError:
        return b""  # it has ended
    return number


def _answer(pid: int, number: bytes, deadline: float) -> Overview:
    while True:
        data = _read(pid)
        if data[8:16] == number:
            return _read_answer(pid, data[FOUND])
        if not data:
            return Overview(note="it has ended")
        if state_of(pid) in "Tt":
            return Overview(note="it is stopped, so what its tasks wait for cannot be told")
        if time.monotonic() >= deadline:
            return Overview(note="it does not answer, so what its tasks wait for cannot be told")
        time.sleep(0.005)


def _read(pid: int) -> bytes:
    path = session_file(pid)
    if path is None:
        return b""
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), FOUND.stop, 0)
    except OSError:
        return b""


def _read_answer(pid: int, data: bytes) -> Overview:
    found: dict[str, Any] = json.loads(data.rstrip(b"\0"))
    if found["pid"] != pid:
        return Overview()  # a process that was forked from the program
    waiting = tuple(Waiting(one["name"], one["count"], one["reason"]) for one in found.get("waiting", ()))
    return Overview(waiting, found.get("more", 0), found.get("hosts", {}), found.get("note", ""))
