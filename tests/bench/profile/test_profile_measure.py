from __future__ import annotations

import pytest

from scalepool.bench.launch import Outcome
from scalepool.bench.profile import measure as measure_module
from scalepool.bench.profile.measure import ProfileError, measure
from scalepool.bench.profile.stages import STAGES


@pytest.mark.live
@pytest.mark.slow
def test_stages_of_driver_and_workers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "KINDS", {"submissions": 2000, "calls": 100})
    submissions, calls = measure(2)

    for profile in (submissions, calls):
        silent = [key for key, (_, number) in profile.stages.items() if number == 0]
        assert silent == [], f"no call of {silent}: have its functions moved?"
        assert profile.cpu["driver"] > 0
        assert profile.cpu["worker"] > 0
        assert profile.wall > 0
    assert set(calls.stages) == {(stage.side, stage.name) for stage in STAGES}
    # each task is pickled once by the driver, run and answered once by a worker, and read once
    for key in (
        ("driver", "encode"),
        ("driver", "result"),
        ("worker", "run"),
        ("worker", "decode"),
        ("worker", "result"),
    ):
        assert submissions.stages[key][1] == pytest.approx(1.0, abs=0.05)


def test_a_run_that_fails_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "carry_out", lambda order: Outcome({}, problem="it broke"))
    with pytest.raises(ProfileError, match="it broke"):
        measure(1)
