from __future__ import annotations

import pytest

from scalepool.bench.model import Metric, Target, Workload, on


def workload(**changes: object) -> Workload:
    given: dict[str, object] = {
        "name": "w",
        "what": "something",
        "metrics": (Metric("rate", "tasks/s", "higher"),),
        "adapters": on(("scalepool", "ray"), lambda run: None),
        "full": {"tasks": 1000, "array_bytes": 1_000_000_000},
        "quick": {"tasks": 10, "array_bytes": 8_000_000},
        "fewer": {"ray": 100},
    }
    return Workload(**(given | changes))  # type: ignore[arg-type]


def test_sizes_are_full_or_quick() -> None:
    assert workload().sizes("scalepool", quick=False, free_bytes=1 << 40)["tasks"] == 1000
    assert workload().sizes("scalepool", quick=True, free_bytes=1 << 40)["tasks"] == 10


def test_who_is_slow_gets_fewer_tasks_but_at_least_one() -> None:
    assert workload().sizes("ray", quick=False, free_bytes=1 << 40)["tasks"] == 10
    assert workload().sizes("ray", quick=True, free_bytes=1 << 40)["tasks"] == 1


def test_bytes_are_cut_to_an_eighth_of_the_free_memory() -> None:
    assert workload().sizes("scalepool", quick=False, free_bytes=800_000_000)["array_bytes"] == 100_000_000
    assert workload().sizes("scalepool", quick=True, free_bytes=800_000_000)["array_bytes"] == 8_000_000


@pytest.mark.parametrize(
    "changes",
    [{"targets": (Target("latency", 1.0),)}, {"metrics": ()}, {"quick": {"tasks": 1}}],
    ids=["target of no metric", "no metric", "sizes that differ in name"],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="does not fit together"):
        workload(**changes)


def test_a_metric_is_found_by_name() -> None:
    assert workload().metric("rate").unit == "tasks/s"
    with pytest.raises(KeyError):
        workload().metric("nothing")
