"""CPython's own tests of process pool executors: all of them with the fork context, a selection with the others.

The tests of threads and of `Future` itself are left out: both are the standard library's own here.
"""

from __future__ import annotations

import pytest
from harness import is_shipped, only

if not is_shipped("test.test_concurrent_futures"):
    pytest.skip("this interpreter ships no test.test_concurrent_futures", allow_module_level=True)

import retargeted_futures as original

#: What is run with spawn and forkserver: one of each kind, and all that CPython skips with fork.
SMOKE = (
    "test_submit",
    "test_map",
    "test_traceback",
    "test_initializer",
    "test_first_completed",
    "test_no_timeout",
    "test_processes_terminate",
    "test_interpreter_shutdown",
    "test_crash_during_func_exec_on_worker",
    "test_idle_process_reuse_one",
    "test_idle_process_reuse_multiple",
    "test_max_tasks_per_child",
    "test_max_tasks_early_shutdown",
    "test_max_tasks_per_child_defaults_to_spawn_context",
)

for _name, _case in vars(original).items():
    if _name.startswith("ProcessPoolFork") and _name.endswith("Test") and "Forkserver" not in _name:
        globals()[_name] = _case
    elif _name.startswith(("ProcessPoolSpawn", "ProcessPoolForkserver")) and _name.endswith("Test"):
        globals()[_name] = only(_case, *SMOKE)
del _name, _case
