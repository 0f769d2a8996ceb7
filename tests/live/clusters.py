"""A cluster on this machine, for tests: a head and some hosts as processes of their own, each with its own folders."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scalepool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

LONG_S = 60.0


def until(condition: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + LONG_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


class Cluster:
    """A head, and agents that join it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.file = folder / "cluster.json"
        self.keys = folder / "keys.json"
        self.prefixes: dict[str, list[str]] = {}
        """What goes before the command of a host, by its name."""
        self.agents: dict[str, subprocess.Popen[str]] = {}
        """Those that have joined, by the names of their hosts."""
        self._processes: list[subprocess.Popen[str]] = []
        self.command("keys", "new", "--out", str(self.keys))
        self.head = self.start("head", "head", "--port", "0", "--cluster-file", str(self.file), *options)
        until(self.file.exists)
        self.address = self.head.stdout.readline().split(" is at ")[1].split(";")[0]  # type: ignore[union-attr]

    def environ(self, name: str) -> dict[str, str]:
        own = self.folder / name
        own.mkdir(exist_ok=True)
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        return {
            **os.environ, "PYTHONPATH": path, "TMPDIR": str(own), "HOME": str(own), "SCALEPOOL_TEST_HOST": name,
            "SCALEPOOL_KEY_FILE": str(self.keys),
        }  # fmt: skip

    def driver_environ(self) -> dict[str, str]:
        """Return the environment of a program that uses the cluster, as its user has it."""
        return {**self.environ("user"), "SCALEPOOL_ADDRESS": self.address}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb in the background."""
        command = [*self.prefixes.get(name, ()), sys.executable, "-m", "scalepool", *arguments]
        (self.folder / name).mkdir(exist_ok=True)
        with (self.folder / f"{name}.err").open("w") as errors:
            process = subprocess.Popen(
                command, env=self.environ(name), cwd=self.folder / name, text=True, stdout=subprocess.PIPE,
                stderr=errors, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def join(self, name: str, slots: int, *options: str) -> subprocess.Popen[str]:
        """Have a host join, and wait for that."""
        self.agents[name] = agent = self.start(name, "worker", self.address, "--cpus", str(slots), *options)
        until(lambda: "joined" in self.said(name) or agent.poll() is not None)
        assert "joined" in self.said(name), self.said(name)
        return agent

    def agent_pids(self) -> list[int]:
        """Return the agents that run."""
        return [agent.pid for agent in self.agents.values() if agent.poll() is None]

    def restart_head(self) -> None:
        """Kill the head, and start another one at its address."""
        self.head.kill()
        self.head.wait()
        self.file.unlink()
        port = self.address.rpartition(":")[2]
        self.head = self.start("head", "head", "--port", port, "--cluster-file", str(self.file))
        until(self.file.exists)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.err").read_text()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return subprocess.run(
            [sys.executable, "-m", "scalepool", *arguments],
            env=self.environ("user"), text=True, capture_output=True, timeout=LONG_S, check=False,
        )  # fmt: skip

    def run(self, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program that uses the cluster to its end."""
        return subprocess.run(
            [sys.executable, "-c", source, *arguments],
            env=self.driver_environ(), text=True, capture_output=True, timeout=LONG_S, check=False,
        )  # fmt: skip

    def report(self) -> dict[str, Any]:
        """Return what ``scalepool status`` says."""
        shown = self.command("status", self.address, "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(LONG_S)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def cluster_of(folder: Path, *options: str, **slots: int) -> Iterator[Cluster]:
    """Give a cluster that ends with the block: a head with these options, and hosts by name with so many slots."""
    cluster = Cluster(folder, *options)
    try:
        for name, number in slots.items():
            cluster.join(name, number)
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def used(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process have the keys of a cluster, but no session; it has none afterwards either."""
    monkeypatch.setenv("SCALEPOOL_KEY_FILE", str(cluster.keys))
    scalepool.shutdown()
    try:
        yield
    finally:
        scalepool.shutdown()
