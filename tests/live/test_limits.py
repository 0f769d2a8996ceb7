"""Machines with little: descriptors, processes, memory, disk. It works, with fewer workers, or says what is wrong."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, ROOT, Script, run
from scalepool.engines.local import FDS_PER_WORKER

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PROGRAM = """
import os, sys, time
from scalepool.multiprocessing import Pool

def where(seconds):
    time.sleep(seconds)
    return os.getpid()

def main(workers):
    with Pool(workers) as pool:
        assert pool.map(abs, range(-500, 0)) == list(range(500, 0, -1))
        assert pool.map(len, [bytes(200_000)] * 20) == [200_000] * 20
        seen = set()
        for _ in range(25):  # until all have come, where all can
            seen.update(pool.map(where, [0.02] * 4 * workers, chunksize=1))
            if len(seen) == workers:
                break
        return len(seen)

print(main(int(sys.argv[1])), flush=True)
"""


def limited(folder: Path, workers: int, limits: str) -> tuple[int, str, str]:
    """Run the program in a shell with these limits; return exit code and output."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        ["bash", "-c", f"{limits} && exec {sys.executable} {path} {workers}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": "/tmp"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("files", "wanted"), [(256, 4), (256, 16), (64, 2), (64, 4)])
def test_few_open_files_are_enough_for_a_few_workers(tmp_path: Path, files: int, wanted: int) -> None:
    assert limited(tmp_path, wanted, f"ulimit -n {files}") == (0, f"{wanted}\n", "")


def test_too_few_open_files_for_all_workers_mean_fewer_and_one_message(tmp_path: Path) -> None:
    code, out, err = limited(tmp_path, 40, "ulimit -n 64")

    assert code == 0, err
    assert 1 <= int(out) < 40
    (message,) = err.splitlines()
    assert "64 open files per process" in message
    assert "ulimit -n" in message


def test_hardly_any_open_files_are_a_clear_error(tmp_path: Path) -> None:
    code, _, err = limited(tmp_path, 2, "ulimit -n 12")

    assert code == 1
    assert "open files" in err


def test_little_address_space(tmp_path: Path) -> None:
    assert limited(tmp_path, 4, "ulimit -v 2000000") == (0, "4\n", "")


def test_a_full_disk_and_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """In a mount namespace of its own: /tmp is a file system of 64 KB that is full, HOME is read-only."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and user namespaces")
    home = tmp_path / "home"
    home.mkdir()
    small = tmp_path / "t"
    small.mkdir()
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {small} && head -c 60000 /dev/zero > {small}/filler; "
        f"mount --bind -o ro {home} {home} 2>/dev/null; mount -o remount,ro,bind {home}; "
        f"mount -t tmpfs -o size=64m tmpfs /dev/shm; "
        f"exec env HOME={home} TMPDIR={small} {sys.executable} {path} 2"
    )
    done = subprocess.run(
        [unshare, "-rm", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_a_temporary_folder_that_cannot_be_written_is_not_used(tmp_path: Path) -> None:
    source = """
    from scalepool.multiprocessing import Pool
    with Pool(2) as pool:
        print(pool.map(abs, [-1, -2]))
    """
    assert run(tmp_path, source, environ={"TMPDIR": "/proc", "HOME": "/nonexistent"}) == "[1, 2]\n"


CENSUS = """
import os, sys, threading, time
from scalepool.multiprocessing import Pool

def census(seconds):
    time.sleep(seconds)
    import scalepool
    return os.getpid(), len(os.listdir("/proc/self/fd")) - 1, len(os.listdir("/proc/self/task"))

def own(): return len(os.listdir("/proc/self/fd")) - 1
few, many = int(sys.argv[1]), int(sys.argv[2])
with Pool(few) as pool:
    pool._pool
    pool.map(census, [0.01] * few, chunksize=1)
    before = own()
    with Pool(many) as more:
        more._pool
        found = more.map(census, [0.5] * many, chunksize=1)
        print(own() - before, threading.active_count(), *(f"{fds}:{threads}" for _, fds, threads in found))
"""


def test_what_a_worker_costs_in_descriptors_and_threads(tmp_path: Path) -> None:
    path = tmp_path / "census.py"
    path.write_text(CENSUS)
    running = Script(tmp_path, [str(path), "4", "24"])
    try:
        out, err = running.finish()
    finally:
        running.close()
    assert not err
    more, threads, *workers = out.split()

    assert int(more) <= 20 * FDS_PER_WORKER + 1  # the file for questions is made after two seconds, at any of them
    assert int(threads) <= 4
    assert len(workers) == 24
    assert max(int(worker.split(":")[0]) for worker in workers) <= 20
    assert max(int(worker.split(":")[1]) for worker in workers) <= 3
    running.assert_nothing_left()


@pytest.mark.slow
def test_256_workers(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1024:
        pytest.skip(f"{hard} open files per process")
    path = tmp_path / "many.py"
    path.write_text("""
import os, resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from scalepool.multiprocessing import Pool

def come_and_wait(here, gate):
    with open(gate) as fifo:
        with open(here, "ab", buffering=0) as file:
            file.write(b"x")
        fifo.read()  # its end comes when the driver lets go of it
    return os.getpid()

here, gate = sys.argv[1:]
os.mkfifo(gate)
end = os.open(gate, os.O_RDWR)
with Pool(256) as pool:
    calls = pool.starmap_async(come_and_wait, [(here, gate)] * 256, chunksize=1)
    while not os.path.exists(here) or os.path.getsize(here) < 256:
        time.sleep(0.05)
    os.close(end)
    print(len(set(calls.get())), len(pool._pool))
""")
    running = Script(tmp_path, [str(path), str(tmp_path / "here"), str(tmp_path / "gate")])
    try:
        out, err = running.process.communicate(timeout=4 * PATIENCE_S)  # a hundred processes for each processor
    finally:
        running.close()
    assert (running.process.returncode, out, err) == (0, "256 256\n", "")
    running.assert_nothing_left()
