"""Starts one run in an interpreter and session of its own, watches it, and ends everything that it has started.

What belongs to a run is found in two ways: as descendants of its process, seen while it lived, and by a mark in the
environment, which also finds those that left its session and lost their parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import psutil

import scalepool
from scalepool.bench.tree import MemoryMeter, members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MARK", "Order", "Outcome", "carry_out", "environment", "processes_of"]

MARK: Final = "SCALEPOOL_BENCH_RUN"
_LOOK_S: Final = 0.05
_SAMPLE_S: Final = 0.05
_GOODBYE_S: Final = 10.0
"""How long a run may take to end after it has delivered its figures."""
_CLEAN_UP_S: Final = 2.0
"""How long what a run has started may take to notice that it has ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run.

    Parameters
    ----------
    workload, candidate
        Names.
    workers
        Number of worker processes.
    sizes
        The workload's sizes for this candidate.
    timeout_s
        When it is given up.
    watch_memory
        Whether to sample the memory of the whole tree while it runs.
    catalogue
        Where the workloads are, as "module:attribute".
    """

    workload: str
    candidate: str
    workers: int
    sizes: Mapping[str, int]
    timeout_s: float
    watch_memory: bool = False
    catalogue: str = "scalepool.bench.workloads:WORKLOADS"

    def to_json(self) -> str:
        """Return what `scalepool.bench.run_one` takes."""
        names = ("workload", "candidate", "workers", "catalogue")
        return json.dumps({name: getattr(self, name) for name in names} | {"sizes": dict(self.sizes)})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    values
        Its figures by the names of metrics; empty when there are none.
    problem
        Why there are none; ``None`` when all is well.
    tasks, wall_s, cpu_s
        Of the section that was measured: number of tasks, seconds, CPU seconds of all processes.
    memory_bytes
        Memory of all processes: the highest that was sampled, else that at the end of the section.
    left_behind
        Processes that were still there two seconds after the run's own had ended.
    """

    values: Mapping[str, float]
    problem: str | None = None
    tasks: int = 0
    wall_s: float | None = None
    cpu_s: float | None = None
    memory_bytes: int = 0
    left_behind: int = 0


def carry_out(order: Order) -> Outcome:
    """Run it and return how it ended. However this is left, nothing of the run is left running."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile() as noise, _pipe() as (reader, writer):
        command = [sys.executable, "-m", "scalepool.bench.run_one", order.to_json(), str(writer)]
        process = subprocess.Popen(
            command, env=environment(mark), stdin=subprocess.DEVNULL, stdout=noise, stderr=noise,
            pass_fds=(writer,), start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        watch = _Watch(process, mark, order)
        try:
            line = watch.until_answer(reader)
        finally:
            left_behind = watch.end()
        if not line:
            return Outcome({}, problem=watch.reason(noise), left_behind=left_behind)
        return _read(json.loads(line), watch.peak_bytes, left_behind)


def environment(mark: str | None = None) -> dict[str, str]:
    """Return the environment of a run: this package importable from anywhere, and the mark."""
    env = dict(os.environ)
    root = str(Path(scalepool.__file__).parent.parent)
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    if mark is not None:
        env[MARK] = mark
    return env


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


class _Watch:
    """Waits for a run's answer, samples its memory meanwhile, and ends it with all that belongs to it."""

    def __init__(self, process: subprocess.Popen[bytes], mark: str, order: Order) -> None:
        self._process = process
        self._mark = mark
        self._timeout_s = order.timeout_s
        self._deadline = time.monotonic() + order.timeout_s
        self._timed_out = False
        self._answered = False
        self._meter = MemoryMeter(process.pid) if order.watch_memory else None
        self._sampled_at = 0.0
        self.peak_bytes = 0

    def until_answer(self, reader: int) -> bytes:
        """Return the line that the run writes; empty when it ended without, or time was up."""
        line = b""
        while time.monotonic() < self._deadline:
            ended = self._process.poll() is not None
            if select.select([reader], [], [], 0.0 if ended else _LOOK_S)[0]:
                data = os.read(reader, 1 << 16)
                line += data
                self._answered = line.endswith(b"\n")
                if self._answered or not data:
                    return line if self._answered else b""
            elif ended:
                return b""
            self._sample()
        self._timed_out = True
        return b""

    def _sample(self) -> None:
        if self._meter is not None and time.monotonic() - self._sampled_at > _SAMPLE_S:
            self.peak_bytes = max(self.peak_bytes, self._meter.read_bytes())
            self._sampled_at = time.monotonic()

    def end(self) -> int:
        """End the run's process and then all that it has started; return how many had to be killed.

        A run that has answered ends by itself, and helpers that tidy up when their parent dies get the time to do so.
        """
        seen = set(members(self._process.pid))
        if self._answered:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GOODBYE_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + _CLEAN_UP_S
        while (left := self._left(seen)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        forced = len(left)
        deadline = time.monotonic() + _CLEAN_UP_S
        while left and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(_LOOK_S)
            left = self._left(seen)
        return forced

    def _left(self, seen: set[psutil.Process]) -> list[psutil.Process]:
        return [one for one in seen | set(processes_of(self._mark)) if _is_alive(one)]

    def reason(self, noise: IO[bytes]) -> str:
        """Return why there is no answer."""
        code = self._process.returncode
        if self._timed_out:
            return f"no result within {self._timeout_s:g} s"
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        noise.seek(0)
        lines = [line.strip() for line in noise.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"ended with exit code {code} and without a word"


def processes_of(mark: str) -> list[psutil.Process]:
    """Return all living processes of this user that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, psutil.Error):  # another user's, or it has just ended
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(path.name)))
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        # is_running: still the same process, not another one with the same number
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _read(answer: Mapping[str, Any], peak_bytes: int, left_behind: int) -> Outcome:
    if "error" in answer:
        return Outcome({}, problem=answer["error"], left_behind=left_behind)
    values = dict(answer["values"])
    memory_bytes = max(peak_bytes, answer["memory_bytes"])
    if answer["extra_unit_bytes"]:
        values["extra"] = max(0, memory_bytes - answer["baseline_bytes"]) / answer["extra_unit_bytes"]
    return Outcome(
        values, tasks=answer["tasks"], wall_s=answer["wall_s"], cpu_s=answer["cpu_s"], memory_bytes=memory_bytes,
        left_behind=left_behind,
    )  # fmt: skip
