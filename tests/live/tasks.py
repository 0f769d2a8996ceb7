"""Functions for the live tests; a module of its own, so that workers import it by name."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from live.helpers import wait_for, write_line
from scalepool.api import WorkerGroup, current_task

state: dict[str, Any] = {}


def square(value: int) -> int:
    return value * value


def pid(_: object = None) -> int:
    return os.getpid()


def log(ledger: str, number: int) -> int:
    write_line(ledger, number)
    return number


def log_and_die(ledger: str, number: int, manner: str) -> None:
    write_line(ledger, number)
    die(manner)


def die(manner: str) -> None:
    if manner == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif manner == "segfault":
        ctypes.string_at(0)
    elif manner == "abort":
        os.abort()
    elif manner == "exit":
        os._exit(3)
    elif manner == "out of memory":
        # What the kernel does to the process it chooses; there is not always a limit that it would enforce here.
        os.kill(os.getpid(), signal.SIGKILL)
    elif manner == "sys.exit":
        sys.exit(4)
    raise AssertionError("still alive")


def wait_for_file(path: str, result: Any = None) -> Any:
    while not Path(path).exists():
        time.sleep(0.002)
    return result


def touch_and_wait(touched: str, awaited: str) -> None:
    write_line(touched, os.getpid())
    wait_for_file(awaited)


def remember(value: Any) -> None:
    state["value"] = value


def recall(_: object = None) -> Any:
    return state.get("value")


def refuse(ledger: str) -> None:
    write_line(ledger, os.getpid())
    raise LookupError("no model here")


def nest(depth: int, width: int) -> int:
    """Count the leaves of a tree of groups inside groups."""
    if not depth:
        return 1
    group = WorkerGroup(width)
    futures = [group.submit(nest, (depth - 1, width)) for _ in range(width)]
    total = sum(future.result() for future in futures)
    group.close()
    assert group.join(60.0)
    return total


def depth_of(levels: int) -> list[int]:
    task = current_task()
    assert task is not None
    if not levels:
        return [task.depth]
    return [task.depth, *WorkerGroup(1).submit(depth_of, (levels - 1,)).result()]


def child_process(seconds: int = 600) -> int:
    return subprocess.Popen(["sleep", str(seconds)], stdin=subprocess.DEVNULL).pid


def fail(text: str) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError(text) from error


def raise_it(error: BaseException) -> None:
    raise error


def get_stuck(manner: str, touched: str = "") -> None:
    if manner == "ignore SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if touched:
        write_line(touched, os.getpid())
    if manner == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while manner != "spin":
        time.sleep(600)
    while True:
        pass


def tidy_up_on_sigterm(touched: str, tidied: str) -> None:
    def tidy_up(number: int, frame: object) -> None:
        write_line(tidied, "tidy")
        os._exit(0)

    signal.signal(signal.SIGTERM, tidy_up)
    write_line(touched, os.getpid())
    time.sleep(600)


def log_and_hang(ledger: str) -> None:
    write_line(ledger, os.getpid())
    time.sleep(600)


def log_or_die(ledger: str, number: int, culprit: int, manner: str) -> int:
    write_line(ledger, number)
    if number == culprit:
        die(manner)
    return number


def log_or_die_of(item: tuple[str, int, int, str]) -> int:
    return log_or_die(*item)


def die_the_first_times(path: str, times: int) -> int:
    """Return how often it was called for this path; kill the process the first times."""
    write_line(path, "called")
    called = len(Path(path).read_text().split())
    if called <= times:
        die("kill")
    return called


def sleep_or_return(number: int) -> int:
    if number == 13:
        time.sleep(600)
    return number


def inner_pool_with_a_death(limit_s: float | None) -> list[Any]:
    from scalepool.multiprocessing import Pool

    with Pool(2) as pool:
        results = pool.map(die_at_zero, range(20), chunksize=5, on_error="return", task_timeout=limit_s)
    return [type(result).__name__ if isinstance(result, Exception) else result for result in results]


def die_at_zero(number: int) -> int:
    if number == 0:
        die("kill")
    return number * number


def say_and_die(manner: Any, big: bytes = b"") -> None:
    print("the last words", file=sys.stderr)
    die(manner)


class LoadsOnlyInWorkers:
    """Kills the process that unpickles it, unless that is the one with this number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> Any:
        return load_or_die, (self.pid,)


def load_or_die(pid: int) -> str:
    os.abort()


def log_and_stop(ledger: str, number: int, culprit: int) -> int:
    """Stop this process, as a debugger would, at one of the numbers."""
    write_line(ledger, number)
    if number == culprit:
        write_line(ledger + ".stopped", os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def log_and_stop_packed(item: tuple[str, int, int]) -> int:
    return log_and_stop(*item)


def who_stopped(ledger: str) -> int:
    return int(wait_for(lambda: Path(ledger + ".stopped").exists() and Path(ledger + ".stopped").read_text()))


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def hold_the_interpreter_until(fifo: str) -> None:
    """Wait in C code that lets no other Python thread run until somebody writes into the FIFO."""
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    writer = os.open(fifo, os.O_WRONLY)  # or there would be nobody who could write, and read() would return at once
    ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)
    os.close(writer)
    os.close(fd)


def filled(size_bytes: int, value: int) -> bytearray:
    return bytearray([value]) * size_bytes


def two_filled_by(size_bytes: int) -> tuple[bytearray, list[int]]:
    return filled(size_bytes, 7), [os.getpid()]


def total(data: bytearray) -> int:
    return sum(data)
