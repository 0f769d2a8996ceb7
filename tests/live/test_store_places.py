"""Large data works, or fails as one task's error, wherever there is little room: small mounts, limits, no memfds.

Each test is a script of its own, where need be in a mount namespace with its own small file systems.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from live.helpers import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="mounts and limits of Linux")]

PREAMBLE = """
import ctypes, os, resource, subprocess

def isolate():
    # Before anything starts a thread: a process with several cannot have a user namespace of its own.
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000 | 0x00020000):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    mount("--make-rprivate", "/")

def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

def limit(name, size):
    resource.setrlimit(name, (size, resource.getrlimit(name)[1]))
"""

IMPORTS = """
import numpy as np
import scalepool.api as api
from scalepool.errors import ObjectStoreFullError, StoreError, WorkerDiedError
from scalepool.multiprocessing import Pool

MIB = 1 << 20

def double(array):
    return array * 2

def make(number):
    return np.full(MIB, float(number))  # 8 MiB

def die(array):
    os.kill(os.getpid(), 9)
"""

WORK = """
group = api.WorkerGroup(2)
for _ in range(2):
    with Pool(2) as pool:
        results = pool.map(double, [make(number) for number in range(8)], chunksize=1)
        assert all((result == 2.0 * number).all() for number, result in enumerate(results))
        results[3][:] = 0  # private and writable
    # It comes first: a large result that has not left its worker yet dies with it.
    mixed = [group.submit(double if number else die, (make(number),)) for number in range(6)]
    assert isinstance(mixed[0].exception(60), WorkerDiedError)
    assert [float(one.result(60)[7]) for one in mixed[1:]] == [2.0, 4.0, 6.0, 8.0, 10.0]
print("done")
"""

PLACES = {
    "as it is": "",
    "64 MB of /dev/shm": 'isolate(); mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm")',
    "no /dev/shm": 'isolate(); mount("-t", "tmpfs", "-o", "ro,size=4k,mode=000", "tmpfs", "/dev/shm")',
    "read-only root": (
        'isolate(); mount("-t", "tmpfs", "-o", "size=400m", "tmpfs", os.environ["TMPDIR"]); '
        'mount("-o", "remount,bind,ro", "/")'
    ),
}


def can_isolate() -> bool:
    try:
        done = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


needs_namespaces = pytest.mark.skipif(not can_isolate(), reason="namespaces of one's own are not allowed here")


@pytest.mark.parametrize("files", ["memfd", "file"])
@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=needs_namespaces if PLACES[place] else ()) for place in PLACES]
)
def test_large_data_and_a_killed_worker(tmp_path: Path, place: str, files: str) -> None:
    source = PREAMBLE + PLACES[place] + IMPORTS + WORK
    assert run(tmp_path, source, environ={"SCALEPOOL_STORE_FILES": files}) == "done\n"


@needs_namespaces
def test_a_megabyte_for_temporary_files_is_enough_with_memfds(tmp_path: Path) -> None:
    place = 'isolate(); mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", os.environ["TMPDIR"])'
    assert run(tmp_path, PREAMBLE + place + IMPORTS + WORK) == "done\n"


EXHAUSTED = """
group = api.WorkerGroup(2)
futures = [group.submit(make, (number,)) for number in range(8)]
errors = [future.exception(60) for future in futures]
full = [error for error in errors if error is not None]
assert full and all(isinstance(error, {error}) for error in full), errors
good = [number for number in range(8) if errors[number] is None]
assert [float(futures[number].result()[0]) for number in good] == good
argument = group.submit(double, (np.ones(8 * MIB),)).exception(60)
assert isinstance(argument, {error}), argument
pids = {{worker.pid for worker in group.workers()}}
del futures
assert group.submit(double, (np.ones(20_000),)).result(60)[-1] == 2.0
assert pids <= {{worker.pid for worker in group.workers()}}, "a worker has died"
print("done")
"""


@needs_namespaces
def test_a_file_system_that_is_full_is_an_error_of_that_task(tmp_path: Path) -> None:
    place = 'isolate(); mount("-t", "tmpfs", "-o", "size=36m", "tmpfs", os.environ["TMPDIR"])'
    source = PREAMBLE + place + IMPORTS + EXHAUSTED.format(error="ObjectStoreFullError")
    assert run(tmp_path, source, environ={"SCALEPOOL_STORE_FILES": "file"}) == "done\n"


@pytest.mark.parametrize("files", ["memfd", "file"])
def test_a_limit_of_file_sizes_is_an_error_of_that_task(tmp_path: Path, files: str) -> None:
    source = PREAMBLE + "limit(resource.RLIMIT_FSIZE, 4 << 20)" + IMPORTS + EXHAUSTED.format(error="StoreError")
    assert run(tmp_path, source, environ={"SCALEPOOL_STORE_FILES": files}) == "done\n"


def test_a_limit_of_address_space_is_an_error_of_that_task(tmp_path: Path) -> None:
    source = """
group = api.WorkerGroup(1)
def squeezed(array, room):
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit(resource.RLIMIT_AS, size + room)
    try:
        return make(1), make(2)
    finally:
        limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
assert group.submit(double, (make(3),)).result(60)[0] == 6.0
(before,) = group.workers()
assert isinstance(group.submit(squeezed, (make(1), MIB)).exception(60), MemoryError)
one, two = group.submit(squeezed, (make(1), 64 * MIB)).result(60)
assert (one[0], two[-1]) == (1.0, 2.0)
(after,) = group.workers()
assert before.pid == after.pid
print("done")
"""
    assert run(tmp_path, PREAMBLE + IMPORTS + source) == "done\n"


def test_memory_is_free_within_a_second_of_the_last_reference(tmp_path: Path) -> None:
    source = """
import time
from scalepool._runtime.session import current
group = api.WorkerGroup(1)
result = group.submit(make, (1,)).result(60)
buffer = api.put_buffer(make(2))
session = current()
deadline = time.monotonic() + 30
while session.hub.statistics().objects != 2:
    assert time.monotonic() < deadline
    time.sleep(0.001)
time.sleep(1.0)  # nobody waits, and the helper is parked
start = time.monotonic()
del result, buffer
while session.hub.statistics().objects:
    time.sleep(0.001)
    assert time.monotonic() - start < 30
print(time.monotonic() - start)
"""
    assert float(run(tmp_path, PREAMBLE + IMPORTS + source)) < 5.0  # one second, on a machine with time to spare
