from __future__ import annotations

import pytest

from scalepool.bench import plan as plan_module
from scalepool.bench.model import Metric, Workload, on
from scalepool.bench.plan import Plan, Slot, UnknownNameError, select, why_not

NAMES = ("call-latency", "map", "executor-map")


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (None, NAMES),
        ("map", ("map",)),
        ("*map", ("map", "executor-map")),
        ("executor-map, call-*", ("call-latency", "executor-map")),
        ("MAP,map", ("map",)),
    ],
)
def test_patterns_choose_in_the_order_of_what_there_is(patterns: str | None, chosen: tuple[str, ...]) -> None:
    assert select(patterns, NAMES) == chosen


@pytest.mark.parametrize("patterns", ["reduce", "map,reduce", "", " , "])
def test_what_fits_nothing_is_an_error_that_lists_what_there_is(patterns: str) -> None:
    with pytest.raises(UnknownNameError, match="call-latency, map, executor-map"):
        select(patterns, NAMES)


def fake(name: str, needs: tuple[str, ...] = ()) -> Workload:
    adapters = on(("scalepool", "multiprocessing.Pool", "ray"), lambda run: None)
    return Workload(name, "a fake", (Metric("t", "s"),), adapters, {"tasks": 1}, {"tasks": 1}, needs=needs)


CATALOGUE = {"one": fake("one"), "two": fake("two")}


def make(rounds: int, *candidates: str) -> Plan:
    return Plan(("one", "two"), candidates, rounds, workers=2)


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "missing", lambda name: None)


@pytest.mark.usefixtures("all_installed")
def test_candidates_take_turns_and_each_round_begins_with_another() -> None:
    slots = list(make(3, "scalepool", "ray", "multiprocessing.Pool").slots(CATALOGUE))

    first = [(slot.round, slot.candidate) for slot in slots if slot.workload == "one"]
    assert first == [
        (0, "scalepool"), (0, "multiprocessing.Pool"), (0, "ray"),
        (1, "multiprocessing.Pool"), (1, "ray"), (1, "scalepool"),
        (2, "ray"), (2, "scalepool"), (2, "multiprocessing.Pool"),
    ]  # fmt: skip
    assert [slot.workload for slot in slots] == ["one"] * 9 + ["two"] * 9


@pytest.mark.usefixtures("all_installed")
def test_who_was_not_chosen_does_not_run() -> None:
    assert list(make(1, "scalepool").slots(CATALOGUE)) == [Slot("one", "scalepool", 0), Slot("two", "scalepool", 0)]


def test_who_is_not_installed_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "missing", lambda name: "not installed" if name == "ray" else None)

    slots = list(make(1, "scalepool", "ray").slots(CATALOGUE))

    assert {slot.candidate for slot in slots} == {"scalepool"}
    assert why_not(CATALOGUE["one"], "ray") == "not installed"


def test_what_a_workload_needs_is_needed_by_all() -> None:
    assert why_not(fake("x", needs=("no_such_module_here",)), "scalepool") == "no_such_module_here is not installed"
    assert why_not(fake("x", needs=("json",)), "scalepool") is None
