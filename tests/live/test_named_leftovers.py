"""What tasks share by name with the standard library's means is removed, however the workers end, and not before."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from live.helpers import GONE_S, run, script, wait_for

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs /dev/shm to look into"),
]

PRELUDE = """
import multiprocessing, os, sys, time
from multiprocessing import shared_memory
from scalepool.multiprocessing import Pool

def hold(seconds=0):
    global lock, memory
    lock = multiprocessing.get_context("spawn").Lock()
    memory = shared_memory.SharedMemory(create=True, size=1000)
    print(os.getpid(), memory.name.strip("/"), lock._semlock.name.strip("/"), flush=True)
    time.sleep(seconds)

def there(names):
    return [name for name in names if any(name in one for one in os.listdir("/dev/shm"))]
"""


def there(names: list[str]) -> list[str]:
    return [name for name in names if any(name in one.name for one in Path("/dev/shm").iterdir())]


@pytest.mark.parametrize("end", ["pool closed", "driver killed", "driver and worker killed"])
def test_it_is_gone_when_the_program_is(tmp_path: Path, end: str) -> None:
    seconds = 0 if end == "pool closed" else 600
    source = f"""{PRELUDE}
with Pool(1) as pool:
    pool.apply(hold, ({seconds},))
    pool.close()
    pool.join()
"""
    with script(tmp_path, source) as driver:
        worker, *names = driver.read_line().split()
        if end == "driver killed":
            assert there(names) == names
            driver.process.kill()
        elif end == "driver and worker killed":
            driver.process.send_signal(signal.SIGSTOP)
            os.kill(int(worker), signal.SIGKILL)
            driver.process.kill()
        out, err = driver.finish()
        assert (out, err) == ("", "")
        wait_for(lambda: not there(names), GONE_S)


def test_it_outlives_the_worker_that_made_it_until_the_session_ends(tmp_path: Path) -> None:
    """As with the standard library's pool where the parent has a tracker: somebody may have been given the name."""
    source = f"""{PRELUDE}
def make():
    memory = shared_memory.SharedMemory(create=True, size=1000)
    memory.buf[0] = 7
    return memory.name
with Pool(1, maxtasksperchild=1) as pool:
    names = [pool.apply(make), pool.apply(make)]
    pool.close()
    pool.join()
found = [shared_memory.SharedMemory(name) for name in names]
print([one.buf[0] for one in found])
for one in found:
    one.close()
    one.unlink()
"""
    assert run(tmp_path, source) == "[7, 7]\n"


def test_what_the_driver_made_is_the_drivers(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
import scalepool
memory = shared_memory.SharedMemory(create=True, size=1000)
def fill(name):
    other = shared_memory.SharedMemory(name)
    other.buf[0] += 1
    other.close()
with Pool(1, maxtasksperchild=1) as pool:
    for _ in range(3):
        pool.apply(fill, (memory.name,))
    pool.close()
    pool.join()
scalepool.shutdown()
time.sleep(1.0)  # for a tracker that would remove it now
print(len(there([memory.name.strip("/")])), memory.buf[0])
memory.close()
memory.unlink()
"""
    assert run(tmp_path, source) == "1 3\n"


def test_who_shares_nothing_has_no_tracker(tmp_path: Path) -> None:
    source = """
    from scalepool.multiprocessing import Pool
    with Pool(2) as pool:
        pool.map(abs, range(100))
    print("done")
    input()
    """
    with script(tmp_path, source) as driver:
        assert driver.read_line() == "done"
        commands = []
        for pid in driver.descendants():
            commands.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        assert commands
        assert not [command for command in commands if b"resource_tracker" in command]
        driver.finish("\n")
