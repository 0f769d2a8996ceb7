"""Many hosts: what a task costs through the head of a cluster, and what hub and head do when there is much of it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import scalepool
from scalepool._core.commands import Send, StartWorker
from scalepool._core.events import Received, WorkerStarted
from scalepool._core.hub import Hub
from scalepool._core.switchboard import Switchboard
from scalepool._net.keys import KEY_FILE_VARIABLE, ClusterKeys, write_keys
from scalepool._proc.outside import run_program, start_detached
from scalepool._wire import cluster as c
from scalepool._wire import messages as m
from scalepool._wire.handshake import Introduction, encode_introduction
from scalepool._wire.records import pack_result
from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import add_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalepool._core.commands import Command
    from scalepool._core.events import Event
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_START_S: Final = 30.0
_BATCH: Final = 512
"""Calls in a message, as drivers send them."""
_SPEC: Final = b"x" * 200


# ---- tasks through a head ----


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[str]:
    """Have a head and one host on this machine, each a process of its own; yields the address."""
    with tempfile.TemporaryDirectory(prefix="scalepool-bench-") as name:
        folder = Path(name)
        keys, file, log = folder / "keys.json", folder / "cluster.json", folder / "log"
        write_keys(str(keys), ClusterKeys.generate())
        os.environ[KEY_FILE_VARIABLE] = str(keys)
        verb = [sys.executable, "-m", "scalepool"]
        started = [start_detached([*verb, "head", "--port", "0", "--cluster-file", str(file)], log)]
        try:
            deadline = time.monotonic() + _START_S
            while not file.exists():
                if time.monotonic() > deadline or started[0].poll() is not None:
                    raise RuntimeError(f"no head: {log.read_text(encoding='utf-8')}")
                time.sleep(0.02)
            started.append(start_detached([*verb, "worker", str(file), "--cpus", str(workers)], log))
            joined = run_program([*verb, "status", str(file), "--wait", "1", "--timeout", "30"], timeout_s=60.0)
            if joined.code != 0:
                raise RuntimeError(f"no host: {joined.words}")
            yield str(json.loads(file.read_text(encoding="utf-8"))["address"])
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(_START_S)


def _singles(run: Run) -> None:
    numbers = range(run.sizes["tasks"])
    with contextlib.ExitStack() as stack:
        if run.candidate == "scalepool":
            address = stack.enter_context(_cluster(run.workers))
            stack.enter_context(scalepool.init(address))
        driver = stack.enter_context(run.open())
        with run.timed(len(numbers)) as section:
            results = driver.singles(add_one, numbers)
    run.expect(results, list(range(1, len(numbers) + 1)), "results")
    run.record(rate=len(numbers) / section.wall_s)


# ---- a hub with many workers and a long queue ----


class _MeteredHub:
    """A hub, the CPU seconds that it has used, and what its workers have been given."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.now = 0.0
        self.cpu_s = 0.0
        self.given: deque[tuple[int, m.Run]] = deque()

    def feed(self, event: Event) -> Sequence[Command]:
        begin = time.thread_time()
        commands = self.hub.handle(event, self.now)
        self.cpu_s += time.thread_time() - begin
        for command in commands:
            if type(command) is Send and type(command.message) is m.Run:
                self.given.append((command.peer, command.message))
        return commands

    def say(self, peer: int, message: m.Message) -> Sequence[Command]:
        return self.feed(Received(peer, message))


def _long_queue(run: Run) -> None:
    tasks, workers = run.sizes["tasks"], run.sizes["workers"]
    metered = _MeteredHub()
    group = m.DRIVER << 40 | 1
    metered.say(m.DRIVER, m.OpenGroup(group, 0, 1, workers, 0, 0, b"spec", 0, 0))
    ordered = [one.worker for one in metered.say(m.DRIVER, m.StartWorkers(group)) if type(one) is StartWorker]
    run.expect(len(ordered), workers, "number of workers")
    for worker in ordered:
        metered.feed(WorkerStarted(worker, 1000 + worker))
        metered.say(worker, m.Hello(m.WIRE_VERSION, worker, 1000 + worker, b"token"))
    metered.cpu_s = 0.0
    done = 0
    with run.timed(tasks, memory=False):
        for first in range(0, tasks, _BATCH):
            numbers = [group + 1 + number for number in range(first, min(tasks, first + _BATCH))]
            count = len(numbers)
            calls, payloads = [7] * count, [b"arguments"] * count
            metered.say(m.DRIVER, m.Submit(group, 0, [7], [b"function"], numbers, calls, payloads))
        submitted_s = metered.cpu_s
        while metered.given:
            worker, given = metered.given.popleft()
            metered.now += len(given.tasks) * 100e-6 / workers
            metered.say(worker, m.Done([pack_result(task, 1, m.Status.VALUE, 0, 100, b"v") for task in given.tasks]))
            done += len(given.tasks)
    run.expect(done, tasks, "number of tasks that were given to workers")
    run.record(hub=metered.cpu_s / tasks * 1e6, queue=submitted_s / tasks * 1e6)


