"""Plumbing of the live tests: a session with a watcher, and conditions to wait for."""

from __future__ import annotations

import os
import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scalepool._proc.death import Event, Exited, ProcessWatcher, Started
from scalepool._proc.spawn import Zygote, ZygoteOptions, ZygoteSetup

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where a driver finds the package and these tests.
PATH = [str(Path(__file__).resolve().parents[depth]) for depth in (2, 1)]
PATIENCE_S = 20.0

AnyEvent = TypeVar("AnyEvent", bound=Event)


class Family:
    """A watcher, the zygotes started through it, and every event so far."""

    def __init__(self, session_dir: Path) -> None:
        self.session_dir = session_dir
        self.queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.watcher = ProcessWatcher(self.queue.put)
        self.zygotes: list[Zygote] = []
        self.started: list[Started] = []
        self.next_id = 1

    def zygote(
        self,
        entry: str = "sleep",
        *,
        name: str = "default",
        flight_factory: str = "_proc.entries:make_record",
        **setup: object,
    ) -> Zygote:
        zygote = Zygote(
            ZygoteOptions(
                name=name,
                entry=entry if ":" in entry else f"_proc.entries:{entry}",
                flight_factory=flight_factory,
                sys_path=(*PATH, *sys.path),
            )
        )
        zygote.set_up(ZygoteSetup(str(self.session_dir), **setup))  # type: ignore[arg-type]
        self.zygotes.append(zygote)
        self.watcher.add(zygote)
        return zygote

    def request(self, zygote: Zygote, config: bytes = b"") -> int:
        worker_id = self.next_id
        self.next_id += 1
        zygote.fork(worker_id, config)
        return worker_id

    def worker(self, zygote: Zygote, config: bytes = b"") -> Started:
        self.request(zygote, config)
        return self.expect(Started)

    def expect(self, kind: type[AnyEvent]) -> AnyEvent:
        event = self.queue.get(timeout=PATIENCE_S)
        if isinstance(event, Started):
            self.started.append(event)
        assert isinstance(event, kind), event
        return event

    def close(self) -> None:
        for zygote in self.zygotes:
            zygote.close()
        self.watcher.close()
        # Every test's last word: each worker that started has ended, and no process of it is left.
        while not self.queue.empty():
            event = self.queue.get()
            assert isinstance(event, Exited), event
        for started in self.started:
            os.close(started.flight_fd)
            assert group_is_empty(started.pid)


def record(started: Started) -> bytes:
    """Return the first line of the flight record, once it has been written."""
    name = f"scalepool-flight-{started.worker_id}".encode()

    def read() -> bytes:
        data = os.pread(started.flight_fd, 1 << 16, 0)
        line, end, _ = data.partition(b"\n")
        return line if end and line != name else b""

    return wait_for(read)


Result = TypeVar("Result")


def wait_for(condition: Callable[[], Result], patience_s: float = PATIENCE_S) -> Result:
    """Return the first true result of ``condition``; fail when there is none in time."""
    deadline_s = time.monotonic() + patience_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline_s, f"not within {patience_s} s: {condition}"
        time.sleep(0.002)


def is_running(pid: int) -> bool:
    """True unless the process is gone or a zombie that somebody has yet to reap."""
    state = stat_fields(pid)
    return bool(state) and state[0] not in "ZX"


def group_is_empty(group: int) -> bool:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return not any(fields[2] == str(group) and fields[0] not in "ZX" for pid in pids if (fields := stat_fields(pid)))


def stat_fields(pid: int) -> list[str]:
    """State, ppid, group, session and so on; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()
