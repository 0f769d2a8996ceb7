"""Ctrl-C in a program that uses the drop-ins: one KeyboardInterrupt with the user's stack, quickly, and nothing left."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from live.helpers import Script, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live

#: The promise is 1 s on a machine with time to spare.
PROMPT_S = 10.0
#: Frames of ours that may stand between the user's line and the KeyboardInterrupt.
OUR_FRAMES = 4

PRELUDE = """
import os, signal, subprocess, sys, time

def slow(path, seconds=600):
    open(path, "a").write(f"{os.getpid()}\\n")
    if seconds > 500:
        subprocess.Popen(["sleep", "600"])  # what a task has started goes as well
    time.sleep(seconds)
    return path

LOG = sys.argv[1]
from scalepool.multiprocessing import Pool
from scalepool.concurrent.futures import ProcessPoolExecutor
"""

# ruff: noqa: E501 - one program per line
POOL = {
    "map": "pool.map(slow, [LOG] * 40)",
    "map_chunked": "pool.map(slow, [LOG] * 40, chunksize=10)",
    "starmap": "pool.starmap(slow, [(LOG,)] * 40)",
    "apply": "pool.apply(slow, (LOG,))",
    "get": "pool.apply_async(slow, (LOG,)).get()",
    "get_with_timeout": "pool.map_async(slow, [LOG] * 40).get(600)",
    "get_with_callback": "pool.apply_async(slow, (LOG,), callback=print).get()",
    "wait": "pool.map_async(slow, [LOG] * 40).wait()",
    "imap": "list(pool.imap(slow, [LOG] * 40))",
    "imap_chunked": "list(pool.imap(slow, [LOG] * 40, chunksize=5))",
    "imap_unordered": "next(pool.imap_unordered(slow, (LOG for _ in range(40))))",
    "join": "pool.map_async(slow, [LOG] * 40); pool.close(); pool.join()",
    "queue_of_short_ones": "pool.map(slow, [(LOG)] * 3); pool.starmap(slow, [(LOG, 0.05)] * 4000)",
}
EXECUTOR = {
    "result": "executor.submit(slow, LOG).result()",
    "map": "list(executor.map(slow, [LOG] * 40))",
    "map_buffered": "list(executor.map(slow, [LOG] * 40, buffersize=4))",
    "end_of_block": "futures = [executor.submit(slow, LOG) for _ in range(40)]",
    "shutdown": "[executor.submit(slow, LOG) for _ in range(40)]; executor.shutdown()",
    "as_completed": "import concurrent.futures as cf; list(cf.as_completed([executor.submit(slow, LOG) for _ in range(40)]))",
}
PROGRAMS = {
    **{f"pool_{name}": f"with Pool(2) as pool:\n    {call}\n" for name, call in POOL.items()},
    **{
        f"executor_{name}": f"with ProcessPoolExecutor(2) as executor:\n    {call}\n" for name, call in EXECUTOR.items()
    },
    "pool_not_closed": "pool = Pool(2)\npool.map(slow, [LOG] * 40)\n",
    "pool_with_initializer": "pool = Pool(2, slow, (LOG,))\npool.map(abs, [1])\n",
    "pool_that_recycles": "pool = Pool(2, maxtasksperchild=1)\npool.map(slow, [LOG] * 40, 1)\n",
    "executor_not_closed": "executor = ProcessPoolExecutor(2)\nexecutor.submit(slow, LOG).result()\n",
    "executor_idle_main": "executor = ProcessPoolExecutor(2)\nfuture = executor.submit(slow, LOG)\ntime.sleep(600)\n",
    "nested": "def outer(_):\n    with Pool(2) as inner:\n        return inner.map(slow, [LOG] * 4)\nPool(2).map(outer, range(4))\n",
    "joblib": "import joblib, scalepool\njoblib.Parallel(2, backend='scalepool')(joblib.delayed(slow)(LOG) for _ in range(40))\n",
    "joblib_generator": "import joblib, scalepool\nlist(joblib.Parallel(2, backend='scalepool', return_as='generator')(joblib.delayed(slow)(LOG) for _ in range(40)))\n",
    "busy_task": "def spin(path):\n    slow(path, 0)\n    while True: pass\nPool(2).map(spin, [LOG] * 4)\n",
    "deaf_task": "def deaf(path):\n    [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)]\n    slow(path)\nPool(2).map(deaf, [LOG] * 4)\n",
}


def start(folder: Path, program: str) -> tuple[Script, Path]:
    path, log = folder / "program.py", folder / "log"
    path.write_text(PRELUDE + program)
    log.touch()
    # The programs leave pools, files and children open, as users do; Python says so only when asked.
    return Script(folder, ["-W", "ignore::ResourceWarning", str(path), str(log)]), log


def interrupt(driver: Script, log: Path, number: int = signal.SIGINT) -> float:
    """Press Ctrl-C once two tasks run (or the one that there is); return the seconds until the program has ended."""
    wait_for(lambda: driver.process.poll() is not None or log.read_text())
    signal.sigtimedwait([], 0.1)
    began = time.monotonic()
    os.killpg(driver.process.pid, number)
    driver.process.wait(60)
    return time.monotonic() - began


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_interrupt_ends_the_program_at_once(tmp_path: Path, name: str) -> None:
    driver, log = start(tmp_path, PROGRAMS[name])
    try:
        took_s = interrupt(driver, log)
        out, err = driver.finish()
    finally:
        driver.close()

    assert (driver.process.returncode, out) == (-signal.SIGINT, ""), err
    assert err.count("Traceback") == 1, err
    assert err.endswith("KeyboardInterrupt\n"), err
    ours = re.findall(r'File ".*/scalepool/(?!cli)', err)
    if "joblib" not in name:  # which has a stack of its own
        assert len(ours) <= OUR_FRAMES, err
    assert "program.py" in err
    assert took_s < PROMPT_S
    driver.assert_nothing_left()


@pytest.mark.parametrize("name", ["pool_map", "executor_result", "executor_end_of_block", "joblib"])
@pytest.mark.parametrize("gap_s", [0.0, 0.005, 0.03])
def test_impatience_does_not_make_it_worse(tmp_path: Path, name: str, gap_s: float) -> None:
    driver, log = start(tmp_path, PROGRAMS[name])
    try:
        wait_for(lambda: driver.process.poll() is not None or log.read_text())
        began = time.monotonic()
        while driver.process.poll() is None:
            os.killpg(driver.process.pid, signal.SIGINT)
            signal.sigtimedwait([], gap_s)
            assert time.monotonic() - began < PROMPT_S
        driver.finish()
    finally:
        driver.close()

    driver.assert_nothing_left()


@pytest.mark.parametrize("name", ["pool_map", "pool_imap", "executor_result", "executor_map", "executor_end_of_block"])
@pytest.mark.parametrize("presses", [2, 3, 5])
def test_pressed_again_it_shows_no_more_of_our_stack(tmp_path: Path, name: str, presses: int) -> None:
    driver, log = start(tmp_path, PROGRAMS[name])
    try:
        wait_for(lambda: driver.process.poll() is not None or log.read_text())
        signal.sigtimedwait([], 0.1)
        for _ in range(presses):
            if driver.process.poll() is None:
                os.killpg(driver.process.pid, signal.SIGINT)
            signal.sigtimedwait([], 0.02)
        _, err = driver.finish()
    finally:
        driver.close()

    shown, _, _ = err.partition("Exception ignored in")  # by Python itself, which was about to end
    assert "During handling" not in shown, err
    assert shown.count("Traceback") <= 1, err
    assert len(re.findall(r'File ".*/scalepool/', shown)) <= OUR_FRAMES, err
    assert driver.process.returncode == -signal.SIGINT, err
    driver.assert_nothing_left()


def test_an_interrupt_while_a_program_that_has_ended_finishes_its_work(tmp_path: Path) -> None:
    driver, log = start(
        tmp_path, "executor = ProcessPoolExecutor(2)\nfutures = [executor.submit(slow, LOG) for _ in range(9)]\n"
    )
    try:
        assert interrupt(driver, log) < PROMPT_S
        _, err = driver.finish()
    finally:
        driver.close()

    assert err.count("KeyboardInterrupt") == 1, err
    assert len(err.splitlines()) < 12, err
    driver.assert_nothing_left()


CAUGHT = {
    "map": "pool.map(slow, [LOG] * 6)",
    "starmap": "pool.starmap(slow, [(LOG,)] * 6)",
    "apply": "pool.apply(slow, (LOG,))",
    "executor_map": "list(executor.map(slow, [LOG] * 6))",
    "joblib": "parallel(joblib.delayed(slow)(LOG) for _ in range(6))",
}


@pytest.mark.parametrize("call", CAUGHT)
def test_after_an_interrupt_that_is_caught_the_next_call_works(tmp_path: Path, call: str) -> None:
    program = f"""
