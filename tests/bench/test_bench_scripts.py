from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from scalepool.bench.drivers import _WHERE
from scalepool.bench.launch import environment
from scalepool.bench.scripts import FIRST_RESULT, first_result_script
from scalepool.bench.workloads import WORKLOADS


@pytest.mark.parametrize("candidate", FIRST_RESULT)
def test_scripts_are_programs(candidate: str) -> None:
    tree = ast.parse(first_result_script(candidate, 3, top="import numpy", body="import numpy; numpy.arange(3)"))
    assert isinstance(tree.body[0], ast.Import)
    assert "3" in ast.unparse(tree)


@pytest.mark.live
@pytest.mark.parametrize("candidate", ["scalepool", "multiprocessing.Pool"])
def test_a_script_prints_its_first_result(candidate: str) -> None:
    code = first_result_script(candidate, 1)
    done = subprocess.run(
        [sys.executable, "-"], input=code, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split()[:2] == ["first", "result"], done.stderr
    assert done.stdout.split()[3] == "2"


def test_who_opens_a_pool_has_a_driver() -> None:
    for name in ("call-latency", "map", "executor-map", "idle-memory", "many-workers", "outstanding", "array-results"):
        assert set(WORKLOADS[name].adapters) <= set(_WHERE)
