"""What a worker does for its user between its last line of code and its end."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FULL = """
import multiprocessing, threading, time
from scalepool._proc.child import flush_queues
queue = multiprocessing.Queue()
queue.put(b"x" * 10_000_000)  # more than the pipe holds, and nobody reads
flush_queues(0.2)
print("went on", flush=True)
import os; os._exit(0)
"""


def put_and_flush(queue: multiprocessing.Queue[int]) -> None:
    from scalepool._proc.child import flush_queues

    for number in range(1000):
        queue.put(number)
    flush_queues(60)
    import os

    os._exit(0)  # as when nobody waits for the thread that feeds the queue


def test_what_was_put_is_there_afterwards() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=put_and_flush, args=(queue,))
    process.start()
    assert [queue.get(timeout=60) for _ in range(1000)] == list(range(1000))
    process.join(60)
    queue.close()


def test_a_reader_that_sleeps_is_not_waited_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout == "went on\n"
