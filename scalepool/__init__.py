"""scalepool: multiprocessing, concurrent.futures and joblib, from a laptop to a cluster, by changing an import.

Importing this package starts nothing and loads little: the core comes with the first use. It does make joblib know the
backend ``"scalepool"``, now or when joblib is imported.

The layers, each importing only from those below it::

    L6  multiprocessing/  concurrent/futures/  joblib_backend.py    the drop-in modules
        cli/  bench/                                                the command, and what it measures
    L5  api.py  tasks.py                                            what they, and users, build on
    L4  _runtime/   engines/                                        client, pump, worker; where workers come from
    L3  _net/       _store/    _proc/                               sockets, shared memory, processes
    L2  _core/                                                      the hub's decisions, without any I/O
    L1  _wire/                                                      messages, codec, pickling
    L0  errors.py   config.py  _base/
"""

from __future__ import annotations

from scalepool._joblib.registration import install as _install_joblib_backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scalepool.api import cpu_count, init, is_initialized, shutdown, task_rng
    from scalepool.tasks import ObjectRef, as_completed, cancel, get, put, remote, wait

__all__ = [
    "ObjectRef",
    "__version__",
    "as_completed",
    "cancel",
    "cpu_count",
    "get",
    "init",
    "is_initialized",
    "put",
    "remote",
    "shutdown",
    "task_rng",
    "wait",
]

__version__ = "0.1.0"

_FROM_API = frozenset({"cpu_count", "init", "is_initialized", "shutdown", "task_rng"})
_FROM_TASKS = frozenset({"ObjectRef", "as_completed", "cancel", "get", "put", "remote", "wait"})

_install_joblib_backend()


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        from scalepool import api

        return getattr(api, name)
    if name in _FROM_TASKS:
        from scalepool import tasks

        return getattr(tasks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FROM_API, *_FROM_TASKS})
