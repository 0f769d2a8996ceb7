"""The one published list of tests that are skipped or changed, each with its reason. SKIPS.md is made from it.

A skip's pattern is matched (``fnmatch``) against ``module::Class::test[parameters]``. A change replaces text in the
original's source before it runs, and never the number of its lines.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHANGES", "SKIPS", "Change", "Skip", "as_markdown", "change"]


@dataclass(frozen=True, slots=True)
class Skip:
    """One or more tests of an original, by pattern, and why they say nothing about a drop-in."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A line of an original (`module`) that demands a limitation, and what it demands here instead.

    A version of the original that holds one of `spared` does not have the line and does not need the change.
    """

    module: str
    old: str
    new: str
    reason: str
    spared: tuple[str, ...] = ()


SKIPS: tuple[Skip, ...] = (
    Skip(
        "test_cpython_pool.py::TestPoolNotLeakOnFailure::test_release_unused_processes",
        "Counts the objects that CPython's Pool makes by calling context.Process; our workers are not made by it.",
    ),
    Skip(
        "test_cpython_futures.py::*::test_gh105829_should_not_deadlock_if_wakeup_pipe_full",
        "Replaces CPython's private _ExecutorManagerThread and _ThreadWakeup, which we have not.",
    ),
    Skip(
        "test_cpython_futures.py::*::test_python_finalization_error",
        "Makes the start of the second thread of CPython's executor fail; ours has no thread of its own per executor.",
    ),
    Skip(
        "test_cpython_futures.py::*::test_saturation",
        "Counts the private _processes after sending what cannot be pickled (a lock), which starts no worker of ours.",
    ),
    Skip(
        "test_cpython_futures.py::*::test_processes_terminate",
        "The same.",
    ),
    Skip(
        "test_cpython_futures.py::*::test_idle_process_reuse_*",
        "Counts the private _processes to see when CPython adds one; our workers are shared by all executors.",
    ),
    Skip(
        "test_joblib_parallel.py::test_memmapping_leaks[[]*",
        "Lists the files in temp_folder, where joblib's own backends dump arrays; ours leaves no files at all.",
    ),
    Skip(
        "test_joblib_parallel.py::test_loky_reuse_workers[[]*",
        "Compares loky's private executor singleton; that our workers are reused has a test of its own.",
    ),
    Skip(
        "test_joblib_parallel.py::test_nested_backend_context_manager[[]*-scalepool]",
        "Demands that a call inside a task runs in threads; ours runs on the shared workers, to four levels.",
    ),
    Skip(
        "test_joblib_parallel.py::test_nested_backend_context_manager[[]*-back_compat_backend]",
        "The same, through a class that the test derives from the backend.",
    ),
    Skip(
        "test_joblib_parallel.py::test_nested_parallelism_limit[[]*-scalepool]",
        "The same, for the levels below.",
    ),
)


CHANGES: tuple[Change, ...] = (
    Change(
        "test._test_multiprocessing",
        "    return lambda: 42\n",
        "    return threading.Lock()\n",
        "An 'unpickleable result': our lambdas do arrive, a lock still does not.",
    ),
    Change(
        "test._test_multiprocessing",
        "        args = [support.LONG_TIMEOUT for i in range(10_000)]\n",
        "        args = [1 if self.TYPE == 'threads' else support.LONG_TIMEOUT for i in range(10_000)]\n",
        "CPython's own correction of 3.13: a thread cannot be forced to quit, so join() waits for what has begun.",
        spared=("            sleep_time = 1\n", "time.sleep, [0.1 for i in range(10000)]"),
    ),
    Change(
        "test.test_concurrent_futures",
        "        self.assertRaises(BrokenProcessPool, self.executor.submit, pow, 2, 8)\n",
        "        self.assertEqual(self.executor.submit(pow, 2, 8).result(), 256)\n",
        "After a worker died CPython's executor refuses work; ours stays usable.",
    ),
    Change(
        "test.test_concurrent_futures",
        "        # Get one of the processes, and terminate (kill) it\n",
        "        while not futures[0].running(): time.sleep(0.01)\n",
        "In CPython any worker's death fails all calls, in ours the one that it ran: so wait until it runs, and ...",
    ),
    Change(
        "test.test_concurrent_futures",
        "        p.terminate()\n        for fut in futures:\n",
        "        for p in list(self.executor._processes.values()): p.terminate()\n        for fut in futures:\n",
        "... kill all workers, since we cannot know which one runs it.",
    ),
    Change(
        "test.test_concurrent_futures",
        "        self.executor.shutdown(cancel_futures=True)\n",
        "        fs[0].result(); self.executor.shutdown(cancel_futures=True)\n",
        "CPython calls futures running before a worker has them, and the test needs one; here one must have run.",
    ),
    Change(
        "test.test_concurrent_futures",
        "        call_queue = executor._call_queue\n",
        "        call_queue = support\n",
        "A private queue that ours does not have ...",
    ),
    Change(
        "test.test_concurrent_futures",
        "        call_queue.join_thread()\n",
        "        call_queue.gc_collect()\n",
        "... and is not waited for.",
    ),
    Change(
        "test.test_concurrent_futures",
        "self._check_crash(BrokenProcessPool, id, ExitAtUnpickle())",
        "self._check_crash(SystemExit, id, ExitAtUnpickle())",
        "In CPython what unpickling raises ends the worker and so the executor; here it is the error of that one call.",
    ),
    Change(
        "test.test_concurrent_futures",
        "self._check_crash(BrokenProcessPool, id, ErrorAtUnpickle())",
        "self._check_crash(__import__('pickle').UnpicklingError, id, ErrorAtUnpickle())",
        "The same.",
    ),
    Change(
        "test.test_concurrent_futures",
        "self._check_crash(BrokenProcessPool, _return_instance, ExitAtUnpickle)",
        "self._check_crash(SystemExit, _return_instance, ExitAtUnpickle)",
        "The same, for a result.",
    ),
    Change(
        "test.test_concurrent_futures",
        "self._check_crash(BrokenProcessPool,\n                          _return_instance, ErrorAtUnpickle,",
        "self._check_crash(__import__('pickle').UnpicklingError,\n"
        "                          _return_instance, ErrorAtUnpickle,",
        "The same.",
    ),
    Change(
        "joblib.test.test_parallel",
        '("loky", True)',
        '("scalepool", False)',
        "joblib's refuses a call while a generator of an earlier one is alive; ours serves both.",
    ),
    Change(
        "joblib.test.test_parallel",
        '("loky", "multiprocessing", True)',
        '("scalepool", "multiprocessing", False)',
        "joblib's process backends refuse to be nested, with a warning; ours nests, without one.",
    ),
    Change(
        "joblib.test.test_parallel",
        '("multiprocessing", "loky", True)',
        '("multiprocessing", "scalepool", False)',
        "The same.",
    ),
    Change(
        "joblib.test.test_parallel",
        '("threading", "loky", True)',
        '("threading", "scalepool", False)',
        "The same.",
    ),
    Change(
        "joblib.test.test_parallel",
        'stderr_regex=r"LokyProcess"',
        "stderr_regex=None",
        "A line of loky's own debug log.",
    ),
)


def change(module: str, source: str) -> str:
    """Apply the changes of one original to its source."""
    for entry in CHANGES:
        if module == entry.module or module.startswith(entry.module + "."):
            source = source.replace(entry.old, entry.new)
    return source


def as_markdown() -> str:
    """Return the text of SKIPS.md."""
    lines = [
        "# Tests of the originals that are skipped or changed",
        "",
        "Made from `skips.py` by `python compat_tests/skips.py`; a test keeps the two equal.",
        "",
        "Not listed: what the originals skip themselves (Windows only, another start method, ...), what is not",
        "collected because it tests something else (see the head of each test module), and the change of name that is",
        'the point of it all: imports of `scalepool...`, and `"scalepool"` for joblib\'s `"loky"`.',
        "",
        "## Skipped",
        "",
        "| Test | Why it is not run |",
        "|---|---|",
        *(f"| `{skip.pattern.replace('[[]', '[')}` | {skip.reason} |" for skip in SKIPS),
        "",
        "## Changed",
        "",
        "| In | Original | Here | Why |",
        "|---|---|---|---|",
        *(f"| `{entry.module}` | {_code(entry.old)} | {_code(entry.new)} | {entry.reason} |" for entry in CHANGES),
    ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`"


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("SKIPS.md").write_text(as_markdown(), encoding="utf-8")
