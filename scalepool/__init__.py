"""scalepool: multiprocessing, concurrent.futures and joblib, from a laptop to a cluster, by changing an import.

Importing this package starts nothing and loads little: the core comes with the first use. It does make joblib know the
backend ``"scalepool"``, now or when joblib is imported.

The layers, each importing only from those below it::

    L6  multiprocessing/  concurrent/futures/  joblib_backend.py    the drop-in modules
        util/                                                       pools of actors, and queues on them
        redirection.py                                              the standard names made to stand for them
        cli/  bench/                                                the command, and what it measures
    L5  api.py  tasks.py  actors.py  observing.py  _progress.py     what they, and users, build on
    L4  _runtime/   engines/                                        client, pump, worker; where workers come from
    L3  _net/       _store/    _proc/                               sockets, shared memory, processes
    L2  _core/                                                      the hub's decisions, without any I/O
    L1  _wire/                                                      messages, codec, pickling
    L0  errors.py   config.py  _base/
"""

from __future__ import annotations

import os as _os
import sys as _sys

from scalepool._joblib.registration import install as _install_joblib_backend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from scalepool import util
    from scalepool._progress import progress
    from scalepool.actors import ActorHandle, exit_actor, get_actor, kill, method
    from scalepool.api import (
        available_resources,
        cluster_resources,
        cpu_count,
        freeze_support,
        get_gpu_ids,
        init,
        is_initialized,
        nodes,
        shutdown,
        task_rng,
    )
    from scalepool.errors import ActorDiedError, ActorUnavailableError
    from scalepool.observing import get_runtime_context, timeline
    from scalepool.redirection import install, uninstall
    from scalepool.tasks import (
        DynamicObjectRefGenerator,
        ObjectRef,
        ObjectRefGenerator,
        as_completed,
        cancel,
        get,
        put,
        remote,
        wait,
    )

__all__ = [
    "ActorDiedError",
    "ActorHandle",
    "ActorUnavailableError",
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "__version__",
    "as_completed",
    "available_resources",
    "cancel",
    "cluster_resources",
    "cpu_count",
    "exit_actor",
    "freeze_support",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "install",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "progress",
    "put",
    "remote",
    "shutdown",
    "task_rng",
    "timeline",
    "uninstall",
    "util",
    "wait",
]

__version__ = "0.1.0"

_FROM_API = frozenset(
    {
        "available_resources",
        "cluster_resources",
        "cpu_count",
        "freeze_support",
        "get_gpu_ids",
        "init",
        "is_initialized",
        "nodes",
        "shutdown",
        "task_rng",
    }
)
_FROM_ACTORS = frozenset({"ActorHandle", "exit_actor", "get_actor", "kill", "method"})
_FROM_ERRORS = frozenset({"ActorDiedError", "ActorUnavailableError"})
_FROM_TASKS = frozenset(
    {
        "DynamicObjectRefGenerator",
        "ObjectRef",
        "ObjectRefGenerator",
        "as_completed",
        "cancel",
        "get",
        "put",
        "remote",
        "wait",
    }
)
_FROM_OBSERVING = frozenset({"get_runtime_context", "timeline"})
_FROM_REDIRECTION = frozenset({"install", "uninstall"})

_install_joblib_backend()
if _os.environ.get("SCALEPOOL_INSTALL", "0").strip() not in ("", "0"):
    from scalepool.redirection import install

    install()

# A frozen application that is to become the parent of workers: what it calls for that may be multiprocessing's.
if hasattr(_sys, "frozen") and "--scalepool-zygote" in _sys.argv[1:2]:
    from scalepool._proc.frozen import catch_freeze_support as _catch_freeze_support

    _catch_freeze_support()


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        from scalepool import api

        return getattr(api, name)
    if name in _FROM_TASKS:
        from scalepool import tasks

        return getattr(tasks, name)
    if name in _FROM_OBSERVING:
        from scalepool import observing

        return getattr(observing, name)
    if name in _FROM_REDIRECTION:
        from scalepool import redirection

        return getattr(redirection, name)
    if name in _FROM_ACTORS:
        from scalepool import actors

        return getattr(actors, name)
    if name in _FROM_ERRORS:
        from scalepool import errors

        return getattr(errors, name)
    if name == "progress":
        from scalepool._progress import progress

        return progress
    if name == "util":
        from importlib import import_module

        return import_module("scalepool.util")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
