from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scalepool.bench import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

BURN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
TELL_AND_WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that says when it is ready, and wait until it does."""
    code = getattr(request, "param", "")
    command = [sys.executable, "-c", code + TELL_AND_WAIT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("child", [BURN], indirect=True)
def test_cpu_time_of_a_living_child_counts(child: subprocess.Popen[bytes]) -> None:
    with_child = tree.cpu_s()
    child.kill()
    child.wait()

    assert with_child >= 0.2
    assert tree.cpu_s() >= with_child - 0.05  # reaped: now it is in the figure of the dead


def test_cpu_time_of_a_dead_child_counts() -> None:
    before = tree.cpu_s()
    subprocess.run([sys.executable, "-c", BURN], check=True)

    assert tree.cpu_s() - before >= 0.2


GRANDCHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n"


@pytest.mark.parametrize("child", [GRANDCHILD], indirect=True)
def test_cpu_time_of_a_grandchild_that_ended_counts(child: subprocess.Popen[bytes]) -> None:
    before = tree._reaped_s(tree.members(child.pid)[0])

    assert before >= 0.15  # in ticks of ten milliseconds


TAKE = "taken = bytearray(50_000_000)\n"
HOLD = "import os\nfd = os.memfd_create('held'); os.posix_fallocate(fd, 0, 50_000_000)\n"


@pytest.mark.parametrize("child", [TAKE, HOLD], indirect=True)
def test_memory_counts_be_it_private_or_shared_and_not_mapped(child: subprocess.Popen[bytes]) -> None:
    assert 50e6 < tree.MemoryMeter(child.pid).read_bytes() < 90e6


def test_shared_memory_of_two_processes_counts_once(child: subprocess.Popen[bytes]) -> None:
    meter = tree.MemoryMeter(os.getpid())
    before = meter.read_bytes()
    fd = os.memfd_create("shared")
    try:
        os.posix_fallocate(fd, 0, 50_000_000)
        with subprocess.Popen(
            [sys.executable, "-c", TELL_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(fd,)
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            assert 45e6 < meter.read_bytes() - before < 80e6
            holder.kill()
    finally:
        os.close(fd)


def test_a_process_that_is_gone_has_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert tree.members(process.pid) == []
    assert tree.MemoryMeter(process.pid).read_bytes() == 0
    assert tree._clock_s(process.pid) == 0.0


def test_some_memory_is_free() -> None:
    assert tree.free_bytes() > 1_000_000