import joblib, scalepool
pool, executor, parallel = Pool(2), ProcessPoolExecutor(2), joblib.Parallel(2, backend="scalepool")
for round in range(3):
    open(LOG, "w").close()
    print("ready", flush=True)
    try:
        {CAUGHT[call]}
    except KeyboardInterrupt:
        pass
    began = time.monotonic()
    pool.apply(abs, (-1,))
    print(time.monotonic() - began < {PROMPT_S}, flush=True)
os._exit(0)
"""
    driver, log = start(tmp_path, program)
    try:
        for _ in range(3):
            assert driver.read_line() == "ready"
            wait_for(lambda: driver.process.poll() is not None or len(log.read_text().split()) >= 1)
            os.killpg(driver.process.pid, signal.SIGINT)
            assert driver.read_line() == "True"
        out, err = driver.finish()
    finally:
        driver.close()

    assert (driver.process.returncode, out, err) == (0, "", "")
    driver.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_handlers_that_raise_tear_nothing(tmp_path: Path, number: int) -> None:
    """As of a time limit: it raises anywhere, thousands of times, and no task's end is lost."""
    program = f"""
import threading
class Stop(BaseException): pass  # an Exception while a call is being pickled would become that call's error
armed = False
def stop(number, frame):  # raises in the calls below, and nowhere else in this program
    global armed
    if armed:
        armed = False
        raise Stop
signal.signal({int(number)}, stop)
pool, executor = Pool(2), ProcessPoolExecutor(2)
assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
done = threading.Event()
def disturb():
    import random
    choose = random.Random(11)
    while not done.wait(choose.uniform(0.0005, 0.004)):
        os.kill(os.getpid(), {int(number)})
disturber = threading.Thread(target=disturb)
disturber.start()
def asynchronous():
    results.append(pool.map_async(abs, inputs))
    assert executor.submit(abs, -1).result() == 1
    assert pool.apply(abs, (-3,)) == 3
    assert results.pop().get(60) == outputs
def with_callback():
    results.append(pool.apply_async(list, (outputs,), callback=len))
    assert results.pop().get(60) == outputs
def ordered():
    assert list(pool.imap(abs, inputs, 3)) == outputs
def unordered():
    assert sorted(pool.imap_unordered(abs, inputs)) == outputs[::-1]
def mapped():
    assert list(executor.map(abs, inputs, chunksize=4)) == outputs
calls = [asynchronous, with_callback, ordered, unordered, mapped]
inputs, outputs = range(-20, 0), list(range(20, 0, -1))
stops, results, deadline = 0, [], time.monotonic() + 3.0
while time.monotonic() < deadline:
    try:
        armed = True
        calls[stops % len(calls)]()
        armed = False
    except Stop:
        stops += 1
done.set()
disturber.join()
assert stops > 20, stops
assert all(result.get(60) == outputs for result in results)
assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
assert executor.submit(abs, -1).result(60) == 1
executor.shutdown()
pool.close()
pool.join()
print("done")
"""
    driver, _ = start(tmp_path, program)
    try:
        out, err = driver.finish()
    finally:
        driver.close()

    # An exception in a finalizer or a callback is reported by the interpreter or the futures, whoever wrote it.
    assert (driver.process.returncode, out) == (0, "done\n"), err
    driver.assert_nothing_left()


def test_a_service_that_turns_sigterm_into_an_exit_ends_cleanly(tmp_path: Path) -> None:
    program = """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
with Pool(2) as pool:
    pool.map(slow, [LOG] * 40)
"""
    driver, log = start(tmp_path, program)
    try:
        assert interrupt(driver, log, signal.SIGTERM) < PROMPT_S
        assert driver.finish() == ("", "")
    finally:
        driver.close()

    assert driver.process.returncode == 143
    driver.assert_nothing_left()
