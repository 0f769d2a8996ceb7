from __future__ import annotations

import json
import os

import pytest
from bench_fakes import WORKLOADS

from scalepool.bench import run_one
from scalepool.bench.run import Run, WrongResultError
from scalepool.bench.tasks import add_one, busy, meet, row_of_global, wait_for_file


def test_a_section_measures_time_and_cpu_time_of_its_tasks() -> None:
    run = Run("serial", 1, {})
    with run.timed(5) as section:
        busy(0.02)

    assert section.wall_s >= 0.02
    assert section.cpu_s > 0.0
    assert run.section is section
    assert (run.tasks, run.memory_bytes > 1_000_000) == (5, True)
    with run.timed(7, main=False):
        pass
    assert (run.section, run.tasks) == (section, 5)


def test_a_driver_is_opened_by_the_candidates_name() -> None:
    with Run("serial", 1, {}).open() as driver:
        assert driver.map(add_one, [1, 2]) == [2, 3]


def test_an_expectation_that_fails_shows_both_shortly() -> None:
    run = Run("serial", 1, {})
    run.expect([1], [1], "list")
    with pytest.raises(WrongResultError, match=r"^sum: 1 instead of 2$"):
        run.expect(1, 2, "sum")
    with pytest.raises(WrongResultError) as caught:
        run.expect(list(range(1000)), [], "list")
    assert len(str(caught.value)) < 100


def test_the_answer_is_one_line_of_json_on_its_descriptor() -> None:
    reader, writer = os.pipe()
    order = {
        "catalogue": "bench_fakes:WORKLOADS",
        "workload": "wrong",
        "candidate": "serial",
        "workers": 1,
        "sizes": {},
    }
    try:
        assert run_one.main([json.dumps(order), str(writer)]) == 0
        assert not os.get_inheritable(writer)
        line = os.read(reader, 1 << 16)
    finally:
        os.close(reader)
        os.close(writer)

    assert line.endswith(b"\n")
    assert json.loads(line) == {"error": "wrong result: results: [1, 2, 3] instead of [1, 2, 4]"}
    assert WORKLOADS["wrong"].adapters


def test_who_meets_waits_for_as_many_as_were_asked(tmp_path: pytest.TempPathFactory) -> None:
    assert meet(str(tmp_path), 1) == os.getpid()


def test_a_gate_opens_when_the_file_is_there(tmp_path: pytest.TempPathFactory) -> None:
    assert wait_for_file(str(tmp_path))


def test_a_row_of_a_global_array_is_that_of_the_array() -> None:
    np = pytest.importorskip("numpy", exc_type=ImportError)
    from scalepool.bench import tasks

    tasks.hold(np.arange(6.0).reshape(2, 3))
    assert row_of_global(1) == 12.0
    assert row_of_global(2) == 3.0
