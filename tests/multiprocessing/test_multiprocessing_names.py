"""Import paths and names."""

from __future__ import annotations

import multiprocessing
import multiprocessing.dummy
import multiprocessing.pool
import subprocess
import sys
from typing import Any

import pytest

import scalepool.multiprocessing
import scalepool.multiprocessing.dummy
import scalepool.multiprocessing.dummy.connection
import scalepool.multiprocessing.pool
from scalepool.multiprocessing import Pool, get_context


def test_every_public_name_of_the_original_exists() -> None:
    for name in multiprocessing.__all__:
        assert getattr(scalepool.multiprocessing, name) is not None
    assert set(multiprocessing.__all__) <= set(dir(scalepool.multiprocessing))


def test_star_import_brings_our_pool() -> None:
    names: dict[str, Any] = {}
    exec("from scalepool.multiprocessing import *", names)

    assert names["Pool"] is Pool
    assert names["cpu_count"]() >= 1
    assert names["TimeoutError"] is multiprocessing.TimeoutError
    assert names["Process"] is multiprocessing.Process


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pol'"):
        scalepool.multiprocessing.Pol  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Pol'"):
        scalepool.multiprocessing.pool.Pol  # noqa: B018


def test_the_pool_module_has_the_originals_names() -> None:
    for name in ("ApplyResult", "AsyncResult", "MapResult", "IMapIterator", "IMapUnorderedIterator", "RUN", "CLOSE"):
        assert hasattr(scalepool.multiprocessing.pool, name)
    for name in ("ThreadPool", "MaybeEncodingError", "RemoteTraceback"):
        assert getattr(scalepool.multiprocessing.pool, name) is getattr(multiprocessing.pool, name)


def test_dummy_is_the_originals() -> None:
    assert scalepool.multiprocessing.dummy.__all__ == multiprocessing.dummy.__all__
    with scalepool.multiprocessing.dummy.Pool(2) as pool:
        assert isinstance(pool, scalepool.multiprocessing.pool.ThreadPool)
        assert pool.map(abs, [-1, 2]) == [1, 2]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_context_is_the_originals_with_our_pool(method: str) -> None:
    context = get_context(method)

    assert isinstance(context, type(multiprocessing.get_context(method)))
    assert context is get_context(method)
    assert context.get_context() is context
    assert context.get_context("spawn") is get_context("spawn")
    assert context.get_start_method() == method
    assert context.cpu_count() == scalepool.multiprocessing.cpu_count()
    pool = context.Pool(1)
    assert type(pool) is Pool
    assert pool._ctx is context
    pool.terminate()
    pool.join()


def test_the_default_context_is_the_originals_default() -> None:
    assert get_context().get_start_method() == multiprocessing.get_context().get_start_method()
    with Pool(1) as pool:
        assert pool._ctx is get_context()


def test_an_unknown_start_method_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        get_context("thread")


def test_the_original_is_untouched() -> None:
    get_context("spawn")

    assert type(multiprocessing.get_context("spawn")).__module__ == "multiprocessing.context"
    assert multiprocessing.Pool.__module__ == "multiprocessing.context"


def test_importing_does_not_load_the_originals_pool() -> None:
    script = "import sys, scalepool.multiprocessing; print('multiprocessing.pool' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout.strip() == "False"
