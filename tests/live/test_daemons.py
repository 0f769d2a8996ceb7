"""Heads and hosts in the background: they serve when the verb has returned, and end with ``scalepool down``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from live.clusters import LONG_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

HEAD = ("head", "--daemon", "--port", "0")


class Home:
    """A user's home folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".scalepool"
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        self._environ = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": path}
        for name in ("SCALEPOOL_KEY_FILE", "SCALEPOOL_ADDRESS"):
            self._environ.pop(name, None)

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "scalepool", *arguments],
            env=self._environ, text=True, capture_output=True, timeout=LONG_S, check=False,
        )  # fmt: skip

    @property
    def head(self) -> int:
        facts = json.loads((self.folder / "cluster.json").read_text())
        return int(facts["pid"])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """One whose cluster ends with the test."""
    home = Home(tmp_path)
    yield home
    if (home.folder / "cluster.json").exists():
        home.verb("down")


def test_a_head_and_a_host_in_the_background(home: Home) -> None:
    started = home.verb(*HEAD)
    assert started.returncode == 0, started.stderr
    assert "To join a host:         scalepool worker tcp://127.0.0.1:" in started.stdout
    assert "head.log" in started.stdout
    head = home.head
    assert os.getsid(head) == head  # no terminal's end is its own
    assert (home.folder / "head.log").stat().st_mode & 0o777 == 0o600
    joined = home.verb("worker", "--daemon", "--cpus", "2")
    assert joined.returncode == 0, joined.stderr
    assert "joined tcp://127.0.0.1:" in joined.stdout
    shown = home.verb("status")
    assert "1 host with room for 2 workers, 0 running; 0 programs" in shown.stdout, shown.stderr
    until(lambda: "joined: 1 host with 2 slots now" in (home.folder / "head.log").read_text())
    again = home.verb(*HEAD)
    assert again.returncode == 1
    assert "a head runs at tcp://127.0.0.1:" in again.stderr
    assert str(head) in again.stderr
    agents = [one.pid for one in psutil.process_iter(["cmdline", "environ"]) if _is_agent(one, home)]
    assert len(agents) == 1
    assert home.verb("down").returncode == 0
    until(lambda: not any(psutil.pid_exists(pid) for pid in (head, *agents)))
    assert not (home.folder / "cluster.json").exists()


def _is_agent(process: psutil.Process, home: Home) -> bool:
    words, environ = process.info["cmdline"] or [], process.info["environ"] or {}
    return "worker" in words and "--cpus" in words and environ.get("HOME") == str(home.folder.parent)


def test_one_that_was_killed_is_started_again(home: Home) -> None:
    assert home.verb(*HEAD).returncode == 0
    first = home.head
    os.kill(first, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(first))
    started = home.verb(*HEAD)
    assert started.returncode == 0, started.stderr
    assert home.head != first


def test_what_goes_wrong_is_said_at_once(home: Home) -> None:
    refused = home.verb("head", "--daemon", "--bind", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "refusing to listen at 0.0.0.0" in refused.stderr
    nobody = home.verb("worker", "tcp://127.0.0.1:1", "--daemon", "--timeout", "0.3")
    assert nobody.returncode == 1
    assert "no key file" in nobody.stderr.lower() or "keys" in nobody.stderr


def test_a_cluster_gets_new_keys(home: Home) -> None:
    assert home.verb("keys", "new").returncode == 0
    assert home.verb(*HEAD).returncode == 0
    assert home.verb("worker", "--daemon").returncode == 0
    assert home.verb("down").returncode == 0
    refused = home.verb("keys", "new")
    assert refused.returncode == 1
    assert "refusing to replace" in refused.stderr
    old = (home.folder / "keys.json").rename(home.folder / "keys-old.json")
    assert home.verb("keys", "new").returncode == 0
    assert home.verb(*HEAD).returncode == 0
    assert home.verb("worker", "--daemon").returncode == 0
    assert "1 host with room" in home.verb("status").stdout
    for verb in (("worker", "--daemon"), ("status",)):
        outside = home.verb(*verb, "--key-file", str(old))
        assert outside.returncode == 1
        assert "is not the head that the key file belongs to" in outside.stderr
    assert "1 host with room" in home.verb("status").stdout


def test_how_to_end_a_head_with_a_cluster_file_of_its_own_is_said(home: Home) -> None:
    file = home.folder / "other.json"
    started = home.verb(*HEAD, "--cluster-file", str(file))
    assert started.returncode == 0, started.stderr
    assert f"'scalepool down {file}' ends it" in started.stdout
    assert home.verb("down", str(file)).returncode == 0
    assert not file.exists()
