from __future__ import annotations

import pytest
from bench_reports import CATALOGUE

from scalepool.bench import plan as plan_module
from scalepool.bench import runner
from scalepool.bench.launch import Order, Outcome
from scalepool.bench.plan import Plan, Slot
from scalepool.bench.report import Report


class Notes:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.begun: list[Slot] = []
        self.ended: list[Slot] = []
        self.done: list[str] = []

    def begin(self, slot: Slot) -> None:
        self.begun.append(slot)

    def end(self, slot: Slot) -> None:
        self.ended.append(slot)

    def finished(self, workload: str) -> None:
        self.done.append(workload)


PLAN = Plan(("latency", "rate"), ("scalepool", "serial"), rounds=2, workers=3, timeout_s=9.0)


@pytest.fixture(autouse=True)
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "missing", lambda name: None)


def test_every_slot_runs_and_every_workload_is_reported_when_done() -> None:
    orders: list[Order] = []
    notes, report = Notes(), Report.begin(PLAN)

    def carry_out(order: Order) -> Outcome:
        orders.append(order)
        return Outcome({CATALOGUE[order.workload].metrics[0].name: 1.0})

    runner.execute(PLAN, CATALOGUE, report, notes, carry_out)

    assert [(order.workload, order.candidate) for order in orders] == [
        ("latency", "scalepool"), ("latency", "serial"), ("latency", "serial"), ("latency", "scalepool"),
        ("rate", "scalepool"), ("rate", "serial"), ("rate", "serial"), ("rate", "scalepool"),
    ]  # fmt: skip
    assert {(order.workers, order.timeout_s) for order in orders} == {(3, 9.0)}
    assert notes.begun == notes.ended == list(PLAN.slots(CATALOGUE))
    assert notes.done == ["latency", "rate"]
    assert all(len(cell.rounds) == 2 and cell.problem is None for cell in report.cells)


def test_who_fails_is_not_tried_again_there() -> None:
    orders: list[str] = []
    report = Report.begin(PLAN)

    def carry_out(order: Order) -> Outcome:
        orders.append(f"{order.workload} {order.candidate}")
        problem = "broken" if order.candidate == "serial" and order.workload == "latency" else None
        return Outcome({}, problem=problem)

    runner.execute(PLAN, CATALOGUE, report, Notes(), carry_out)

    assert orders.count("latency serial") == 1
    assert orders.count("latency scalepool") == orders.count("rate serial") == 2
    assert report.cell("latency", "serial").problem == "broken"


def test_an_interrupt_leaves_what_there_is() -> None:
    report = Report.begin(PLAN)
    outcomes = iter([Outcome({"p50": 1.0}), Outcome({"p50": 2.0})])

    def carry_out(order: Order) -> Outcome:
        try:
            return next(outcomes)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        runner.execute(PLAN, CATALOGUE, report, Notes(), carry_out)

    assert sum(len(cell.rounds) for cell in report.cells) == 2


def test_who_is_not_here_is_told_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "missing", lambda name: "not installed" if name == "serial" else None)
    report = Report.begin(PLAN)

    runner.execute(PLAN, CATALOGUE, report, Notes(), lambda order: Outcome({}))

    assert report.cell("rate", "serial").problem == "not installed"
    assert report.cell("rate", "serial").rounds == []
