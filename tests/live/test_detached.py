"""Detached actors of a cluster: they outlive their program, are found by others, and end with the cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from live.clusters import LONG_S, Cluster, cluster_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live

CLASS = """
import os, sys, time
import scalepool
scalepool.init(sys.argv[1])

class Point:
    def __init__(self, x):
        self.x = x

@scalepool.remote
class Counter:
    def __init__(self, start):
        self.n = start
    def add(self, by=1):
        self.n += by
        return self.n
    def size(self, data):
        return len(data)
    def bytes(self, count):
        return bytes(count)
    def point(self):
        return Point(7)
    def pid(self):
        return os.getpid()
    def fail(self):
        raise KeyError("no such thing")

@scalepool.remote
def one():
    return 1
"""

MAKER = (
    CLASS
    + """
c = Counter.options(name="c", namespace="ns", lifetime="detached").remote(one.remote())
assert scalepool.get([c.add.remote(), c.add.remote(one.remote())]) == [2, 3]
assert type(scalepool.get(c.point.remote())) is Point
print("made", flush=True)
time.sleep(1000)
"""
)

USER = """
import os, sys
import scalepool
scalepool.init(sys.argv[1])

for namespace in (None, "other"):
    try:
        scalepool.get_actor("c", namespace=namespace)
    except ValueError as error:
        assert "no actor named 'c'" in str(error), error
    else:
        raise AssertionError(namespace)

c = scalepool.get_actor("c", namespace="ns")
assert scalepool.get(c.add.remote()) == 4
assert scalepool.get(c.size.remote(bytes(3_000_000))) == 3_000_000
assert scalepool.get(c.size.remote(scalepool.put(bytes(2_000_000)))) == 2_000_000
assert len(scalepool.get(c.bytes.remote(3_000_000))) == 3_000_000
assert scalepool.get(c.size.remote(c.bytes.remote(1_000_000))) == 1_000_000
assert scalepool.get(c.point.remote()).x == 7
try:
    scalepool.get(c.fail.remote())
except KeyError:
    pass
else:
    raise AssertionError

@scalepool.remote
def use(handle):
    again = scalepool.get_actor("c", namespace="ns")
    return scalepool.get([handle.add.remote(), again.add.remote()])

assert scalepool.get(use.remote(c)) == [5, 6]
refs = [c.add.remote() for _ in range(200)]
assert scalepool.get(refs) == list(range(7, 207))

@scalepool.remote
class Other:
    pass

try:
    Other.options(name="c", namespace="ns", lifetime="detached").remote()
except ValueError as error:
    assert "there is an actor named 'c' already" in str(error), error
else:
    raise AssertionError
same = Other.options(name="c", namespace="ns", lifetime="detached", get_if_exists=True).remote()
assert scalepool.get(same.add.remote()) == 207
print(scalepool.get(c.pid.remote()), flush=True)
"""

ENDER = """
import sys
import scalepool
scalepool.init(sys.argv[1])
c = scalepool.get_actor("c", namespace="ns")
scalepool.kill(c)
try:
    scalepool.get(c.add.remote())
except scalepool.ActorDiedError as error:
    assert "ended by scalepool.kill()" in str(error), error
else:
    raise AssertionError
try:
    scalepool.get_actor("c", namespace="ns")
except ValueError:
    pass
else:
    raise AssertionError

@scalepool.remote
class Bad:
    def __init__(self):
        raise RuntimeError("never made")
    def go(self):
        pass

bad = Bad.options(lifetime="detached").remote()
try:
    scalepool.get(bad.go.remote())
except scalepool.ActorDiedError as error:
    assert type(error.__cause__) is RuntimeError, error.__cause__
else:
    raise AssertionError
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One with a host; whatever is left of it, its steward too, ends with the test."""
    with cluster_of(tmp_path, h1=2) as cluster:
        try:
            yield cluster
        finally:
            cluster.command("down", cluster.address)
            until(lambda: not stewards(cluster))


def stewards(cluster: Cluster) -> list[int]:
    """Return the stewards of a cluster that run."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "steward" in words and cluster.address in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def program(cluster: Cluster, name: str, text: str) -> subprocess.Popen[str]:
    """Start a program of a user's."""
    environ = cluster.environ(name)
    script = cluster.folder / name / "script.py"
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(script), cluster.address], env=environ, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def run(cluster: Cluster, name: str, text: str) -> str:
    """Run a program to its end, and return what it has printed."""
    out, errors = program(cluster, name, text).communicate(timeout=2 * LONG_S)
    assert "Traceback" not in errors, errors
    return out


