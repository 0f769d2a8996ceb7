"""``scalepool stack`` shows what actors run at the same time, and what tasks wait for that nobody runs."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from live.helpers import script, wait_for
from live.test_stack_verb import ask

if TYPE_CHECKING:
    from pathlib import Path

    from live.clusters import Cluster

pytestmark = pytest.mark.live

SOURCE = """
import asyncio, sys, time
import scalepool

async def deeper(seconds): await asyncio.sleep(seconds)
async def items():
    await asyncio.sleep(600)
    yield 1
async def spins_later():
    time.sleep(600)
def nap(seconds): time.sleep(seconds)

@scalepool.remote
class Crawler:
    async def fetch(self, seconds): await deeper(seconds)
    async def stream(self):
        async for item in items(): yield item

@scalepool.remote
class Blocked:
    async def block(self): nap(600)

@scalepool.remote
class Beside:
    async def start(self): self.task = asyncio.create_task(spins_later())

@scalepool.remote
class Slow:
    def __init__(self, seconds): nap(seconds)
    async def never(self): pass

@scalepool.remote(max_concurrency=2, name="threads")
class Threads:
    def work(self, seconds): nap(seconds)

@scalepool.remote
class Plain:
    def work(self, seconds): nap(seconds)

@scalepool.remote
def score(value): return value

@scalepool.remote(num_cpus=0, resources={"oven": 1})
def bake(): nap(600)

scalepool.init(num_cpus=2, resources={"oven": 1})
crawler, blocked, beside = Crawler.remote(), Blocked.remote(), Beside.remote()
threads, idle, slow = Threads.remote(), Plain.remote(), Slow.remote(600)
running = [crawler.fetch.remote(600) for _ in range(7)] + [threads.work.remote(600) for _ in range(3)]
running += [crawler.stream.remote(), blocked.block.remote(), beside.start.remote(), score.remote(running[0])]
scalepool.get(idle.work.remote(0))
running += [bake.remote() for _ in range(3)]
print("started", flush=True)
sys.stdin.readline()
"""


def shown(pid: int) -> dict[str, Any]:
    done = ask(str(pid), "--json")
    assert done.returncode == 0, done.stderr
    (session,) = json.loads(done.stdout)
    found: dict[str, Any] = session
    return found


def calls_of(session: dict[str, Any]) -> dict[str, list[tuple[str, int, list[str]]]]:
    return {
        one["actor_class"]: [
            (call["name"], call["count"], [frame["function"] for frame in call["stack"]]) for call in one["calls"]
        ]
        for one in session["workers"]
    }


EXPECTED = {
    "Crawler": [
        ("Crawler.fetch", 7, ["sleep", "deeper", "fetch"]),
        ("Crawler.stream", 1, ["sleep", "items", "stream"]),
    ],
    "Blocked": [("Blocked.block", 1, ["nap", "block"])],
    "Beside": [("its event loop", 0, ["spins_later"])],
    "Threads": [("Threads.work", 2, ["nap", "work"])],
    "Plain": [],
}
WAITING = {
    ("score", 1, "what Crawler.fetch returns"),
    ("bake", 2, "resources: 1 oven needed, 0 of 1 free"),
}


def test_calls_of_actors_and_what_tasks_wait_for_are_shown(tmp_path: Path) -> None:
    with script(tmp_path, SOURCE) as driver:
        assert driver.read_line() == "started"
        pid = driver.process.pid

        def complete() -> dict[str, Any] | None:
            session = shown(pid)
            calls = calls_of(session)
            said = {(one["name"], one["count"], one["reason"]) for one in session["waiting"]}
            is_complete = all(calls.get(name) == those for name, those in EXPECTED.items()) and said >= WAITING
            return session if is_complete and "__init__" in ask(str(pid)).stdout else None

        session = wait_for(complete)

        workers = {one["actor_class"]: one for one in session["workers"]}
        assert workers["Threads"]["actor_name"] == "threads"
        assert workers["Threads"]["waiting"] == 1 or "Threads.work" in {one["name"] for one in session["waiting"]}
        assert workers["Plain"]["state"] == "idle"
        assert [frame["function"] for frame in workers["Slow"]["stack"]] == ["nap", "__init__"]
        assert workers["Slow"]["task"] == "Slow.__init__"
        text = ask(str(pid)).stdout
        assert "7 calls at the same place" in text
        assert "actor Beside; busy outside of its calls" in text
        assert "bake: 2 tasks wait for resources: 1 oven needed, 0 of 1 free" in text
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_is_stopped_is_said_to_be(tmp_path: Path) -> None:
    with script(tmp_path, SOURCE) as driver:
        assert driver.read_line() == "started"
        wait_for(lambda: shown(driver.process.pid)["waiting"])
        os.kill(driver.process.pid, signal.SIGSTOP)
        assert "it is stopped" in wait_for(lambda: shown(driver.process.pid)["note"])
        assert "Crawler.fetch" in ask(str(driver.process.pid)).stdout
        os.kill(driver.process.pid, signal.SIGKILL)


ON_A_CLUSTER = """
import sys, time
import scalepool
from scalepool.multiprocessing import Pool

def nap(seconds): time.sleep(seconds)

pool = Pool(2)
results = [pool.apply_async(nap, (600,)) for _ in range(2)]
print("started", flush=True)
sys.stdin.readline()
pool.terminate()
"""


def test_workers_on_other_hosts_are_listed_by_host_and_shown_there(cluster: Cluster, tmp_path: Path) -> None:
    agent = cluster.join("one", 2)
    environ = {"SCALEPOOL_ADDRESS": cluster.address, "SCALEPOOL_KEY_FILE": str(cluster.keys)}
    with script(tmp_path, ON_A_CLUSTER, environ=environ) as driver:
        assert driver.read_line() == "started"
        pid = driver.process.pid

        def workers() -> list[int] | None:
            hosts = shown(pid)["hosts"] if ask(str(pid)).returncode == 0 else {}
            found = [worker for pids in hosts.values() for worker in pids]
            return found if len(found) == 2 and all(found) else None

        remote = wait_for(workers)
        there = shown(agent.pid)["workers"]
        assert {one["pid"] for one in there} == set(remote)
        wait_for(lambda: {one["task"] for one in shown(agent.pid)["workers"]} == {"nap"})
        text = ask(str(pid)).stdout
        assert "2 workers (process" in text
        assert "is shown there: scalepool stack" in text
        driver.finish("\n")
