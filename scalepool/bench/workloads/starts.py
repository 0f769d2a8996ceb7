"""What it costs to have a pool at all: imports, the first result, memory, many workers."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scalepool.bench.candidates import has_module
from scalepool.bench.drivers import load
from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.scripts import FIRST_RESULT, IMPORTS, first_result_script
from scalepool.bench.tasks import meet, nap
from scalepool.bench.tree import MemoryMeter

if TYPE_CHECKING:
    from scalepool.bench.model import Adapter
    from scalepool.bench.run import Run

__all__ = ["WORKLOADS"]

_NAP_S = 0.002
_SETTLE_S = 0.5
"""How long an idle pool is left alone before its memory is read."""
_POOLS = ("scalepool", "multiprocessing.Pool", "ProcessPoolExecutor", "loky", "mpire", "dask", "ray")


def _import(run: Run) -> None:
    statement = IMPORTS[run.candidate]
    if run.candidate == "loky" and not has_module("loky"):
        statement = statement.replace("from loky", "from joblib.externals.loky")
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    taken_s = []
    with run.timed(run.sizes["tasks"], memory=False):
        for _ in range(run.sizes["tasks"]):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            taken_s.append(float(done.stdout))
    run.record(import_ms=statistics.median(taken_s) * 1e3)


def _first_result(top: str = "", body: str = "pass") -> Adapter:
    def adapter(run: Run) -> None:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "script.py")
            script.write_text(first_result_script(run.candidate, run.workers, top=top, body=body), encoding="utf-8")
            starts_s = []
            with run.timed(run.sizes["tasks"], memory=False):
                for _ in range(run.sizes["tasks"]):
                    begin = time.monotonic()
                    starts_s.append(_moment_of_first_result(run, script) - begin)
        run.record(start=statistics.median(starts_s))

    return adapter


def _moment_of_first_result(run: Run, script: Path) -> float:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("first result ")]
    if len(lines) != 1:
        raise RuntimeError((done.stderr.strip() or "the script printed no result").splitlines()[-1])
    run.expect(lines[0][3], "2", "result")
    return float(lines[0][2])


def _idle_memory(run: Run) -> None:
    for name in ("few", "many"):
        command = [sys.executable, "-m", "scalepool.bench.idle", run.candidate, str(run.sizes[name])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            meter = MemoryMeter(process.pid)
            if not any(line.strip() == "ready" for line in process.stdout):
                raise RuntimeError("the pool did not start")
            time.sleep(_SETTLE_S)
            run.memory_bytes = meter.read_bytes()
            run.record(**{name: run.memory_bytes / 1e6})
            process.stdin.close()


def _many_workers(run: Run) -> None:
    workers, sleeps = run.sizes["workers"], run.sizes["tasks"]
    kind = load(run.candidate)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with kind(workers) as driver:
            pids = driver.each(meet, [(folder, workers)] * workers)
            start_s = time.perf_counter() - begin
            run.expect(len(set(pids)), workers, "number of workers that were there at once")
            with run.timed(sleeps) as section:
                results = driver.singles(nap, [_NAP_S] * sleeps)
            run.expect(results, [_NAP_S] * sleeps, "results")
    run.record(start=start_s, sleeps=section.wall_s / (sleeps * _NAP_S / workers))


def _start(name: str, what: str, adapter: Adapter, target: Target, needs: tuple[str, ...] = ()) -> Workload:
    return Workload(
        name=name,
        what=what,
        metrics=(Metric("start", "s", "lower"),),
        adapters=on(tuple(FIRST_RESULT), adapter),
        full={"tasks": 3},
        quick={"tasks": 1},
        fewer={"ray": 3, "dask": 3},
        targets=(target,),
        needs=needs,
    )


_VERSUS_POOL = Target("start", 1.2, against=("multiprocessing.Pool",))
_USE_NUMPY = "assert numpy.arange(3).sum() == 3"

WORKLOADS = (
    Workload(
        name="import",
        what="importing what a program needs to have a pool",
        metrics=(Metric("import_ms", "ms", "lower"),),
        adapters=on(tuple(IMPORTS), _import),
        full={"tasks": 5},
        quick={"tasks": 3},
        fewer={"ray": 3, "dask": 3},
        targets=(Target("import_ms", 150.0),),
    ),
    _start("cold-start", "start of the interpreter to the first result", _first_result(), Target("start", 0.09)),
    _start(
        "cold-start-numpy",
        "the same with a task that imports numpy and uses it",
        _first_result(body="import numpy; " + _USE_NUMPY),
        _VERSUS_POOL,
        ("numpy",),
    ),
    _start(
        "cold-start-numpy-program",
        "the same with numpy imported at the program's top",
        _first_result(top="import numpy", body=_USE_NUMPY),
        _VERSUS_POOL,
        ("numpy",),
    ),
    Workload(
        name="idle-memory",
        what="memory of all processes of a program whose pool is idle",
        metrics=(
            Metric("few", "MB", "lower", "2 workers"),
            Metric("many", "MB", "lower", "32 workers"),
        ),
        adapters=on(_POOLS, _idle_memory),
        full={"few": 2, "many": 32},
        quick={"few": 2, "many": 32},
        targets=(Target("few", 35.0), Target("many", 150.0)),
    ),
    Workload(
        name="many-workers",
        what=f"32 workers, whatever the number of cores ({os.cpu_count()} here)",
        metrics=(
            Metric("start", "s", "lower", "until all 32 have met"),
            Metric("sleeps", "", "lower", "sleeps of 2 ms: time taken / ideal time"),
        ),
        adapters=on(_POOLS, _many_workers),
        full={"workers": 32, "tasks": 3200},
        quick={"workers": 32, "tasks": 1600},
        targets=(Target("start", 0.3), Target("sleeps", 1.2)),
    ),
)
