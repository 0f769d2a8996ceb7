"""Tasks find what their driver set up: thread limits, working directory, environment, import path."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from live.helpers import run
from scalepool.api import WorkerGroup, cpu_count
from scalepool.config import THREAD_VARIABLES

pytestmark = pytest.mark.live

PRELUDE = """
import json, os, sys
from live import test_surroundings as here
from scalepool import api
from scalepool.api import WorkerGroup
"""
NO_LIMITS = dict.fromkeys(THREAD_VARIABLES, "")


def look() -> dict[str, Any]:
    return {"cwd": str(Path.cwd()), "x": os.environ.get("LIVE_X"), "path": list(sys.path), "argv": sys.argv}


def limits() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in THREAD_VARIABLES}


def blas_threads() -> list[int]:
    import numpy as np

    np.ones((50, 50)) @ np.ones((50, 50))
    from threadpoolctl import threadpool_info

    return [int(pool["num_threads"]) for pool in threadpool_info()]


def without_limits(source: str) -> str:
    return f"import os\nfor name in {list(THREAD_VARIABLES)}: os.environ.pop(name, None)\n{source}"


def test_workers_share_the_cpus_in_threads(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
api.init(num_cpus=8)
print(json.dumps([WorkerGroup(n).submit(here.limits).result() for n in (1, 2, 16)]))
"""
    found = json.loads(run(tmp_path, without_limits(source)))

    assert [set(each.values()) for each in found] == [{"8"}, {"4"}, {"1"}]


def test_the_users_own_limits_win(tmp_path: Path) -> None:
    source = f"{PRELUDE}\napi.init(num_cpus=8)\nprint(json.dumps(WorkerGroup(2).submit(here.limits).result()))"
    found = json.loads(run(tmp_path, without_limits(f"os.environ['OMP_NUM_THREADS'] = '3'\n{source}")))

    assert found["OMP_NUM_THREADS"] == "3"
    assert found["OPENBLAS_NUM_THREADS"] == "3"


def test_an_argument_beats_the_environment(tmp_path: Path) -> None:
    source = f"""{PRELUDE}
os.environ["OMP_NUM_THREADS"] = "3"
print(json.dumps(WorkerGroup(2, threads_per_worker=5).submit(here.limits).result()))
"""
    assert set(json.loads(run(tmp_path, without_limits(source))).values()) == {"5"}


@pytest.mark.parametrize("imported", ["", "import numpy"])
def test_the_libraries_obey(tmp_path: Path, imported: str) -> None:
    pytest.importorskip("threadpoolctl")
    source = f"""{imported}
{PRELUDE}
print(json.dumps([WorkerGroup(2, threads_per_worker=n).submit(here.blas_threads).result() for n in (1, 2)]))
"""
    one, two = json.loads(run(tmp_path, without_limits(source)))

    assert one
    assert set(one) == {1}
    assert set(two) <= {2, min(2, os.cpu_count() or 1)}


def test_changes_between_two_groups_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = WorkerGroup(2)
    before = first.submit(look).result(60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVE_X", "42")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "argv", ["prog", "--flag"])

    second = WorkerGroup(2)
    after = [future.result(60) for future in [second.submit(look) for _ in range(20)]]

    assert before["cwd"] != str(tmp_path)
    assert before["x"] is None
    for found in after:
        assert found["cwd"] == str(tmp_path)
        assert found["x"] == "42"
        assert str(tmp_path / "modules") in found["path"]
        assert found["argv"] == ["prog", "--flag"]
    # And the first group's tasks, in the same workers, go on as before.
    assert [first.submit(look).result(60)["cwd"] for _ in range(5)] == [before["cwd"]] * 5
    assert first.submit(look).result(60)["x"] is None


def test_a_module_that_a_later_import_path_brings_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    WorkerGroup(1).submit(look).result(60)
    (tmp_path / "live_late_module.py").write_text("def answer(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import live_late_module

    assert WorkerGroup(1).submit(live_late_module.answer, (41,)).result(60) == 42


def seeds() -> tuple[float, int]:
    import random

    return random.random(), os.getpid()


def test_workers_do_not_draw_the_same_random_numbers() -> None:
    group = WorkerGroup(4, initializer=len, initargs=("",))
    group.start()
    drawn = [group.submit(seeds).result(60) for _ in range(40)]

    assert len({number for number, _ in drawn}) == 40
    group.close()


def test_cpu_count_is_sane() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