# ---- a head with many hosts ----


class _MeteredHead:
    """A switchboard, and how long each of its steps took, in CPU seconds."""

    def __init__(self) -> None:
        self.own = Introduction(1, "3", "3", "head", "bench")
        self.board = Switchboard(self.own)
        self.steps_s: list[float] = []

    def join(self, link: bytes, role: str) -> None:
        self._step(self.board.receive, link, role, encode_introduction(self.own))

    def say(self, link: bytes, role: str, message: c.ClusterMessage) -> list[tuple[bytes, bytes]]:
        return self._step(self.board.receive, link, role, c.encode(message))

    def lose(self, link: bytes) -> None:
        self._step(self.board.lose, link, "gone")

    def _step(self, act: Any, *arguments: Any) -> list[tuple[bytes, bytes]]:
        begin = time.thread_time()
        sends: list[tuple[bytes, bytes]] = act(*arguments)
        self.steps_s.append(time.thread_time() - begin)
        return sends


def _many_hosts(run: Run) -> None:
    hosts, programs, slots = run.sizes["hosts"], run.sizes["programs"], 4
    head = _MeteredHead()
    sessions = []
    gc.collect()
    gc.freeze()  # as scalepool head does
    with run.timed(hosts * slots, memory=False):
        for number in range(programs):
            link = b"d%d" % number
            head.join(link, "driver")
            opened: Any = c.decode(head.say(link, "driver", c.Open(b"[]", b"token"))[0][1])
            sessions.append((link, opened.session))
        for number in range(hosts):
            link = b"a%d" % number
            head.join(link, "agent")
            head.say(link, "agent", c.Offer(slots, 1 << 34, b"host-%d" % number))
        began = len(head.steps_s)
        for worker in range(hosts * slots):
            link, session = sessions[worker % programs]
            head.say(link, "driver", c.Launch(session, worker, _SPEC))
        launches_s = head.steps_s[began:]
        report = head.board.report()
        for number in range(0, hosts, 2):
            head.lose(b"a%d" % number)
        for link, _ in sessions:
            head.lose(link)
    run.expect({node["workers"] for node in report["nodes"]}, {slots}, "workers of each host")
    run.record(step=max(head.steps_s) * 1e3, launch=sum(launches_s) / len(launches_s) * 1e6)


WORKLOADS = (
    Workload(
        name="cluster-submissions",
        what="no-op calls submitted one by one through the head of a cluster, over TCP",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        adapters=on(("scalepool", "dask", "ray"), _singles),
        full={"tasks": 100_000},
        quick={"tasks": 10_000},
        fewer={"dask": 50, "ray": 20},
        targets=(Target("rate", 5.0, against=("dask",)), Target("rate", 50.0, against=("ray",))),
    ),
    Workload(
        name="cluster-queue",
        what="CPU time of the hub alone: 256 simulated workers, all tasks queued at once",
        metrics=(Metric("hub", "us", "lower", "for each task"), Metric("queue", "us", "lower", "to queue it")),
        adapters=on(("scalepool",), _long_queue),
        full={"tasks": 1_000_000, "workers": 256},
        quick={"tasks": 100_000, "workers": 256},
        targets=(Target("hub", 5.0),),
    ),
    Workload(
        name="cluster-hosts",
        what="CPU time of the head alone: 1,000 simulated hosts, 8 programs",
        metrics=(
            Metric("step", "ms", "lower", "the longest of all steps"),
            Metric("launch", "us", "lower", "to place a worker"),
        ),
        adapters=on(("scalepool",), _many_hosts),
        full={"hosts": 1000, "programs": 8},
        quick={"hosts": 1000, "programs": 2},
        targets=(Target("step", 10.0),),
    ),
)
