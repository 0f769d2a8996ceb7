"""What the log of a head says of who comes and goes."""

from __future__ import annotations

from typing import Any

from _core.heads import A1, A2, D1, Head, opened
from scalepool._core.attendance import Attendance
from scalepool._wire import cluster as c


def node(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"node": number, "host": name, "slots": 4, "away": False, "leaving": False, **more}


def driver(number: int, name: str, *, away: bool = False) -> dict[str, Any]:
    return {"session": number, "host": "" if away else name, "away": away}


def look(attendance: Attendance, *nodes: dict[str, Any], drivers: tuple[dict[str, Any], ...] = ()) -> list[str]:
    return attendance.look({"nodes": list(nodes), "drivers": list(drivers)})


def test_hosts_that_join_and_go() -> None:
    attendance = Attendance()
    assert look(attendance) == []
    assert look(attendance, node(1, "a")) == ["host a joined: 1 host with 4 slots now"]
    assert look(attendance, node(1, "a")) == []
    assert look(attendance, node(1, "a"), node(2, "b")) == ["host b joined: 2 hosts with 8 slots now"]
    assert look(attendance, node(2, "b")) == ["host a is gone: 1 host with 4 slots now"]
    assert look(attendance) == ["host b is gone: 0 hosts with 0 slots now"]


def test_hosts_that_are_waited_for_or_leave() -> None:
    attendance = Attendance()
    look(attendance, node(1, "a"))
    assert look(attendance, node(1, "a", away=True)) == ["host a is cut off, and is waited for"]
    assert look(attendance, node(1, "a", away=True)) == []
    assert look(attendance, node(1, "a")) == ["host a is back"]
    assert look(attendance, node(1, "a", leaving=True)) == ["host a is leaving: it gets no more work"]
    assert look(attendance, node(1, "a", leaving=True)) == []


def test_programs() -> None:
    attendance = Attendance()
    assert look(attendance, drivers=(driver(7, "desk"),)) == ["program 7 on desk came"]
    assert look(attendance, drivers=(driver(7, "desk", away=True),)) == [
        "program 7 on desk is cut off, and is waited for"
    ]
    assert look(attendance, drivers=(driver(7, "desk"),)) == ["program 7 on desk is back"]
    assert look(attendance) == ["program 7 on desk has ended"]


def test_it_reads_what_a_head_reports() -> None:
    head, attendance = Head(), Attendance()
    for link in (A1, A2, D1):
        head.hello(link)
    head.say(A1, c.Offer(2, 100, b"one"))
    number = opened(head, D1)
    came, began = attendance.look(head.board.report())
    assert came == "host one joined: 1 host with 2 slots now"
    assert began.startswith(f"program {number} on ")
    assert began.endswith(" came")
    head.board.lose(A1, "gone")
    assert attendance.look(head.board.report()) == ["host one is gone: 0 hosts with 0 slots now"]
