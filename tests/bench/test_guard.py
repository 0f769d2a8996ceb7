"""CPU time per task, all processes together, as a ratio to ``multiprocessing.Pool`` in the same run.

The clock is not asked, so a busy machine disturbs little. The bounds are generous: what breaks one is a change that
costs a third or more. Run with ``python -m pytest -m bench tests/bench``.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from scalepool.bench.launch import Order, carry_out
from scalepool.bench.tree import free_bytes
from scalepool.bench.workloads import WORKLOADS

pytestmark = [pytest.mark.bench, pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]

PEER = "multiprocessing.Pool"
ROUNDS = 5
WORKERS = 2


@dataclass(frozen=True)
class Guard:
    """A workload and the most CPU time per task that we may use, as a multiple of the peer's."""

    workload: str
    most: float


GUARDS = (
    Guard("single-submissions", 1.0),
    Guard("map", 1.8),
    Guard("imap-unordered", 1.3),
    Guard("call-latency", 2.2),
    Guard("array-results", 0.8),
)


def cpu_us_per_task(workload: str, candidate: str) -> float:
    sizes = WORKLOADS[workload].sizes(candidate, quick=True, free_bytes=free_bytes())
    outcome = carry_out(Order(workload, candidate, WORKERS, sizes, timeout_s=60.0))
    assert outcome.problem is None, f"{candidate}: {outcome.problem}"
    assert outcome.cpu_s is not None
    return outcome.cpu_s / outcome.tasks * 1e6


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.workload)
def test_cpu_time_per_task(guard: Guard, record_property: pytest.FixtureRequest) -> None:
    rounds = [
        {candidate: cpu_us_per_task(guard.workload, candidate) for candidate in ("scalepool", PEER)}
        for _ in range(ROUNDS)
    ]
    # The least is what the work itself costs; whatever else the machine does only adds to it.
    ours, theirs = (min(one[candidate] for one in rounds) for candidate in ("scalepool", PEER))
    ratio = ours / theirs
    print(f"{guard.workload}: {ours:.2f} us of CPU per task, {PEER} {theirs:.2f}, ratio {ratio:.2f}")

    assert ratio <= guard.most
