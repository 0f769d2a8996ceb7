"""A profile as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from scalepool.bench.profile.stages import STAGES
from scalepool.bench.table import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from scalepool.bench.profile.measure import Profile

__all__ = ["view"]

_TITLES: Final = {
    "submissions": "calls submitted one by one, then all results read",
    "calls": "one call after the other, each waited for",
}
_SIDES: Final = ("driver", "worker")


def view(profiles: Sequence[Profile]) -> RenderableType:
    """Return the tables of some profiles, with how to read them."""
    parts: list[RenderableType] = []
    for profile in profiles:
        parts.extend([_title(profile), _table(profile), Text()])
    parts.append(
        Text(
            "Times are each stage's own, without the stages inside it and without the profiler's cost. CPU time is "
            "that of the run without profiler; stages that would add up to more, as they do where processes wait for "
            "a core, are scaled down to it. Between: CPU time in no stage, such as the interpreter's own and that of "
            "the transport's threads.",
            style="dim",
        )
    )
    return Group(*parts)


def _title(profile: Profile) -> Text:
    unit = "median of one call" if profile.kind == "calls" else "per task from first to last"
    return Text.assemble(
        (profile.kind, "bold"),
        f"  {_TITLES[profile.kind]}; {profile.tasks:,} tasks, {profile.workers} workers\n",
        f"  {number(profile.wall)} us {unit} ({number(profile.profiled_wall)} while profiled)",
    )


def _table(profile: Profile) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", width=12, no_wrap=True)
    for title, width in (("us/task", 8), ("%", 3), ("calls/task", 10)):
        table.add_column(title, width=width, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    cpu_us = sum(profile.cpu.values())
    for side in _SIDES:
        factor = profile.scale(side)
        table.add_row(f"  {side}", style="italic")
        for stage in (stage for stage in STAGES if stage.side == side):
            spent_us, calls = profile.stages[side, stage.name]
            if stage.idle:
                table.add_row(f"    {stage.name}", number(spent_us), "", f"{calls:.2f}", stage.what, style="dim")
            else:
                own_us = factor * spent_us
                share = f"{100 * own_us / cpu_us:.0f}" if cpu_us else ""
                table.add_row(f"    {stage.name}", number(own_us), share, f"{calls:.2f}", stage.what)
        between_us = max(0.0, profile.cpu[side] - profile.busy_us(side))
        table.add_row("    between", number(between_us), f"{100 * between_us / cpu_us:.0f}" if cpu_us else "")
        table.add_row("    CPU time", number(profile.cpu[side]), style="bold")
    return table
