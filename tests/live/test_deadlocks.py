"""Waits that could never end are errors, and those that could are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live.helpers import wait_for
from live.waiting_actors import AsyncWaiter, Waiter, asks
from scalepool.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live


_made: list[Any] = []


@pytest.fixture(autouse=True)
def nobody_stays() -> Iterator[None]:
    """Actors that have each other's handles live as long as their session."""
    yield
    while _made:
        scalepool.kill(_made.pop())


def couple(one_class: Any = Waiter, other_class: Any = Waiter) -> tuple[Any, Any]:
    one, other = one_class.remote(), other_class.remote()
    _made.extend((one, other))
    scalepool.get([one.meet.remote(other, one), other.meet.remote(one, other)])
    return one, other


@pytest.mark.parametrize("how", ["get", "wait", "as_completed", "stream"])
def test_for_oneself(how: str) -> None:
    one, _ = couple()
    with pytest.raises(DeadlockError):
        scalepool.get(one.ask_myself.remote(how), timeout=60)
    assert scalepool.get(one.plain.remote(), timeout=60) == "plain"


def test_with_a_timeout_it_is_none() -> None:
    one, _ = couple()
    assert scalepool.get(one.ask_myself.remote("timeout"), timeout=60) == []


def test_two_that_wait_for_each_other() -> None:
    one, other = couple()
    refs = [one.ask.remote("ask_back"), other.ask.remote("ask_back")]
    found = []
    for ref in refs:
        try:
            found.append(scalepool.get(ref, timeout=60))
        except DeadlockError as error:
            found.append("deadlock")
            text = str(error)
            assert "Waiter.ask" in text
            assert "the actor Waiter" in text
            assert "max_concurrency" in text
    assert "deadlock" in found
    assert scalepool.get([one.plain.remote(), other.plain.remote()], timeout=60) == ["plain"] * 2


def test_one_that_is_asked_back() -> None:
    one, _ = couple()
    with pytest.raises(
        DeadlockError, match=r"Waiter.ask_back .* waits for Waiter.plain, and Waiter.ask .* Waiter.ask_back"
    ):
        scalepool.get(one.ask.remote("ask_back"), timeout=60)


def test_three_in_a_ring() -> None:
    actors = [Waiter.options(name=f"ring-{n}").remote() for n in range(3)]
    _made.extend(actors)
    for n in range(3):
        actors[n].meet.remote(actors[(n + 1) % 3], actors[n])
    with pytest.raises(DeadlockError, match="'ring-0'") as caught:
        scalepool.get(actors[0].ask.remote("ask_round"), timeout=60)
    assert all(f"ring-{n}" in str(caught.value) for n in range(3))


def test_through_a_task_and_through_what_a_call_needs() -> None:
    one, _ = couple()
    one.meet.remote(one, one)
    with pytest.raises(DeadlockError, match="waits for"):
        scalepool.get(one.through_a_task.remote("plain"), timeout=60)
    one, _ = couple()
    with pytest.raises(DeadlockError):
        scalepool.get(one.ask_after.remote("plain"), timeout=60)
    assert scalepool.get(one.plain.remote(), timeout=60) == "plain"


def test_with_threads_it_takes_as_many_calls() -> None:
    one, _ = couple(Waiter.options(max_concurrency=2))
    assert scalepool.get(one.ask_myself.remote("get"), timeout=60) == "plain"
    assert scalepool.get(one.ask.remote("ask_back"), timeout=60) == "plain"
    found = []
    for ref in [one.ask_myself.remote("get", "plain") for _ in range(20)]:
        try:
            found.append(scalepool.get(ref, timeout=60))
        except DeadlockError as error:
            assert "Waiter.ask_myself" in str(error)
            found.append("deadlock")
    assert set(found) <= {"plain", "deadlock"}
    assert scalepool.get(one.plain.remote(), timeout=60) == "plain"


def test_on_event_loops() -> None:
    one, other = couple(AsyncWaiter, AsyncWaiter)
    assert scalepool.get(one.awaits.remote("ask_back"), timeout=60) == "plain"
    with pytest.raises(DeadlockError, match="AsyncWaiter"):
        scalepool.get(one.blocks.remote("ask_back"), timeout=60)
    assert scalepool.get([one.plain.remote(), other.plain.remote()], timeout=60) == ["plain"] * 2


def test_waits_that_can_end_do() -> None:
    one, other = couple()
    assert scalepool.get(one.ask.remote("plain"), timeout=60) == "plain"
    assert scalepool.get(one.in_time.remote("ask_back", 1.0), timeout=60) == "too late"
    assert scalepool.get(one.wait_for_any.remote(other.plain), timeout=60) is True
    assert scalepool.get(asks.remote(one, "plain"), timeout=60) == "plain"
    assert scalepool.get([asks.remote(one, "ask_back") for _ in range(5)], timeout=60) == ["plain"] * 5


def test_a_thread_that_outlives_the_method_that_started_it() -> None:
    one, _ = couple()
    one.begin.remote("plain")
    wait_for(lambda: scalepool.get(one.finished.remote(), timeout=60) == ["plain"])


def test_a_kill_ends_a_wait_as_before() -> None:
    one, other = couple()
    slow = other.in_time.remote("ask_back", 0.3)
    ref = one.ask.remote("plain")
    scalepool.kill(other)
    with pytest.raises(scalepool.ActorDiedError):
        scalepool.get(ref, timeout=60)
    with pytest.raises(scalepool.ActorDiedError):
        scalepool.get(slow, timeout=60)
