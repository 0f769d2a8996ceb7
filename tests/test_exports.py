"""The public names, pinned: adding one is a decision, losing one a breach."""

from __future__ import annotations

import subprocess
import sys

import pytest

import scalepool
from scalepool import actors, api, config, errors, observing, redirection, tasks

API = [
    "Deferral", "ErrorTypes", "Function", "GroupStatistics", "Node", "Seed", "SeededCall",
    "SessionHandle", "SharedBuffer", "Snapshot", "TaskContext",
    "TaskFuture", "Terms", "WorkerGroup", "WorkerInfo",
    "available_resources", "cancel", "cluster_resources", "cpu_count", "current_task", "freeze_support", "get_gpu_ids",
    "in_worker", "init", "is_initialized", "item_slot", "nodes", "put_buffer", "shutdown", "task_rng", "wait",
]  # fmt: skip
ERRORS = [
    "ActorDiedError", "ActorError", "ActorUnavailableError", "AuthenticationError",
    "DeadlockError", "InitializerError", "KeyFileError", "ObjectLostError", "ObjectStoreFullError", "PostMortem",
    "ProtocolError",
    "RemoteTraceback",
    "ResourceError", "ScalepoolError", "SerializationError", "SessionError", "StoreError", "TaskCancelledError",
    "TaskTimeoutError", "WorkerDiedError",
]  # fmt: skip
TASKS = [
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
    "as_completed",
    "cancel",
    "get",
    "put",
    "remote",
    "wait",
]
ACTORS = [
    "ActorClass", "ActorHandle", "ActorMethod", "ActorOptions", "exit_actor", "get_actor", "kill", "method",
]  # fmt: skip
TOP = [
    "ActorDiedError", "ActorHandle", "ActorUnavailableError", "DynamicObjectRefGenerator", "ObjectRef",
    "ObjectRefGenerator", "__version__", "as_completed", "available_resources", "cancel", "cluster_resources",
    "cpu_count", "exit_actor", "freeze_support", "get", "get_actor", "get_gpu_ids", "get_runtime_context", "init",
    "install", "is_initialized", "kill", "method", "nodes", "progress", "put", "remote", "shutdown", "task_rng",
    "timeline",
    "uninstall", "util", "wait",
]  # fmt: skip
OBSERVING = ["get_runtime_context", "timeline"]
HOMES = {
    **dict.fromkeys(ERRORS, errors),
    **dict.fromkeys(ACTORS, actors),
    **dict.fromkeys(TASKS, tasks),
    **dict.fromkeys(OBSERVING, observing),
}


@pytest.mark.parametrize(
    ("module", "names"), [(scalepool, TOP), (api, API), (tasks, TASKS), (errors, ERRORS), (actors, ACTORS)]
)
def test_the_public_names_are_these_and_exist(module: object, names: list[str]) -> None:
    exported = module.__all__  # type: ignore[attr-defined]

    assert sorted(exported) == names
    assert len(set(exported)) == len(exported)
    assert all(getattr(module, name) is not None for name in names)
    assert set(names) <= set(dir(module))


def test_the_top_level_names_are_those_of_the_api() -> None:
    own = [name for name in TOP if name not in ("__version__", "install", "progress", "uninstall", "util")]
    assert all(getattr(scalepool, name) is getattr(HOMES.get(name, api), name) for name in own)
    assert (scalepool.install, scalepool.uninstall) == (redirection.install, redirection.uninstall)
    with pytest.raises(AttributeError, match="no_such_name"):
        scalepool.no_such_name  # noqa: B018


def test_every_error_has_the_one_root() -> None:
    own = [getattr(errors, name) for name in ERRORS if name not in ("PostMortem", "RemoteTraceback")]

    assert all(issubclass(error, errors.ScalepoolError) for error in own)
    assert not issubclass(errors.RemoteTraceback, errors.ScalepoolError)


def test_what_is_exported_is_documented() -> None:
    for name in API:
        assert getattr(api, name).__doc__, name
    for module, names in [(tasks, TASKS), (actors, ACTORS)]:
        assert all(getattr(module, name).__doc__ for name in names)
    assert all(getattr(config, name) is not None for name in config.__all__)


def test_importing_the_package_starts_and_loads_little() -> None:
    heavy = ["numpy", "zmq", "joblib", "multiprocessing", "psutil", "cloudpickle", "asyncio"]
    code = (
        "import sys, threading, scalepool\n"
        f"loaded = [name for name in {heavy} if name in sys.modules]\n"
        "print(loaded, threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "[] 1\n"


def test_the_api_loads_what_is_asked_for() -> None:
    code = (
        "import sys, scalepool.api as api\n"
        "assert 'scalepool._runtime.group' not in sys.modules and 'WorkerGroup' in dir(api)\n"
        "assert api.WorkerGroup is sys.modules['scalepool._runtime.group'].WorkerGroup is vars(api)['WorkerGroup']"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    with pytest.raises(AttributeError, match="no_such_name"):
        api.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_api_opens_nothing() -> None:
    code = "import os, threading, scalepool.api as api\nprint(api.is_initialized(), threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "False 1\n"
