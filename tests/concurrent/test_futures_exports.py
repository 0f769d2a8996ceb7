"""The module looks like the standard library's, and costs nothing before it is used."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import subprocess
import sys

import pytest

import scalepool.concurrent.futures as ours
import scalepool.concurrent.futures.process as ours_process
import scalepool.concurrent.futures.thread as ours_thread

OURS_ALONE = {"ProcessPoolExecutor"}


def test_every_public_name_is_there_and_is_the_original() -> None:
    names = set(concurrent.futures.__all__)
    assert names <= set(ours.__all__)
    assert [name for name in names - OURS_ALONE if getattr(ours, name) is not getattr(concurrent.futures, name)] == []


def test_the_executor_is_ours_and_an_executor() -> None:
    assert ours.ProcessPoolExecutor is ours_process.ProcessPoolExecutor
    assert ours.ProcessPoolExecutor is not concurrent.futures.ProcessPoolExecutor
    assert issubclass(ours.ProcessPoolExecutor, concurrent.futures.Executor)


def test_submodules_have_the_originals_names() -> None:
    assert ours_process.BrokenProcessPool is concurrent.futures.process.BrokenProcessPool
    assert ours_thread.ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor
    assert ours_thread.BrokenThreadPool is concurrent.futures.thread.BrokenThreadPool


@pytest.mark.parametrize("module", [ours, ours_process])
def test_other_names_are_refused(module: object) -> None:
    with pytest.raises(AttributeError):
        getattr(module, "no_such_name")  # noqa: B009 - mypy would object to the plain form


def test_importing_it_does_not_import_process_pools() -> None:
    heavy = "{'concurrent.futures.process', 'multiprocessing', 'zmq', 'scalepool.api'}"
    code = f"import sys, scalepool.concurrent.futures; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
