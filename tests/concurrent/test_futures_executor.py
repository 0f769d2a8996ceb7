"""submit(), errors, validation and the end of a ProcessPoolExecutor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import TYPE_CHECKING, Any

import pytest

from scalepool.concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed, wait
from scalepool.errors import InitializerError, SerializationError, TaskCancelledError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scalepool.concurrent.futures.process import ProcessPoolExecutor as Executor

pytestmark = pytest.mark.live

STATE = "unset"


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with ProcessPoolExecutor(2) as made:
        yield made


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def set_state(value: str) -> None:
    global STATE
    STATE = value


def get_state() -> str:
    return STATE


def fail_to_start() -> None:
    raise LookupError("no such model")


def kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start_then_wait(started: str, go_on: str) -> int:
    """Tell that it runs, and run until told to end."""
    os.close(os.open(started, os.O_CREAT | os.O_WRONLY))
    wait_for_file(go_on)
    return 42


def wait_for_file(path: str) -> None:
    deadline = time.monotonic() + 30
    while not os.path.exists(path):  # noqa: PTH110 - as cheap as can be
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.002)


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.both = (one, two)


def raise_two() -> None:
    raise TwoArguments(1, 2)


class NoPickling:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not this one")


# ---- submit ----


def test_arguments_of_any_name_arrive(executor: Executor) -> None:
    assert executor.submit(capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})


def test_the_function_is_positional_only(executor: Executor) -> None:
    with pytest.raises(TypeError):
        executor.submit(fn=capture)  # type: ignore[call-arg]


def test_futures_are_the_standard_librarys(executor: Executor) -> None:
    futures = [executor.submit(pow, 2, n) for n in range(5)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    assert {future.result() for future in as_completed(futures, timeout=30)} == {1, 2, 4, 8, 16}
    assert wait(futures).not_done == set()


def test_asyncio_understands_it(executor: Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(pow, 2, 3))
        return [await loop.run_in_executor(executor, pow, 2, 2), await wrapped]

    assert asyncio.run(main()) == [4, 8]


def test_lambdas_and_closures_travel(executor: Executor) -> None:
    offset = 5
    assert executor.submit(lambda n: n + offset, 1).result() == 6


def test_an_executor_inside_a_task_works(executor: Executor) -> None:
    def outer() -> list[int]:
        with ProcessPoolExecutor(2) as inner:
            return [*inner.map(abs, [-1, -2]), inner.submit(abs, -3).result()]

    assert [future.result(30) for future in [executor.submit(outer) for _ in range(4)]] == [[1, 2, 3]] * 4


# ---- errors ----


def test_an_exception_keeps_its_class_and_shows_the_workers_traceback(executor: Executor) -> None:
    error = executor.submit(raise_two).exception()
    assert isinstance(error, TwoArguments)
    assert error.both == (1, 2)
    assert type(error.__cause__) is _RemoteTraceback
    assert "raise TwoArguments(1, 2)" in str(error.__cause__)


def test_system_exit_is_the_calls_error(executor: Executor) -> None:
    assert isinstance(executor.submit(sys.exit, 3).exception(), SystemExit)


def test_what_does_not_pickle_fails_on_its_own_future_and_is_named(executor: Executor) -> None:
    bad, good = executor.submit(capture, {"key": threading.Lock()}), executor.submit(abs, -1)
    error = bad.exception()
    assert isinstance(error, TypeError)
    assert isinstance(error, SerializationError)
    assert "key" in error.path
    assert good.result() == 1


def test_what_pickling_raised_is_caught_by_its_own_class(executor: Executor) -> None:
    error = executor.submit(capture, [NoPickling()]).exception()
    assert isinstance(error, pickle.PicklingError)
    assert isinstance(error.__cause__, SerializationError)


def test_a_dead_worker_costs_its_own_call_only(executor: Executor) -> None:
    others = [executor.submit(abs, -n) for n in range(50)]
    error = executor.submit(kill_own_process).exception(30)
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, WorkerDiedError)
    assert error.signal_name == "SIGKILL"
    assert [future.result(30) for future in others] == list(range(50))
    assert executor.submit(abs, -7).result(30) == 7
    assert isinstance(pickle.loads(pickle.dumps(error)), BrokenProcessPool)


def test_a_failing_initializer_breaks_the_executor() -> None:
    executor = ProcessPoolExecutor(2, initializer=fail_to_start)
    error = executor.submit(get_state).exception(30)
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, InitializerError)
    assert isinstance(error.__cause__, LookupError)
    with pytest.raises(BrokenProcessPool, match="no such model"):
        executor.submit(get_state)
    assert executor._broken
    executor.shutdown()


def test_initializer_and_tasks_share_globals() -> None:
    with ProcessPoolExecutor(2, initializer=set_state, initargs=("set",)) as executor:
        assert {future.result() for future in [executor.submit(get_state) for _ in range(10)]} == {"set"}


def test_max_tasks_per_child_replaces_workers() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


# ---- validation ----


@pytest.mark.parametrize("number", [0, -1])
def test_max_workers_is_checked(number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ProcessPoolExecutor(number)


def test_the_initializer_is_checked() -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ProcessPoolExecutor(1, initializer=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "error"), [(1.5, TypeError), ("1", TypeError), (0, ValueError), (-1, ValueError)])
def test_max_tasks_per_child_is_checked(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_tasks_per_child must be"):
        ProcessPoolExecutor(1, max_tasks_per_child=value)


def test_recycling_refuses_a_fork_context() -> None:
    fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        ProcessPoolExecutor(1, mp_context=fork, max_tasks_per_child=1)
    assert ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1)._mp_context is spawn
    assert ProcessPoolExecutor(1, max_tasks_per_child=1)._mp_context.get_start_method() == "spawn"


def test_private_names_that_programs_read(executor: Executor) -> None:
    assert executor._max_workers == 2
    pid = executor.submit(os.getpid).result()
    processes = executor._processes
    assert processes[pid].pid == pid
    assert processes[pid].is_alive()
    assert processes[pid].exitcode is None


# ---- cancelling and the end ----


def test_a_running_call_cannot_be_cancelled_and_a_waiting_one_can(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as executor:
        running = executor.submit(start_then_wait, str(tmp_path / "started"), str(tmp_path / "go"))
        waiting = [executor.submit(abs, -1) for _ in range(10)]
        wait_for_file(str(tmp_path / "started"))
        assert running.running()
        assert not running.cancel()
        assert all(future.cancel() for future in waiting)
        (tmp_path / "go").touch()
        assert running.result(30) == 42
    assert all(future.cancelled() for future in waiting)


def test_shutdown_finishes_what_was_handed_over() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(50)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(abs, [1])
    executor.shutdown()  # again, as the standard library allows


def test_shutdown_without_waiting_lets_work_finish() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(50)]
    executor.shutdown(wait=False)
    assert [future.result(30) for future in futures] == list(range(50))


def test_shutdown_can_cancel(tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(1)
    running = executor.submit(start_then_wait, str(tmp_path / "started"), str(tmp_path / "go"))
    waiting = [executor.submit(abs, -1) for _ in range(20)]
    wait_for_file(str(tmp_path / "started"))
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(CancelledError):
        waiting[0].result()
    (tmp_path / "go").touch()
    assert running.result(30) == 42


@pytest.mark.parametrize("method", ["kill_workers", "terminate_workers"])
def test_stopping_the_workers_ends_everything_at_once(method: str, tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(1)
    running = executor.submit(start_then_wait, str(tmp_path / "started"), str(tmp_path / "never"))
    waiting = [executor.submit(abs, -1) for _ in range(5)]
    wait_for_file(str(tmp_path / "started"))
    getattr(executor, method)()
    assert isinstance(running.exception(10), TaskCancelledError)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_a_collected_executor_finishes_its_work() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(20)]
    results = executor.map(abs, range(20))
    del executor
    gc.collect()
    assert [future.result(30) for future in futures] == list(range(20))
    assert list(results) == list(range(20))


# ---- the end of the program ----


def run_program(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_end_of_the_program_waits_for_pending_work() -> None:
    ended = run_program(
        "from scalepool.concurrent.futures import ProcessPoolExecutor\n"
        "def say(word):\n    import time; time.sleep(0.1); print(word, flush=True)\n"
        "e = ProcessPoolExecutor(2)\n"
        "e.submit(say, 'submitted')\n"
        "e.map(say, iter(['mapped', 'too']))\n"
    )
    assert sorted(ended.stdout.split()) == ["mapped", "submitted", "too"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_end_of_the_program_does_not_read_on_an_endless_input() -> None:
    ended = run_program(
        "import itertools\n"
        "from scalepool.concurrent.futures import ProcessPoolExecutor\n"
        "results = ProcessPoolExecutor(2).map(abs, itertools.count())\n"
        "print(next(results), next(results))\n"
    )
    assert (ended.stdout.split(), ended.returncode, ended.stderr) == (["0", "1"], 0, "")


def test_nothing_is_taken_once_the_interpreter_ends() -> None:
    ended = run_program(
        "import atexit\n"
        "from scalepool.concurrent.futures import ProcessPoolExecutor\n"
        "def late():\n"
        "    try: e.submit(id, None)\n"
        "    except RuntimeError as error: print(error)\n"
        "atexit.register(late)\n"
        "e = ProcessPoolExecutor(2)\n"
        "e.submit(id, 1).result()\n"
    )
    assert ended.stdout.strip() == "cannot schedule new futures after interpreter shutdown"
    assert ended.stderr == ""
