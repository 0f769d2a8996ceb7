"""Amounts of resources are exact, and nonsense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from scalepool._base.amounts import UNIT, amount_text, amounts_text, json_text, named_units, resource_text, units


def test_ten_tenths_are_one() -> None:
    assert sum(units(0.1, "num_cpus") for _ in range(10)) == units(1, "num_cpus") == UNIT


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), 0.00001, 1e30])
def test_numbers_that_are_no_amounts(wrong: float) -> None:
    with pytest.raises(ValueError, match="num_cpus"):
        units(wrong, "num_cpus")


@pytest.mark.parametrize("wrong", ["1", None, True])
def test_what_is_no_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="num_cpus"):
        units(wrong, "num_cpus")


def test_resources_by_name() -> None:
    assert named_units({"b": 1, "a": 0.5, "none": 0}, "resources") == {"a": UNIT // 2, "b": UNIT}
    assert list(named_units({"b": 1, "a": 0.5}, "resources")) == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "kind", "why"),
    [
        ({"CPU": 1}, ValueError, "use num_cpus="),
        ({"GPU": 1}, ValueError, "use num_gpus="),
        ({"memory": 1}, ValueError, "use memory="),
        ({1: 1}, TypeError, "names as its keys"),
        ({" ": 1}, TypeError, "names as its keys"),
        (5, TypeError, "dict of names and numbers"),
        ({"a": "1"}, TypeError, r"resources\['a'\]"),
    ],
)
def test_resources_that_are_none(wrong: Any, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        named_units(wrong, "resources")


@pytest.mark.parametrize(
    "text", [{"license": 2, "disk": 0.5}, "license=2, disk=0.5", '{"license": 2, "disk": 0.5}', "disk=0.5,license=2,"]
)
def test_resources_as_a_setting(text: Any) -> None:
    assert resource_text(text, "SCALEPOOL_RESOURCES") == '{"disk": 0.5, "license": 2.0}'


@pytest.mark.parametrize("wrong", ["license", "license=", "license=two", '{"license":', "=2"])
def test_texts_that_are_no_resources(wrong: str) -> None:
    with pytest.raises((TypeError, ValueError), match="SCALEPOOL_RESOURCES"):
        resource_text(wrong, "SCALEPOOL_RESOURCES")


def test_labels_as_a_setting() -> None:
    assert json_text({"zone": "a"}, "labels") == json_text('{"zone": "a"}', "labels") == '{"zone": "a"}'
    assert json_text({}, "labels") == ""
    with pytest.raises(TypeError, match="labels"):
        json_text({"zone": 1}, "labels")


def test_amounts_as_people_write_them() -> None:
    assert amount_text("CPU", 5000) == "0.5"
    assert amount_text("CPU", -UNIT) == "-1"
    assert amount_text("memory", 1_500_000_000 * UNIT) == "1.5 GB"
    assert amount_text("memory", 12 * UNIT) == "12"
    assert amounts_text({"CPU": 2 * UNIT, "license": 5000}) == "CPU: 2, license: 0.5"
    assert amounts_text({}) == "nothing"
