"""What a driver says of tasks that nobody runs, in words and numbers."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._core.backlog import Held
from scalepool._runtime import overview
from scalepool._runtime.overview import FOUND, REQUEST, Overview, summary
from scalepool._runtime.slots import WAITING, Slot
from scalepool.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = {number: Slot(number, number, name, WAITING) for number, name in ((1, "fit"), (2, "score"), (3, "score"))}


def test_tasks_are_counted_by_name_and_by_what_they_wait_for() -> None:
    held = [Held(2, "", "", (1, 99)), Held(3, "", "", (1, 98)), Held(50, "", "a free worker", (), False)]
    held += [Held(60, "Counter", "earlier calls of the actor"), Held(61, "", "a free worker")]

    lines, more = summary(iter(held), SLOTS)

    assert more == 0
    assert [(one["name"], one["count"], one["reason"]) for one in lines] == [
        ("score", 2, "what fit, a task of another process returns"),
        ("calls of pools and executors", 1, "a free worker"),
        ("Counter's methods", 1, "earlier calls of the actor"),
        ("tasks of other processes", 1, "a free worker"),
    ]


def test_what_is_beyond_the_limits_is_counted_as_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_TASKS_MAX", 30)
    monkeypatch.setattr(overview, "_LINES_MAX", 10)
    lines, more = summary((Held(2, "", f"reason {number}") for number in range(40)), SLOTS)
    assert (len(lines), more) == (10, 30)


class Asked:
    """An overview, and who asks it."""

    def __init__(self, held: list[Held]) -> None:
        hub: Any = SimpleNamespace(held_back=lambda: iter(held))
        client: Any = SimpleNamespace(kept=SimpleNamespace(table=SLOTS))
        self.overview = Overview(hub, client)
        self.now = time.monotonic() + 10.0
        self.overview.look(self.now)

    def answer(self) -> dict[str, Any]:
        fd = self.overview._fd
        number = os.urandom(8)
        os.pwrite(fd, number, REQUEST.start)
        self.now += 10.0
        self.overview.look(self.now)
        assert os.pread(fd, 8, 8) == number
        found: dict[str, Any] = json.loads(os.pread(fd, FOUND.stop - FOUND.start, FOUND.start).rstrip(b"\0"))
        return found


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked([Held(2, "", f"reason {number} {'x' * 500}") for number in range(50)])
    yield asked
    asked.overview.close()


def test_an_answer_that_is_too_long_is_cut(asked: Asked) -> None:
    found = asked.answer()
    assert 0 < len(found["waiting"]) < 50
    assert found["more"] == 50 - len(found["waiting"])
    assert found["pid"] == os.getpid()


def test_hosts_are_told_and_trouble_is(asked: Asked) -> None:
    asked.overview.hosts = lambda: {"beta": [1, 2]}
    assert asked.answer()["hosts"] == {"beta": [1, 2]}

    def fail() -> dict[str, list[int]]:
        raise RuntimeError("changed meanwhile")

    asked.overview.hosts = fail
    assert "changed meanwhile" in asked.answer()["note"]


def test_a_session_without_memory_for_the_file_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, size_bytes: int) -> int:
        raise StoreError("no memory")

    monkeypatch.setattr(overview, "anonymous_file", refuse)
    asked = Asked([])
    assert asked.overview.due_at == float("inf")
    asked.overview.close()
