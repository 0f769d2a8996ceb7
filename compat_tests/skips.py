"""The one published list of tests that are not run, each with its reason. SKIPS.md is made from it.

A pattern is matched (``fnmatch``) against ``module::Class::test[parameters]``. An entry that matches no test at all is
an error, so that the list cannot outlive its reasons; but for tests that some versions of the original do not have.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SKIPS", "Skip", "as_markdown"]


@dataclass(frozen=True, slots=True)
class Skip:
    """One or more tests of an original, by pattern, and why they say nothing about a drop-in."""

    pattern: str
    reason: str


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
        "test_joblib_parallel.py::test_memmapping_leaks[[]*",
        "Lists the files in temp_folder, where joblib's own backends dump arrays; ours leaves no files at all.",
    ),
    Skip(
        "test_joblib_parallel.py::test_loky_reuse_workers[[]*",
        "Compares loky's private executor singleton; that our workers are reused has a test of its own.",
    ),
)


def as_markdown() -> str:
    """Return the text of SKIPS.md."""
    lines = [
        "# Tests of the originals that are not run",
        "",
        "Made from `skips.py` by `python compat_tests/skips.py`; a test keeps the two equal. Not listed: what the",
        "originals skip themselves (Windows only, another start method, …), and what is not collected because it tests",
        "something else (see the head of each test module).",
        "",
        "| Test | Why it is not run |",
        "|---|---|",
    ]
    lines += [f"| `{skip.pattern.replace('[[]', '[')}` | {skip.reason} |" for skip in SKIPS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("SKIPS.md").write_text(as_markdown(), encoding="utf-8")
