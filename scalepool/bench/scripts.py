"""Little programs as users write them, for what is measured from the outside: start and import."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIRST_RESULT", "IMPORTS", "first_result_script"]


@dataclass(frozen=True, slots=True)
class _Idiom:
    """How one library makes a single call: what to import, what to open, what to call."""

    imports: str
    open: str
    call: str


_EXECUTOR_CALL = "pool.submit(task, 1).result()"

FIRST_RESULT: Final[Mapping[str, _Idiom]] = {
    "scalepool": _Idiom("from scalepool.multiprocessing import Pool", "Pool({workers})", "pool.apply(task, (1,))"),
    "scalepool.Executor": _Idiom(
        "from scalepool.concurrent.futures import ProcessPoolExecutor", "ProcessPoolExecutor({workers})", _EXECUTOR_CALL
    ),
    "multiprocessing.Pool": _Idiom("from multiprocessing import Pool", "Pool({workers})", "pool.apply(task, (1,))"),
    "ProcessPoolExecutor": _Idiom(
        "from concurrent.futures import ProcessPoolExecutor", "ProcessPoolExecutor({workers})", _EXECUTOR_CALL
    ),
    "loky": _Idiom(
        "try:\n    from loky import get_reusable_executor\n"
        "except ImportError:\n    from joblib.externals.loky import get_reusable_executor",
        "get_reusable_executor({workers})",
        _EXECUTOR_CALL,
    ),
    "joblib": _Idiom(
        "from joblib import Parallel, delayed",
        "Parallel(n_jobs={workers})",
        "pool([delayed(task)(1), delayed(task)(1)])[0]",
    ),
    "mpire": _Idiom("from mpire import WorkerPool", "WorkerPool(n_jobs={workers})", "pool.apply(task, (1,))"),
    "dask": _Idiom(
        "from distributed import Client",
        "Client(n_workers={workers}, threads_per_worker=1, dashboard_address=None)",
        _EXECUTOR_CALL,
    ),
    "ray": _Idiom(
        "import contextlib\nimport ray",
        "contextlib.nullcontext(ray.init(num_cpus={workers}, include_dashboard=False))",
        "ray.get(ray.remote(task).remote(1))",
    ),
}

_SCRIPT = """\
import sys
import time
{top}
{imports}

def task(number):
    {body}
    return number + 1

if __name__ == "__main__":
    with {open} as pool:
        result = {call}
        now = time.monotonic()
        print("first result", now, result, flush=True)
"""

IMPORTS: Final[Mapping[str, str]] = {
    "scalepool": "from scalepool.multiprocessing import Pool",
    "scalepool.Executor": "from scalepool.concurrent.futures import ProcessPoolExecutor",
    "multiprocessing.Pool": "from multiprocessing.pool import Pool",
    "ProcessPoolExecutor": "from concurrent.futures import ProcessPoolExecutor",
    "loky": "from loky import get_reusable_executor",
    "joblib": "from joblib import Parallel",
    "mpire": "from mpire import WorkerPool",
    "dask": "from distributed import Client",
    "ray": "import ray",
}
"""What a program imports to have a pool."""


def first_result_script(candidate: str, workers: int, *, top: str = "", body: str = "pass") -> str:
    """Return a program that prints ``first result``, the monotonic time, and the result, which is 2.

    Parameters
    ----------
    candidate
        Whose pool it uses.
    workers
        Size of the pool.
    top
        A line at its top, such as an import.
    body
        A line in its task.
    """
    idiom = FIRST_RESULT[candidate]
    opened = idiom.open.format(workers=workers)
    return textwrap.dedent(_SCRIPT).format(top=top, imports=idiom.imports, body=body, open=opened, call=idiom.call)
