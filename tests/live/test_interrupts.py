"""Ctrl-C: one KeyboardInterrupt with the user's stack, no word from the workers, and the pool goes on."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from live.helpers import run, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

PRELUDE = """
import os, signal, sys, threading, time
from live import tasks
from scalepool import api
from scalepool.api import WorkerGroup
group = WorkerGroup(2)
group.start()
"""
BLOCKING = {
    "result": "futures[0].result()",
    "result_with_timeout": "futures[0].result(600)",
    "exception": "futures[0].exception()",
    "wait": "api.wait(futures)",
    "join": "group.close(); group.join()",
    "stdlib_wait": "import concurrent.futures; concurrent.futures.wait(futures)",
    "stdlib_as_completed": "import concurrent.futures; list(concurrent.futures.as_completed(futures))",
}


@pytest.mark.parametrize("call", BLOCKING)
def test_an_interrupted_call_raises_once_and_the_pool_goes_on(tmp_path: Path, call: str) -> None:
    source = f"""{PRELUDE}
futures = [group.submit(time.sleep, (600,)) for _ in range(8)]
print("ready", flush=True)
try:
    {BLOCKING[call].replace("; ", chr(10) + "    ")}
except KeyboardInterrupt:
    print("interrupted", flush=True)
group.terminate()
assert group.join(60)
again = WorkerGroup(2)
print([again.submit(tasks.square, (n,)).result(60) for n in range(3)])
"""
    with script(tmp_path, source) as driver:
        assert driver.read_line() == "ready"
        signal.sigtimedwait([], 0.2)  # so that it is in the call, most probably; before it, all the same
        os.killpg(driver.process.pid, signal.SIGINT)  # what a terminal does
        out, err = driver.finish()

    assert (driver.process.returncode, out, err) == (0, "interrupted\n[0, 1, 4]\n", "")


def test_an_uncaught_interrupt_shows_one_traceback_and_leaves_nothing(tmp_path: Path) -> None:
    source = f"{PRELUDE}\nfuture = group.submit(time.sleep, (600,))\nprint('ready', flush=True)\nfuture.result()\n"
    with script(tmp_path, source) as driver:
        assert driver.read_line() == "ready"
        signal.sigtimedwait([], 0.2)
        os.killpg(driver.process.pid, signal.SIGINT)
        _, err = driver.finish()

    assert driver.process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_many_interrupts_tear_nothing(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
signal.setitimer(signal.ITIMER_REAL, 0)
me = os.getpid()
armed = False
def interrupt(number, frame):  # raises in the calls below, and nowhere else in this program
    global armed
    if armed:
        armed = False
        signal.default_int_handler(number, frame)
signal.signal(signal.SIGINT, interrupt)
stop = threading.Event()
def disturb():
    import random
    choose = random.Random(7)
    while not stop.wait(choose.uniform(0.0005, 0.004)):
        os.kill(me, signal.SIGINT)
disturber = threading.Thread(target=disturb)
interrupts = 0
futures = []
disturber.start()
deadline = time.monotonic() + 2.0
while time.monotonic() < deadline:
    try:
        armed = True
        future = group.submit(tasks.square, (len(futures),))
        futures.append(future)
        assert future.result(60) == (len(futures) - 1) ** 2
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
stop.set()
disturber.join()
assert interrupts > 20, interrupts
assert [future.result(60) for future in futures] == [n * n for n in range(len(futures))]
group.close()
assert group.join(60)
print("done")
"""
    # A KeyboardInterrupt in a finalizer is reported by the interpreter itself, whoever wrote it.
    with script(tmp_path, source) as driver:
        out, err = driver.finish()

    assert (driver.process.returncode, out) == (0, "done\n"), err


def test_a_handler_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
future = group.submit(time.sleep, (0.5,))
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
assert future.result(60) is None
assert seen == [signal.SIGINT]
print(signal.getsignal(signal.SIGINT).__name__)
"""
    assert run(tmp_path, source) == "<lambda>\n"


def test_the_default_handler_is_back_after_each_call(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
for _ in range(3):
    group.submit(tasks.square, (2,)).result(60)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print("done")
"""
    assert run(tmp_path, source) == "done\n"
