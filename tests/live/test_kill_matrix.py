"""SIGKILL of each kind of process in the middle of each kind of work: it goes on or fails, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.helpers import PATIENCE_S, Script, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

PRELUDE = """
import os, sys, time
import scalepool
from scalepool.errors import ScalepoolError
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor

LOG = sys.argv[1]
def slow(item):
    with open(LOG, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.05)
    return item
def forever():
    while True:
        yield 1
class Actor:
    def work(self, item):
        return slow(item)
def stream(count):
    for item in range(count):
        yield slow(item)
def nested(item):
    with Pool(2) as inner:
        return sum(inner.map(slow, range(30), 1))

def work():
    WORK

try:
    while True:
        work()
except (ScalepoolError, RuntimeError) as error:
    print("failed", type(error).__name__, flush=True)
scalepool.shutdown()
with Pool(2) as pool:
    print(pool.map(abs, [-1, -2]), flush=True)
"""

# ruff: noqa: E501 - one work per line
WORKS = {
    "map": "Pool(2).map(slow, range(60), 1)",
    "imap": "list(Pool(2).imap_unordered(slow, (1 for _ in range(60))))",
    "executor": "list(ProcessPoolExecutor(2).map(slow, range(60)))",
    "actors": "actors = [scalepool.remote(Actor).remote() for _ in range(2)]; scalepool.get([actor.work.remote(1) for actor in actors for _ in range(60)])",
    "streams": "streams = [scalepool.remote(stream).remote(60) for _ in range(2)]; [scalepool.get(ref) for one in zip(*streams) for ref in one]",
    "nested": "Pool(2).map(nested, range(4), 1)",
}


NEXT = "from scalepool.multiprocessing import Pool\nwith Pool(1) as pool: assert pool.apply(abs, (-1,)) == 1"


def workers(driver: Script, log: Path) -> list[int]:
    del driver
    return [int(line) for line in dict.fromkeys(log.read_text().split())][-2:]


def one_worker(driver: Script, log: Path) -> list[int]:
    return workers(driver, log)[-1:]


def zygote(driver: Script, log: Path) -> list[int]:
    del log
    children = Path(f"/proc/{driver.process.pid}/task/{driver.process.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def the_driver(driver: Script, log: Path) -> list[int]:
    del log
    return [driver.process.pid]


def driver_and_zygote(driver: Script, log: Path) -> list[int]:
    return [driver.process.pid, *zygote(driver, log)]


VICTIMS = [one_worker, workers, zygote, the_driver, driver_and_zygote]


@pytest.mark.parametrize("victims", VICTIMS, ids=lambda victims: victims.__name__)
@pytest.mark.parametrize("work", WORKS)
def test_nothing_hangs_and_nothing_is_left(
    tmp_path: Path, work: str, victims: Callable[[Script, Path], list[int]]
) -> None:
    path, log = tmp_path / "program.py", tmp_path / "log"
    path.write_text(PRELUDE.replace("WORK", WORKS[work]))
    log.touch()
    driver = Script(tmp_path, ["-W", "ignore", str(path), str(log)])
    try:
        wait_for(lambda: driver.process.poll() is not None or len(set(log.read_text().split())) >= 2)
        for pid in victims(driver, log):
            os.kill(pid, signal.SIGKILL)
        out, err = driver.finish()
    finally:
        driver.close()

    if victims in (the_driver, driver_and_zygote):
        assert (driver.process.returncode, out) == (-signal.SIGKILL, "")
    else:
        assert driver.process.returncode == 0, out + err
        assert "Died" in out or "Lost" in out or "Unavailable" in out, out + err
        assert out.endswith("[1, 2]\n")
        assert "Traceback" not in err
    if victims is driver_and_zygote:  # nobody is there to remove the folder: the next session does some time later
        wait_for(lambda: not driver.descendants())
        long_ago = time.time() - 3600
        for folder in driver.temporary.iterdir():
            os.utime(folder, (long_ago, long_ago))
        subprocess.run([sys.executable, "-c", NEXT], env=driver.environ(), timeout=PATIENCE_S, check=True)
    driver.assert_nothing_left()
