"""Each example, unchanged, on a cluster of two hosts: it prints what it prints on one.

Compared is all but how long something took: seconds, calls per second, and how often a timer went off meanwhile. The
parameter server has one actor that computes, as with several the order of their steps is nobody's to say.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from live.clusters import LONG_S, cluster_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live.clusters import Cluster

pytestmark = [pytest.mark.live, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {
    "pool_wordcount.py": (["60"], None),
    "gridsearch_digits.py": (["200"], "sklearn"),
    "executor_images.py": (["80"], "numpy"),
    "remote_matrices.py": (["40", "3"], "numpy"),
    "ray_talk.py": (["1000", "50"], "numpy"),
    "tree_reduce.py": (["9", "1000"], "numpy"),
    "parameter_server.py": (["60", "1"], "sklearn"),
    "asyncio_pipeline.py": (["6", "5000"], None),
    "evolution_strategies.py": (["5", "8"], "numpy"),
}
_MEASURED = re.compile(r"[\d,.]+(?= s\b| calls/s)|(?<=its heart beat )\d+")


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("examples"), one=1, two=1) as cluster:
        yield cluster


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)


def told(cluster: Cluster, name: str, address: str, folder: Path) -> str:
    environ = {**cluster.driver_environ(), "SCALEPOOL_ADDRESS": address}
    command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / name), *SMALL[name][0]]
    done = subprocess.run(
        command, env=environ, cwd=folder, text=True, capture_output=True, timeout=2 * LONG_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(folder.iterdir())
    return _MEASURED.sub("_", done.stdout)


@pytest.mark.parametrize("name", SMALL)
def test_an_example_prints_the_same_on_two_hosts(two_hosts: Cluster, name: str, tmp_path: Path) -> None:
    needed = SMALL[name][1]
    if needed is not None:
        pytest.importorskip(needed, exc_type=ImportError)
    here = told(two_hosts, name, "local", tmp_path)
    assert here
    assert told(two_hosts, name, two_hosts.address, tmp_path) == here
