"""joblib's behaviour on the backend "scalepool": registration, rules of n_jobs, results, errors, nesting."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import joblib
import joblib.parallel
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib._parallel_backends import SequentialBackend
from joblib.externals.loky.process_executor import TerminatedWorkerError as LokyTerminatedWorkerError

import scalepool
from scalepool import api
from scalepool.errors import SerializationError, WorkerDiedError
from scalepool.joblib_backend import MAX_NESTING, ScalepoolBackend, TerminatedWorkerError, register

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACKEND = "scalepool"
STATE = "unset"


def run_program(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.strip()


def set_state(value: str) -> None:
    global STATE
    STATE = value


def get_state(_: int) -> str:
    return STATE


def inverse(n: int) -> float:
    return 1 / n


def kill_own_process(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_and_return(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def note(path: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    os.close(os.open(path, os.O_CREAT))


def get_variable(name: str) -> str | None:
    return os.environ.get(name)


def backend_here() -> tuple[str, int, int]:
    backend, n_jobs = joblib.parallel.get_active_backend()
    return type(backend).__name__, backend.nesting_level, n_jobs


def count_leaves(depth: int) -> int:
    if depth == 0:
        return 1
    return sum(Parallel(n_jobs=2)(delayed(count_leaves)(depth - 1) for _ in range(2)))


# ---- registration ----


def test_importing_scalepool_registers_without_importing_joblib() -> None:
    printed = run_program(
        "import sys, scalepool\n"
        "assert 'joblib' not in sys.modules\n"
        "import joblib, inspect\n"
        "assert 'scalepool' in joblib.parallel.BACKENDS\n"
        "assert 'scalepool.joblib_backend' not in sys.modules\n"
        "assert not [f for f in sys.meta_path if type(f).__module__.startswith('scalepool')]\n"
        "assert 'register_parallel_backend' in inspect.getsource(joblib.parallel)\n"
        "print(type(joblib.parallel.__loader__).__name__, type(joblib.parallel.__spec__.loader).__name__)\n"
    )
    assert printed == "SourceFileLoader SourceFileLoader"


def test_it_registers_when_joblib_came_first() -> None:
    assert run_program("import joblib, scalepool; print('scalepool' in joblib.parallel.BACKENDS)") == "True"


def test_registering_again_changes_nothing() -> None:
    others = {name: made for name, made in joblib.parallel.BACKENDS.items() if name != BACKEND}
    finders = list(sys.meta_path)
    register()
    assert {name: made for name, made in joblib.parallel.BACKENDS.items() if name != BACKEND} == others
    assert sys.meta_path == finders
    assert scalepool.__version__


def test_joblibs_own_backends_are_untouched() -> None:
    unchanged = run_program(
        "import joblib.parallel, joblib.pool\n"
        "def picture(): return {n: (b, b.__mro__, sorted(vars(b))) for n, b in joblib.parallel.BACKENDS.items()"
        " if n != 'scalepool'}, joblib.pool.PicklingPool.__bases__, joblib.parallel.DEFAULT_BACKEND\n"
        "before = picture()\n"
        "import scalepool\n"
        "from scalepool.joblib_backend import ScalepoolBackend\n"
        "joblib.parallel.Parallel(n_jobs=2, backend='scalepool')([])\n"
        "print(picture() == before)\n"
    )
    assert unchanged == "True"


# ---- n_jobs ----


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, 1), (1, 1), (3, 3), (-1, api.cpu_count()), (-10_000, 1)])
def test_effective_n_jobs(n_jobs: int | None, expected: int) -> None:
    assert ScalepoolBackend(nesting_level=0).effective_n_jobs(n_jobs) == expected


def test_zero_jobs_have_no_meaning() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        Parallel(n_jobs=0, backend=BACKEND)([delayed(abs)(1)])


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_one_job_runs_here_with_its_side_effects(n_jobs: int | None) -> None:
    seen: list[int] = []
    with parallel_config(backend=BACKEND):
        parallel = Parallel(n_jobs=n_jobs)
        parallel(delayed(seen.append)(n) for n in range(3))
    assert seen == [0, 1, 2]
    assert isinstance(parallel._backend, SequentialBackend)


def test_sharedmem_goes_to_threads() -> None:
    seen: list[int] = []
    with parallel_config(backend=BACKEND, n_jobs=2):
        Parallel(require="sharedmem")(delayed(seen.append)(n) for n in range(3))
    assert sorted(seen) == [0, 1, 2]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="no_such"):
        Parallel(n_jobs=2, backend=BACKEND, no_such=1)([delayed(abs)(1)])
    with pytest.raises(TypeError, match="no_such"):
        parallel_config(backend=BACKEND, no_such=1)


# ---- results ----


@pytest.mark.live
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_all_results_arrive(return_as: str, batch_size: Any) -> None:
    found = Parallel(n_jobs=2, backend=BACKEND, return_as=return_as, batch_size=batch_size)(
        delayed(pow)(n, 2) for n in range(200)
    )
    results = list(found)
    assert (sorted(results) if return_as == "generator_unordered" else results) == [n**2 for n in range(200)]


@pytest.mark.live
def test_lambdas_and_closures_travel() -> None:
    offset = 3
    assert Parallel(n_jobs=2, backend=BACKEND)(delayed(lambda n: n + offset)(n) for n in range(4)) == [3, 4, 5, 6]


@pytest.mark.live
def test_unordered_results_come_as_they_are_ready() -> None:
    found = Parallel(n_jobs=2, backend=BACKEND, return_as="generator_unordered", batch_size=1)(
        delayed(sleep_and_return)(seconds) for seconds in (0.5, 0.0)
    )
    assert list(found) == [0.0, 0.5]


@pytest.mark.live
def test_inputs_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def inputs() -> Iterator[Any]:
        for n in range(1000):
            read.append(n)
            yield delayed(sleep_and_return)(0.001)

    found = Parallel(n_jobs=2, backend=BACKEND, return_as="generator", batch_size=1)(inputs())
    assert len(read) < 20  # pre_dispatch is 2 * n_jobs
    assert len(list(found)) == 1000


@pytest.mark.live
def test_verbose_output_is_joblibs(capsys: pytest.CaptureFixture[str]) -> None:
    Parallel(n_jobs=2, backend=BACKEND, verbose=10)(delayed(abs)(n) for n in range(10))
    shown = capsys.readouterr().err
    assert "[Parallel(n_jobs=2)]: Using backend ScalepoolBackend with 2 concurrent workers." in shown
    assert "[Parallel(n_jobs=2)]: Done  10 out of  10 | elapsed:" in shown


@pytest.mark.live
def test_workers_stay_warm_between_calls() -> None:
    scalepool.shutdown()  # with workers that other tests have left there are more than two to choose from
    pids = [set(Parallel(n_jobs=2, backend=BACKEND)(delayed(os.getpid)() for _ in range(20))) for _ in range(3)]
    assert len(set().union(*pids)) <= 2


@pytest.mark.live
def test_a_managed_parallel_runs_several_calls() -> None:
    with Parallel(n_jobs=2, backend=BACKEND) as parallel:
        assert parallel(delayed(abs)(-n) for n in range(10)) == list(range(10))
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(inverse)(n) for n in (1, 0))
        assert parallel(delayed(abs)(-n) for n in range(10)) == list(range(10))


# ---- errors ----


@pytest.mark.live
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_an_error_is_the_tasks_own(return_as: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(Parallel(n_jobs=2, backend=BACKEND, return_as=return_as)(delayed(inverse)(n) for n in (1, 0, 2)))
    assert "return 1 / n" in str(caught.value.__cause__)


@pytest.mark.live
def test_what_does_not_pickle_is_named() -> None:
    with pytest.raises(pickle.PicklingError, match="the task to send") as caught:
        Parallel(n_jobs=2, backend=BACKEND)(delayed(abs)({"key": threading.Lock()}) for _ in range(4))
    assert isinstance(caught.value, SerializationError)
    assert "key" in caught.value.path


@pytest.mark.live
def test_a_dead_worker_is_reported_in_joblibs_words() -> None:
    with pytest.raises(TerminatedWorkerError) as caught:
        Parallel(n_jobs=2, backend=BACKEND)(delayed(kill_own_process)(n) for n in range(2))
    for kind in (LokyTerminatedWorkerError, BrokenProcessPool, WorkerDiedError):
        assert isinstance(caught.value, kind)
    assert Parallel(n_jobs=2, backend=BACKEND)(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


@pytest.mark.live
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_a_timeout_is_multiprocessings_and_stops_the_task(return_as: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(multiprocessing.TimeoutError):
        list(
            Parallel(n_jobs=2, backend=BACKEND, return_as=return_as, timeout=0.1)(
                delayed(note)(str(tmp_path / "ended"), seconds) for seconds in (100, 100)
            )
        )
    assert time.monotonic() - begun < 50
    assert not (tmp_path / "ended").exists()


@pytest.mark.live
def test_an_error_stops_the_rest(tmp_path: Path) -> None:
    tasks = [delayed(inverse)(0), *(delayed(note)(str(tmp_path / str(n)), 100.0) for n in range(50))]
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=2, backend=BACKEND, batch_size=1)(tasks)
    assert time.monotonic() - begun < 50
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_closing_a_generator_stops_the_rest(tmp_path: Path) -> None:
    tasks = [delayed(note)(str(tmp_path / str(n)), 0.0 if n == 0 else 100.0) for n in range(50)]
    begun = time.monotonic()
    found = Parallel(n_jobs=2, backend=BACKEND, batch_size=1, return_as="generator")(tasks)
    next(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib warns of unused results
        found.close()
    assert time.monotonic() - begun < 50
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.live
def test_an_error_of_the_inputs_is_raised() -> None:
    def inputs() -> Iterator[Any]:
        for n in range(50):
            yield delayed(abs)(n)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        Parallel(n_jobs=2, backend=BACKEND)(inputs())


# ---- nesting ----


@pytest.mark.live
def test_nested_calls_do_not_deadlock() -> None:
    with parallel_config(backend=BACKEND, n_jobs=2):
        assert count_leaves(3) == 8


@pytest.mark.live
def test_nested_calls_get_our_backend_one_level_down() -> None:
    found = Parallel(n_jobs=2, backend=BACKEND)(delayed(backend_here)() for _ in range(2))
    assert found == [("ScalepoolBackend", 1, None)] * 2


def test_nesting_ends() -> None:
    backend, n_jobs = ScalepoolBackend(nesting_level=MAX_NESTING).get_nested_backend()
    assert isinstance(backend, SequentialBackend)
    assert (backend.nesting_level, n_jobs) == (MAX_NESTING + 1, None)


def test_a_backend_travels_without_its_call() -> None:
    backend = ScalepoolBackend(nesting_level=2, inner_max_num_threads=3, initializer=set_state, initargs=("x",))
    backend.parallel = threading.Lock()
    copy = pickle.loads(pickle.dumps(backend))
    assert (copy.nesting_level, copy.inner_max_num_threads) == (2, 3)


# ---- workers ----


@pytest.mark.live
def test_an_initializer_is_run_and_its_workers_are_kept() -> None:
    def call() -> list[str]:
        options: dict[str, Any] = {"initializer": set_state, "initargs": ("set",)}
        return list(Parallel(n_jobs=2, backend=BACKEND, **options)(delayed(get_state)(n) for n in range(10)))

    assert set(call()) == {"set"}
    with parallel_config(backend=BACKEND, n_jobs=2, initializer=set_state, initargs=("other",)):
        assert set(Parallel()(delayed(get_state)(n) for n in range(10))) == {"other"}
    assert Parallel(n_jobs=2, backend=BACKEND)(delayed(get_state)(n) for n in range(2)) == ["unset"] * 2


@pytest.mark.live
def test_inner_max_num_threads_reaches_the_workers() -> None:
    with parallel_config(backend=BACKEND, n_jobs=2, inner_max_num_threads=3):
        found = Parallel()(delayed(get_variable)("OPENBLAS_NUM_THREADS") for _ in range(4))
    assert found == ["3"] * 4


@pytest.mark.live
def test_a_call_works_after_the_session_was_shut_down() -> None:
    with parallel_config(backend=BACKEND, n_jobs=2, initializer=set_state, initargs=("again",)):
        assert Parallel()(delayed(get_state)(n) for n in range(2)) == ["again"] * 2
        scalepool.shutdown()
        assert Parallel()(delayed(get_state)(n) for n in range(2)) == ["again"] * 2
