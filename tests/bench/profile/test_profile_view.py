from __future__ import annotations

import io

from rich.console import Console

from scalepool.bench.profile.measure import Profile
from scalepool.bench.profile.stages import STAGES
from scalepool.bench.profile.view import view


def profile(spent_us: float, cpu_us: float) -> Profile:
    stages = {(stage.side, stage.name): (spent_us, 1.0) for stage in STAGES}
    return Profile("submissions", 1000, 2, stages, {"driver": cpu_us, "worker": cpu_us}, wall=10.0, profiled_wall=12.0)


def working(side: str) -> int:
    return sum(stage.side == side and not stage.idle for stage in STAGES)


def test_what_fits_into_the_cpu_time_is_shown_as_it_is() -> None:
    measured = profile(1.0, 100.0)

    assert measured.scale("driver") == 1.0
    assert measured.busy_us("driver") == working("driver")


def test_what_does_not_is_scaled_down_to_it() -> None:
    measured = profile(10.0, 20.0)

    assert measured.busy_us("worker") == 20.0
    assert measured.scale("worker") == 20.0 / (10.0 * working("worker"))


def test_the_table_fits_and_adds_up() -> None:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    console.print(view([profile(1.0, 100.0)]))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()

    assert max(len(line.rstrip()) for line in lines) <= 100
    assert not any("…" in line for line in lines)
    between = [line.split()[1] for line in lines if line.strip().startswith("between")]
    assert between == [f"{100 - working('driver')}", f"{100 - working('worker')}"]
