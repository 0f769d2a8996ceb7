"""Each example runs as a user would run it: a script of its own, unguarded, from any directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {
    "pool_wordcount.py": (["60"], None, "Pool"),
    "gridsearch_digits.py": (["200"], "sklearn", "scalepool"),
    "executor_images.py": (["80"], "numpy", "ProcessPoolExecutor"),
    "remote_matrices.py": (["40", "3"], "numpy", "remote"),
    "ray_talk.py": (["1000", "50"], "numpy", "remote"),
    "tree_reduce.py": (["9", "1000"], "numpy", "remote"),
    "parameter_server.py": (["60"], "sklearn", ""),
    "asyncio_pipeline.py": (["6", "500"], None, ""),
    "evolution_strategies.py": (["5", "8"], "numpy", ""),
}
SERIAL = r"serial \d+\.\d\d s, {} \d+\.\d\d s, results equal"


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_example_is_short_and_needs_no_guard(name: str) -> None:
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert not [line for line in lines if line.startswith("if __name__")]


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_example_runs(name: str, tmp_path: Path) -> None:
    arguments, needs, label = SMALL[name]
    if needs is not None:
        pytest.importorskip(needs, exc_type=ImportError)
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name), *arguments]
    path = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(SERIAL.format(label), done.stdout) if label else is_as_told(name, done.stdout), done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def is_as_told(name: str, told: str) -> bool:
    """Whether an example that compares itself with nothing has done what it says."""
    if name == "parameter_server.py":
        shares = [float(share) for share in re.findall(r"(\d+\.\d)% of the unseen digits", told)]
        return len(shares) == 5 and shares[-1] > 88 and shares[-1] >= shares[0]
    if name == "evolution_strategies.py":
        rewards = [int(steps) for steps in re.findall(r"stays up for (\d+) of 300", told)]
        return len(rewards) == 2 and rewards[-1] > 1.5 * rewards[0]
    return "6 documents, 3,000 words" in told and "its heart beat" in told