def actors(cluster: Cluster) -> list[dict[str, object]]:
    """Return what ``scalepool status`` tells of detached actors."""
    found: list[dict[str, object]] = cluster.report()["detached"]
    return found


def test_an_actor_outlives_its_program_and_ends_with_the_cluster(cluster: Cluster) -> None:
    cluster.join("h2", 2)
    maker = program(cluster, "maker", MAKER)
    assert maker.stdout is not None
    assert maker.stderr is not None
    said = maker.stdout.readline()
    assert said == "made\n", maker.stderr.read()
    maker.kill()
    maker.communicate()
    pid = int(run(cluster, "user", USER))  # another program, from another folder
    until(lambda: [(one["name"], one["pid"]) for one in actors(cluster)] == [("c", pid)])
    shown = cluster.command("status", cluster.address).stdout
    assert f"detached actor ns/c (Counter): process {pid}" in shown
    (steward,) = stewards(cluster)
    assert cluster.command("down", cluster.address).returncode == 0
    until(lambda: not psutil.pid_exists(steward) and not psutil.pid_exists(pid))


def test_it_is_ended_by_another_program_and_by_its_constructor(cluster: Cluster) -> None:
    made = CLASS + "Counter.options(name='c', namespace='ns', lifetime='detached').remote(0)\n"
    run(cluster, "maker", made)  # which is over at once
    run(cluster, "ender", ENDER)
    until(lambda: actors(cluster) == [])


KIT = "def twice(n):\n    return 2 * n\n"
WITH_KIT = """
import os, sys
import scalepool
import kit
scalepool.init(sys.argv[1])

@scalepool.remote
class Doubler:
    def __init__(self):
        import kit
        self.twice = kit.twice
    def go(self, n):
        return self.twice(n)
    def pid(self):
        return os.getpid()

Doubler.options(name="d", lifetime="detached", max_restarts=1).remote()
"""
OTHER_KIT = (
    WITH_KIT
    + """
raise AssertionError("it was made")
"""
)


def test_it_begins_anew_with_its_own_code_when_its_program_is_gone(cluster: Cluster) -> None:
    folder = cluster.folder / "maker"
    folder.mkdir()
    (folder / "kit.py").write_text(KIT)
    run(cluster, "maker", WITH_KIT)
    (folder / "kit.py").unlink()
    finder = "import sys, scalepool\nscalepool.init(sys.argv[1])\nd = scalepool.get_actor('d')\n"
    pid = int(run(cluster, "user", finder + "print(scalepool.get(d.pid.remote()))"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: [actor["restarts"] for actor in actors(cluster)] == [1])
    assert run(cluster, "user", finder + "print(scalepool.get(d.go.remote(21)))") == "42\n"
    # Other code under the same name would be another one's when it begins anew.
    (cluster.folder / "other").mkdir()
    (cluster.folder / "other" / "kit.py").write_text(KIT + "# edited\n")
    other = program(cluster, "other", OTHER_KIT)
    _, errors = other.communicate(timeout=LONG_S)
    assert "module 'kit' is another one than that of the detached actor 'd' (Doubler)" in errors


def test_it_outlives_the_head_and_ends_with_the_steward(cluster: Cluster) -> None:
    made = CLASS + "Counter.options(name='c', namespace='ns', lifetime='detached').remote(10)\n"
    run(cluster, "maker", made)
    (before,) = stewards(cluster)
    cluster.restart_head()
    finder = (
        "import sys, scalepool\nscalepool.init(sys.argv[1])\nc = scalepool.get_actor('c', namespace='ns')\n"
        "print(scalepool.get(c.add.remote()), flush=True)\n"
    )
    assert run(cluster, "user", finder) == "11\n"
    assert stewards(cluster) == [before]
    waiting = finder + (
        "sys.stdin.readline()\n"
        "try:\n    scalepool.get(c.add.remote())\n"
        "except scalepool.ActorDiedError as error:\n    assert 'left the cluster' in str(error), error\n"
        "try:\n    scalepool.get_actor('c', namespace='ns')\n"
        "except ValueError:\n    print('gone')\n"
    )
    environ = cluster.environ("waiting")
    (cluster.folder / "waiting" / "script.py").write_text(waiting)
    user = subprocess.Popen(
        [sys.executable, str(cluster.folder / "waiting" / "script.py"), cluster.address], env=environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert user.stdout is not None
    assert user.stdout.readline() == "12\n"
    os.kill(before, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(before) or psutil.Process(before).status() == psutil.STATUS_ZOMBIE)
    out, errors = user.communicate("\n", timeout=2 * LONG_S)
    assert out == "gone\n", errors
