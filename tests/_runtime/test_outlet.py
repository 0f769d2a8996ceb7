"""What was printed, on its way to the hub: how much of it is kept, and what happens to the rest."""

from __future__ import annotations

import threading

import pytest

from scalepool._runtime import outlet as module
from scalepool._runtime.outlet import Outlet

LINE = "x" * 9 + "\n"


class Hub:
    """What has been sent to it, and it has not taken."""

    def __init__(self) -> None:
        self.unsent_bytes = 0

    def take_from(self, outlet: Outlet) -> list[tuple[int, str, int]]:
        pieces = []
        while (piece := outlet.take()) is not None:
            pieces.append(piece)
            self.unsent_bytes += len(piece[1])
        return pieces


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT_BYTES", 1000)
    monkeypatch.setattr(module, "_PIECE", 100)
    monkeypatch.setattr(module, "_JOIN", 50)


def test_pieces_that_belong_together_go_together_and_no_others() -> None:
    outlet = Outlet()
    assert not outlet
    assert outlet.take() is None
    for stream, text, task in [(1, "a", 0), (1, "b", 0), (2, "c", 0), (2, "d", 7), (2, LINE * 5, 7), (2, "e", 7)]:
        outlet.put(stream, text, task)
    assert outlet
    expected = [(1, "ab", 0), (2, "c", 0), (2, "d" + LINE * 5, 7), (2, "e", 7)]
    assert list(iter(outlet.take, None)) == expected
    assert not outlet


def test_long_text_is_cut_at_the_ends_of_lines_where_it_has_some() -> None:
    outlet = Outlet()
    outlet.put(1, "first\n" + LINE * 30 + "end", 3)
    pieces = list(iter(outlet.take, None))
    assert "".join(text for _, text, _ in pieces) == "first\n" + LINE * 30 + "end"
    assert all(len(text) <= 100 for _, text, _ in pieces)
    assert all(text.endswith("\n") for _, text, _ in pieces[:-1])
    assert {(stream, task) for stream, _, task in pieces} == {(1, 3)}
    outlet.put(1, "y" * 250, 0)
    assert [len(text) for _, text, _ in iter(outlet.take, None)] == [100, 100, 50]


def test_what_is_too_much_is_dropped_and_told_for_each_stream_and_task() -> None:
    hub = Hub()
    outlet = Outlet(lambda: hub.unsent_bytes)
    outlet.put(1, LINE * 101, 4)
    assert outlet.is_full
    outlet.put(1, LINE, 4)
    outlet.put(2, LINE * 2, 0)
    outlet.put(3, "a record\n", 0)
    outlet.put(1, LINE, 4)
    assert sum(len(text) for _, text, _ in hub.take_from(outlet)) == 1010
    assert outlet.is_full  # the hub has taken nothing
    assert hub.take_from(outlet) == []
    hub.unsent_bytes = 0
    dropped = "... %d characters dropped: written faster than they could be shown\n"
    assert hub.take_from(outlet) == [(1, dropped % 20, 4), (2, dropped % 20, 0), (2, dropped % 9, 0)]
    outlet.put(2, LINE, 0)
    assert hub.take_from(outlet) == [(2, LINE, 0)]


def test_what_was_dropped_is_told_before_what_comes_next() -> None:
    outlet = Outlet()
    outlet.put(1, LINE * 101, 0)
    outlet.put(1, LINE, 0)
    for _ in range(3):
        outlet.take()
    outlet.put(1, "next\n", 0)
    rest = "".join(text for _, text, _ in iter(outlet.take, None))
    assert rest.endswith("... 10 characters dropped: written faster than they could be shown\nnext\n")


def test_who_may_waits_for_room() -> None:
    hub, may_wait = Hub(), threading.Event()
    outlet = Outlet(lambda: hub.unsent_bytes, may_wait.is_set)
    hub.unsent_bytes = 1001
    outlet.wait_for_room()  # may not
    may_wait.set()
    waiter = threading.Thread(target=outlet.wait_for_room)
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    hub.unsent_bytes = 10
    waiter.join(20)
    assert not waiter.is_alive()
    hub.unsent_bytes = 1001
    waiter = threading.Thread(target=outlet.wait_for_room)
    waiter.start()
    may_wait.clear()  # nobody sends any more
    waiter.join(20)
    assert not waiter.is_alive()
