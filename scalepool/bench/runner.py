"""The loop over all runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from scalepool.bench.launch import Order, Outcome, carry_out
from scalepool.bench.plan import why_not
from scalepool.bench.tree import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalepool.bench.model import Workload
    from scalepool.bench.plan import Plan, Slot
    from scalepool.bench.report import Report

__all__ = ["Listener", "execute"]


class Listener(Protocol):
    """Who wants to know how far it has come."""

    def begin(self, slot: Slot) -> None:
        """A run begins (or is left out, as the candidate has failed before)."""

    def end(self, slot: Slot) -> None:
        """It is over."""

    def finished(self, workload: str) -> None:
        """Everything of this workload is in the report."""


def execute(
    plan: Plan,
    catalogue: Mapping[str, Workload],
    report: Report,
    listener: Listener,
    carry_out: Callable[[Order], Outcome] = carry_out,
) -> None:
    """Run a plan; ``report`` holds at any moment what there is, also when this is interrupted.

    A candidate that fails at a workload is not tried again there.
    """
    free = free_bytes()
    current: str | None = None
    for name in plan.workloads:
        for candidate in plan.takers(catalogue[name]):
            report.cell(name, candidate).problem = why_not(catalogue[name], candidate)
    for slot in plan.slots(catalogue):
        if current not in (None, slot.workload):
            listener.finished(str(current))
        current = slot.workload
        workload = catalogue[slot.workload]
        listener.begin(slot)
        if report.cell(slot.workload, slot.candidate).problem is None:
            sizes = workload.sizes(slot.candidate, quick=plan.quick, free_bytes=free)
            order = Order(
                slot.workload, slot.candidate, plan.workers, sizes, plan.timeout_s, watch_memory=workload.watch_memory
            )
            report.add(slot.workload, slot.candidate, carry_out(order))
        listener.end(slot)
    if current is not None:
        listener.finished(current)
