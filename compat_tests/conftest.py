"""What the originals' suites share here: the skips, a hard limit per test, and the table at the end."""

from __future__ import annotations

import collections
import importlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import TARGET
from skips import SKIPS

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A test that takes this long hangs: seconds. CPython's and joblib's own slowest need about ten.
TIMEOUT_S = 60

SUITES = {
    "test_cpython_pool.py": "CPython Pool",
    "test_cpython_futures.py": "CPython executors",
    "test_joblib_parallel.py": "joblib Parallel",
    "test_sklearn.py": "scikit-learn",
}
HERE = Path(__file__).parent
_counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)


def pytest_configure(config: pytest.Config) -> None:
    for mark in ("no_cover: joblib's", "thread_unsafe: joblib's and scikit-learn's"):
        config.addinivalue_line("markers", mark)
    # scikit-learn parametrises with generators; warnings while collecting cannot be filtered by a mark
    config.addinivalue_line("filterwarnings", "ignore:Passing a non-Collection iterable to parametrize")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about the target, then mark the rest."""
    mine = [item for item in items if item.path.parent == HERE]
    dropped = [item for item in mine if not getattr(item.module, "is_wanted", lambda _: True)(item)]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=dropped)
    gone = set(dropped)
    items[:] = [item for item in items if item not in gone]
    for item in mine:
        if item.path.name not in SUITES:
            continue
        # Each suite has its own idea of which warnings matter; a hang fails the test and the others go on.
        item.add_marker(pytest.mark.filterwarnings("default"))
        item.add_marker(pytest.mark.timeout(TIMEOUT_S, method="signal"))
        item.add_marker(pytest.mark.live)
        # ... nor do they share our rule that an expected failure which passes is a failure.
        item.own_markers[:] = [_lenient(mark) for mark in item.own_markers]
        if TARGET == "scalepool":
            _apply_skips(item)


def _lenient(mark: pytest.Mark) -> pytest.Mark:
    return pytest.mark.xfail(*mark.args, **{**mark.kwargs, "strict": False}).mark if mark.name == "xfail" else mark


def _apply_skips(item: pytest.Item) -> None:
    name = item.nodeid[item.nodeid.index(item.path.name) :]
    for skip in SKIPS:
        if fnmatchcase(name, skip.pattern):
            item.add_marker(pytest.mark.skip(reason=f"SKIPS.md: {skip.reason}"))


@pytest.fixture(scope="session", autouse=True)
def _started() -> None:
    """Start the session's own threads and processes first: CPython's tests count those that a test leaves behind."""
    if TARGET == "scalepool":
        futures = importlib.import_module("scalepool.concurrent.futures")
        with futures.ProcessPoolExecutor(1) as executor:
            assert executor.submit(abs, -1).result(timeout=TIMEOUT_S) == 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[misc, assignment]
    suite = SUITES.get(item.path.name) if item.path.parent == HERE else None
    if suite is not None and (report.when == "call" or report.outcome != "passed"):
        outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
        _counts[suite][outcome] += 1
        if outcome == "skipped" and "SKIPS.md" in str(report.longrepr):
            _counts[suite]["listed"] += 1
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _counts:
        return
    terminalreporter.section(f"originals' suites on {TARGET}")
    line = "{:<20}{:>8}{:>8}{:>9}{:>11}{:>8}".format
    terminalreporter.write_line(line("suite", "passed", "failed", "skipped", "SKIPS.md", "out of"))
    for suite, count in _counts.items():
        total = count["passed"] + count["failed"] + count["skipped"]
        terminalreporter.write_line(
            line(suite, count["passed"], count["failed"], count["skipped"], count["listed"], total)
        )
