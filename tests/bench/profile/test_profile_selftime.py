from __future__ import annotations

import time

from scalepool.bench.profile import selftime
from scalepool.bench.profile.selftime import Recorder, install
from scalepool.bench.profile.stages import Place


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_time_counts_for_the_innermost_wrapped_function() -> None:
    recorder = Recorder()
    inner = recorder.wrap("inner", spin)

    def both() -> None:
        spin(0.01)
        inner(0.03)

    recorder.wrap("outer", both)()
    totals = recorder.totals()

    assert totals["inner"][1] == totals["outer"][1] == 1
    assert totals["inner"][0] >= 0.0299e9
    assert totals["outer"][0] >= 0.0099e9
    assert totals["outer"][0] + totals["inner"][0] >= 0.0399e9


def test_an_error_passes_and_is_counted() -> None:
    recorder = Recorder()

    def fail() -> None:
        raise LookupError

    wrapped = recorder.wrap("x", fail)
    for _ in range(2):
        try:
            wrapped()
        except LookupError:
            continue
        raise AssertionError("the error was swallowed")
    assert recorder.totals()["x"][1] == 2
    assert recorder._thread.open == []


def test_reset_forgets() -> None:
    recorder = Recorder()
    recorder.wrap("x", spin)(0.001)
    recorder.reset()

    assert recorder.totals() == {"x": (0, 0)}


def test_the_wrappers_cost_is_known_and_small() -> None:
    recorder = Recorder()

    assert 0 < recorder.inner_ns < 100_000
    assert 0 <= recorder.outer_ns < 100_000  # 0 where the clock was too coarse for the difference
    assert recorder.totals() == {}


def test_a_functions_every_name_in_the_package_is_replaced(monkeypatch: object) -> None:
    class Owner:
        def method(self) -> str:
            return "method"

    original = selftime._loop_ns
    recorder = Recorder()
    try:
        install(recorder, [("m", Place(Owner, "method", Owner.method)), ("f", Place(selftime, "_loop_ns", original))])
        assert selftime._loop_ns is not original
        assert Owner().method() == "method"
        assert selftime._loop_ns(lambda: None) > 0
    finally:
        selftime._loop_ns = original
    totals = recorder.totals()
    assert (totals["m"][1], totals["f"][1]) == (1, 1)
