"""Tasks that need each other's results, and references to many of them."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import psutil

from scalepool.bench.model import Metric, Target, Workload, on
from scalepool.bench.tasks import add, add_one, fibonacci_dask, fibonacci_own, fibonacci_ray, nap, total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scalepool.bench.run import Run

__all__ = ["WORKLOADS", "open_engine"]

_SETTLE_S = 2.0
_SAME = 1.25


class _Engine:
    """A library with remote functions; as it stands here, one whose calls are named as Ray's are.

    Parameters
    ----------
    library
        What has ``remote``, ``get`` and ``put``.
    close
        Ends everything.
    fibonacci
        The recursive function that ``nested-fibonacci`` calls with it.
    """

    def __init__(self, library: Any, close: Callable[[], object], fibonacci: Callable[[int], int]) -> None:
        self._library = library
        self.close = close
        self.fibonacci = fibonacci

    def remote(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return what submits a call of ``fn``: handles among the arguments stand for what they will be."""
        submit: Callable[..., Any] = self._library.remote(fn).remote
        return submit

    def engage(self, cls: type[Any]) -> Any:
        """Start an actor."""
        return self._library.remote(cls).remote()

    def get(self, handles: Any) -> Any:
        """Return what a handle stands for, or several."""
        return self._library.get(handles)

    def put(self, value: Any) -> Any:
        """Keep a value; return a handle."""
        return self._library.put(value)

    def warm_up(self, workers: int) -> None:
        """Have every worker start, and run something."""
        nap_remote = self.remote(nap)
        self.get([nap_remote(0.01) for _ in range(4 * workers)])


