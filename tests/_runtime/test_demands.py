"""What users write about resources becomes a demand, or an error that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from scalepool._base.amounts import UNIT
from scalepool._core.resources import most_at_once
from scalepool._runtime.demands import capacity_of, check_fits, demand_of
from scalepool._runtime.remote import Options
from scalepool.config import settings
from scalepool.errors import ResourceError


def test_one_cpu_unless_said_otherwise() -> None:
    assert Options().demand.amounts == (("CPU", UNIT),)
    assert Options().updated({"num_cpus": 0}).demand.amounts == ()


def test_all_that_can_be_asked_for() -> None:
    options = Options().updated(
        {"num_cpus": 0.5, "num_gpus": 2, "resources": {"license": 1, "disk": 0.1}, "memory": "2 GB"}
    )
    amounts = {"CPU": UNIT // 2, "GPU": 2 * UNIT, "disk": UNIT // 10, "license": UNIT, "memory": 2_000_000_000 * UNIT}
    assert dict(options.demand.amounts) == amounts
    assert hash(options) == hash(options.updated({"num_cpus": 0.5}))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": "two"}, TypeError),
        ({"num_gpus": 1.5}, ValueError),
        ({"num_gpus": True}, TypeError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": ["license"]}, TypeError),
        ({"memory": "much"}, ValueError),
        ({"memory": -5}, ValueError),
        ({"memory": 1.5}, TypeError),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=next(iter(options))):
        Options().updated(options)


def test_what_a_session_has() -> None:
    own = settings({"num_cpus": 4, "num_gpus": 2, "resources": {"license": 3}, "memory": "8 GB"}, {})
    assert capacity_of(own) == {
        "CPU": 4 * UNIT, "GPU": 2 * UNIT, "memory": 8_000_000_000 * UNIT, "license": 3 * UNIT,
    }  # fmt: skip
    without = capacity_of(settings({}, {"SCALEPOOL_RESOURCES": "license=0.5"}))
    assert without["CPU"] >= UNIT
    assert without["memory"] > UNIT
    assert without["license"] == UNIT // 2
    assert "GPU" not in without


def test_more_than_there_ever_is() -> None:
    total = {"CPU": 2 * UNIT, "memory": 10 * UNIT}
    check_fits(demand_of(2, 0, None, 10), [("", total)], "f")
    with pytest.raises(ResourceError, match=r"f can never run: it needs 3 CPU, and the session has 2 CPU in all") as e:
        check_fits(demand_of(3, 0, None, None), [("", total)], "f")
    assert "init(num_cpus=" in str(e.value)
    with pytest.raises(ResourceError, match=r"needs 1 GPU, and the session has 0 GPU.*num_gpus="):
        check_fits(demand_of(1, 1, None, None), [("", total)], "f")
    with pytest.raises(ResourceError, match=r"2 license, and the session has 0 license.*resources=\{'license'"):
        check_fits(demand_of(1, 0, {"license": 2}, None), [("", total)], "f")


def test_how_many_run_at_once() -> None:
    total = {"CPU": 4 * UNIT, "GPU": 4 * UNIT, "license": UNIT, "memory": 0}
    counts = [
        most_at_once(demand_of(*asked, None), total)
        for asked in [(1, 0, None), (0.5, 0, None), (3, 0, None), (0, 0, None), (0.01, 0, None), (1, 0.25, None)]
    ]
    assert counts == [4, 8, 1, 40, 40, 4]
    assert most_at_once(demand_of(0, 2, None, None), total) == 2
    assert most_at_once(demand_of(0.1, 0, {"license": 1}, None), total) == 1
