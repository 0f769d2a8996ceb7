"""What the log of a head says of hosts and programs that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Attendance"]

_Seen = tuple[str, dict[str, Any]]
"""Who it is, and what the report says of him."""


class Attendance:
    """Compares each report of a cluster with the one before."""

    __slots__ = ("_hosts", "_programs")

    def __init__(self) -> None:
        self._hosts: dict[int, _Seen] = {}
        self._programs: dict[int, _Seen] = {}

    def look(self, report: dict[str, Any]) -> list[str]:
        """Take in the next report, see `Switchboard.report`; return what is new, a line each."""
        nodes = report["nodes"]
        hosts = {node["node"]: (f"host {node['host']}", node) for node in nodes}
        programs = {driver["session"]: (self._program(driver), driver) for driver in report["drivers"]}
        slots = sum(node["slots"] for node in nodes)
        there = f": {len(hosts)} host{'' if len(hosts) == 1 else 's'} with {slots} slots now"
        lines = [
            *_changes(self._hosts, hosts, "joined" + there, "is gone" + there),
            *_changes(self._programs, programs, "came", "has ended"),
        ]
        self._hosts, self._programs = hosts, programs
        return lines

    def _program(self, driver: dict[str, Any]) -> str:
        number = driver["session"]
        known = self._programs.get(number)  # of one that is cut off it is no longer known where it is
        return f"program {number} on {driver['host']}" if known is None else known[0]


def _changes(before: dict[int, _Seen], now: dict[int, _Seen], came: str, went: str) -> Iterable[str]:
    for number, (who, state) in now.items():
        if number not in before:
            yield f"{who} {came}"
            continue
        was = before[number][1]
        if state["away"] != was["away"]:
            yield f"{who} {'is cut off, and is waited for' if state['away'] else 'is back'}"
        if state.get("leaving", False) and not was["leaving"]:
            yield f"{who} is leaving: it gets no more work"
    for number, (who, _) in before.items():
        if number not in now:
            yield f"{who} {went}"