class _Dask(_Engine):
    """``Client.submit``; the library is the client."""

    def remote(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        client = self._library
        return lambda *args: client.submit(fn, *args, pure=False)

    def get(self, handles: Any) -> Any:
        return self._library.gather(handles)

    def put(self, value: Any) -> Any:
        return self._library.scatter(value, hash=False)


def _own(workers: int) -> _Engine:
    from scalepool import api, tasks

    api.init(num_cpus=workers)
    return _Engine(tasks, api.shutdown, fibonacci_own)


def _ray(workers: int) -> _Engine:
    import ray

    from scalepool.bench.drivers.ray_driver import start

    start(workers)
    return _Engine(ray, ray.shutdown, fibonacci_ray)


def _dask(workers: int) -> _Engine:
    from scalepool.bench.drivers.dask_driver import DaskDriver

    driver = DaskDriver(workers)
    return _Dask(driver.client, driver.close, fibonacci_dask)


_ENGINES: dict[str, Callable[[int], _Engine]] = {"scalepool": _own, "ray": _ray, "dask": _dask}


def open_engine(run: Run) -> _Engine:
    """Start what the candidate's name says, and have its workers warm."""
    engine = _ENGINES[run.candidate](run.workers)
    engine.warm_up(run.workers)
    return engine


def _repeated(run: Run, tasks: int, once: Callable[[_Engine], tuple[Any, Any]]) -> None:
    """Run a graph a few times; its best time counts, as what else the machine does only ever adds."""
    engine = open_engine(run)
    best = float("inf")
    for _ in range(run.sizes["rounds"]):
        with run.timed(tasks) as section:
            result, expected = once(engine)
        run.expect(result, expected, "result")
        best = min(best, section.wall_s)
    engine.close()
    run.record(per_task=best / tasks * 1e6)


def _chain(run: Run) -> None:
    length = run.sizes["tasks"]

    def once(engine: _Engine) -> tuple[Any, Any]:
        step = engine.remote(add_one)
        value = step(0)
        for _ in range(length - 1):
            value = step(value)
        return engine.get(value), length

    _repeated(run, length, once)


def _tree(run: Run) -> None:
    leaves = run.sizes["tasks"]

    def once(engine: _Engine) -> tuple[Any, Any]:
        leaf, join = engine.remote(add_one), engine.remote(add)
        level: Sequence[Any] = [leaf(number) for number in range(leaves)]
        while len(level) > 1:
            odd = level[len(level) & ~1 :]
            level = [*(join(*pair) for pair in zip(level[::2], level[1::2], strict=False)), *odd]
        return engine.get(level[0]), leaves * (leaves + 1) // 2

    _repeated(run, 2 * leaves - 1, once)


def _fan(run: Run) -> None:
    width = run.sizes["tasks"]

    def once(engine: _Engine) -> tuple[Any, Any]:
        start, step, join = engine.remote(add_one), engine.remote(add), engine.remote(total)
        first = start(0)
        return engine.get(join(*(step(first, number) for number in range(width)))), width * (width + 1) // 2

    _repeated(run, width + 2, once)


def _references(run: Run) -> None:
    """Submit and forget many tasks, twice; what the first time has left behind is there the second time, too."""
    many = run.sizes["tasks"]
    engine = open_engine(run)
    step = engine.remote(add_one)
    me = psutil.Process()
    gc.collect()
    before = me.memory_info().rss
    held = [step(number) for number in range(many)]
    last = engine.get(held[-1])
    run.expect(last, many, "last result")
    grown = me.memory_info().rss - before
    del held
    left = _settled(me, before)
    with run.timed(many) as section:
        held = [step(number) for number in range(many)]
        engine.get(held[-1])
    again = me.memory_info().rss - before
    del held
    engine.close()
    run.record(bytes=grown / many, flat=again / max(grown, 1), left=left / many, us=section.wall_s / many * 1e6)


def _settled(me: psutil.Process, before: int) -> int:
    """Return how much memory there is above what was before, some time after everything was let go."""
    gc.collect()
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and me.memory_info().rss - before > 1 << 20:
        time.sleep(0.05)
    return max(0, int(me.memory_info().rss) - before)


def _fibonacci(run: Run) -> None:
    engine = open_engine(run)
    submit = engine.remote(engine.fibonacci)
    number = run.sizes["number"]
    expected, calls = _fibonacci_of(number)
    best = float("inf")
    for _ in range(run.sizes["rounds"]):
        with run.timed(calls) as section:
            result = engine.get(submit(number))
        run.expect(result, expected, "result")
        best = min(best, section.wall_s)
    processes = sum(_is_worker(child) for child in psutil.Process().children(recursive=True))
    engine.close()
    run.record(ms=best * 1e3, processes=processes / run.workers)


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process has no children of its own: what starts workers (a zygote, a nanny, a daemon) has."""
    try:
        return not process.children()
    except psutil.Error:
        return False


def _fibonacci_of(number: int) -> tuple[int, int]:
    values, calls = [0, 1], [1, 1]
    for _ in range(number):
        values.append(values[-1] + values[-2])
        calls.append(calls[-1] + calls[-2] + 1)
    return values[number], calls[number]


_PER_TASK = (Metric("per_task", "us", "lower", "from the first submission to the result, per task"),)
_ALL = ("scalepool", "ray", "dask")

WORKLOADS = (
    Workload(
        name="chain",
        what="a chain of no-op tasks, each of which needs the result of the one before",
        metrics=_PER_TASK,
        adapters=on(_ALL, _chain),
        full={"tasks": 1000, "rounds": 5},
        quick={"tasks": 1000, "rounds": 3},
        fewer={"ray": 5, "dask": 5},
        targets=(Target("per_task", 50.0), Target("per_task", 0.04, against=("ray",))),
    ),
    Workload(
        name="tree-reduce",
        what="leaves that are added up in pairs, and the sums again, down to one",
        metrics=_PER_TASK,
        adapters=on(_ALL, _tree),
        full={"tasks": 1024, "rounds": 5},
        quick={"tasks": 1024, "rounds": 3},
        fewer={"ray": 4, "dask": 4},
        targets=(Target("per_task", 20.0), Target("per_task", 0.04, against=("ray",))),
    ),
    Workload(
        name="fan-out-in",
        what="one task, many that need its result, and one that needs all of theirs",
        metrics=_PER_TASK,
        adapters=on(_ALL, _fan),
        full={"tasks": 1000, "rounds": 5},
        quick={"tasks": 1000, "rounds": 3},
        fewer={"ray": 4, "dask": 4},
        targets=(Target("per_task", 15.0),),
    ),
    Workload(
        name="references",
        what="references to the results of very many tasks, held, let go, and held again",
        metrics=(
            Metric("bytes", "B/ref", "lower", "memory of the caller's process while they are held"),
            Metric("flat", "", "lower", "the same the second time / the first time"),
            Metric("left", "B/ref", "lower", "memory that stays when they are let go"),
            Metric("us", "us/task", "lower", "submitting, and waiting for the last"),
        ),
        adapters=on(_ALL, _references),
        full={"tasks": 1_000_000},
        quick={"tasks": 100_000},
        fewer={"ray": 20, "dask": 50},
        targets=(Target("bytes", 1000.0), Target("flat", _SAME)),
    ),
    Workload(
        name="nested-fibonacci",
        what="tasks that submit two tasks each and wait for them",
        metrics=(
            Metric("ms", "ms", "lower", "the whole of it"),
            Metric("processes", "", "lower", "worker processes at the end / workers asked for"),
        ),
        adapters=on(("scalepool", "dask"), _fibonacci),
        full={"number": 12, "rounds": 5},
        quick={"number": 8, "rounds": 3},
        targets=(Target("processes", 2.0),),
    ),
)
