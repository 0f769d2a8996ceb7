"""Workloads that misbehave, each in one way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from scalepool.bench.model import Metric, Workload

if TYPE_CHECKING:
    from scalepool.bench.run import Run

LINGERER = "import time; time.sleep(600)"


def well(run: Run) -> None:
    with run.timed(run.sizes["tasks"]):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
    run.record(value=42.0)


def crash(run: Run) -> None:
    raise LookupError("nothing like that here")


def exit_silently(run: Run) -> None:
    os._exit(3)


def abort(run: Run) -> None:
    os.abort()


def hang(run: Run) -> None:
    subprocess.Popen([sys.executable, "-c", LINGERER], start_new_session=True)
    time.sleep(600)


def wrong(run: Run) -> None:
    run.expect([1, 2, 3], [1, 2, 4], "results")


def chatter(run: Run) -> None:
    """Print what looks like an answer, to everywhere."""
    for stream in (sys.stdout, sys.stderr):
        print('{"values": {"value": 7}}', file=stream, flush=True)
    subprocess.run([sys.executable, "-c", "print('garbage' * 100_000)"], check=True)
    run.record(value=1.0)


def litter(run: Run) -> None:
    """Leave two children, one of them in a session of its own."""
    subprocess.Popen([sys.executable, "-c", LINGERER])
    subprocess.Popen([sys.executable, "-c", LINGERER], start_new_session=True)
    run.record(value=1.0)


def remember(run: Run) -> None:
    """Take 64 MB for a while after the baseline."""
    run.mark_baseline(unit_bytes=1_000_000)
    taken = bytearray(64_000_000)
    with run.timed(1):
        time.sleep(0.5)
    del taken


def _workload(adapter: object) -> Workload:
    assert callable(adapter)
    sizes = {"tasks": 10}
    return Workload(adapter.__name__, "a fake", (Metric("value", "s"),), {"serial": adapter}, sizes, sizes)


WORKLOADS = {
    one.__name__: _workload(one) for one in (well, crash, exit_silently, abort, hang, wrong, chatter, litter, remember)
}
