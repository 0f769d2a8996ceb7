"""`scalepool.util.ActorPool`: Ray's methods and rules, and actors that die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import scalepool
from live.pool_actors import Doubler
from scalepool.errors import ActorDiedError
from scalepool.util import ActorPool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live


def double(actor: Any, value: Any) -> Any:
    return actor.double.remote(value)


def after(actor: Any, value: tuple[float, Any]) -> Any:
    return actor.after.remote(*value)


@pytest.fixture(scope="module")
def handles() -> list[Any]:
    made = [Doubler.remote() for _ in range(2)]
    scalepool.get([one.pid.remote() for one in made])
    return made


@pytest.fixture
def pool(handles: list[Any]) -> ActorPool[Any]:
    return ActorPool(handles)


def test_map_is_in_order(pool: ActorPool[Any]) -> None:
    assert list(pool.map(double, range(20))) == [2 * n for n in range(20)]
    assert not pool.has_next()
    assert pool.has_free()


def test_map_of_slow_ones_first_is_in_order_and_unordered_is_not(pool: ActorPool[Any]) -> None:
    values = [(0.5, "slow"), (0.0, "quick"), (0.0, "quicker")]
    assert list(pool.map(after, values)) == ["slow", "quick", "quicker"]
    assert list(pool.map_unordered(after, values)) == ["quick", "quicker", "slow"]


def test_submit_and_get_next(pool: ActorPool[Any]) -> None:
    assert not pool.has_next()
    for n in range(5):
        pool.submit(double, n)
    assert not pool.has_free()
    assert pool.pop_idle() is None
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_the_order_is_lost_by_taking_the_last_first(pool: ActorPool[Any]) -> None:
    pool.submit(after, (0.3, "slow"))
    pool.submit(after, (0.0, "quick"))
    assert pool.get_next_unordered() == "quick"
    with pytest.raises(ValueError, match="not allowed after get_next_unordered"):
        pool.get_next()
    assert pool.get_next_unordered() == "slow"
    pool.submit(double, 4)
    assert pool.get_next() == 8


def test_time_outs(pool: ActorPool[Any]) -> None:
    pool.submit(after, (1.0, "late"))
    for ignore in (False, True):
        with pytest.raises(TimeoutError, match="Timed out waiting for result"):
            pool.get_next_unordered(timeout=0.01, ignore_if_timedout=ignore)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    assert pool.get_next(timeout=60) == "late"
    pool.submit(after, (0.5, "given up"))
    pool.submit(double, 1)
    with pytest.raises(TimeoutError, match="dropped"):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert pool.get_next() == 2
    assert not pool.has_next()


def test_errors_leave_the_pool_usable(pool: ActorPool[Any]) -> None:
    calls: list[Callable[[Any, Any], Any]] = [lambda actor, x: actor.fail.remote(x), double]
    for n in range(6):
        pool.submit(calls[n % 2], n)
    for n in range(0, 6, 2):
        with pytest.raises(KeyError, match=str(n)):
            pool.get_next()
        assert pool.get_next() == 2 * (n + 1)
    assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]


def test_map_forgets_what_was_before(pool: ActorPool[Any]) -> None:
    for n in range(5):
        pool.submit(after, (0.05, n))
    assert list(pool.map(double, [1, 2, 3])) == [2, 4, 6]


def test_push_and_pop(handles: list[Any]) -> None:
    pool: ActorPool[Any] = ActorPool(handles[:1])
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(handles[0])
    pool.submit(after, (0.2, "a"))
    pool.submit(double, 5)
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(handles[0])
    pool.push(handles[1])  # which begins with what waits
    assert pool.get_next_unordered(timeout=60) == 10
    assert pool.pop_idle() == handles[1]
    assert pool.pop_idle() is None
    assert pool.get_next_unordered() == "a"
    assert pool.pop_idle() == handles[0]


def test_what_is_no_actor_and_no_call(pool: ActorPool[Any], handles: list[Any]) -> None:
    with pytest.raises(TypeError, match="handles of actors"):
        ActorPool([Doubler])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="already"):
        ActorPool(handles * 2)
    with pytest.raises(TypeError, match="returns the ObjectRef"):
        pool.submit(lambda actor, value: value, 1)
    assert list(pool.map(double, [3])) == [6]


def test_a_call_that_cannot_be_made_later_is_told_in_its_place(pool: ActorPool[Any]) -> None:
    values = [1, 2, (n for n in ()), 4]
    for value in values:
        pool.submit(double, value)
    found: list[Any] = []
    while pool.has_next():
        try:
            found.append(pool.get_next())
        except TypeError as error:
            found.append(type(error).__name__)
    assert found == [2, 4, "SerializationError", 8]


def test_a_pool_without_actors_says_so() -> None:
    pool: ActorPool[Any] = ActorPool([])
    assert list(pool.map(double, [])) == []
    pool.submit(double, 1)
    assert pool.has_next()
    with pytest.raises(ValueError, match="has no actors"):
        pool.get_next()
    assert not pool.has_next()


def test_one_that_dies_is_reported_and_not_handed_out_again() -> None:
    pool: ActorPool[Any] = ActorPool([Doubler.remote() for _ in range(2)])
    for n in range(8):
        pool.submit(lambda actor, x: actor.die_of.remote(x, 2), n)
    found: list[Any] = []
    while pool.has_next():
        try:
            found.append(pool.get_next())
        except ActorDiedError:
            found.append("died")
    assert found == [0, 1, "died", 3, 4, 5, 6, 7]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_when_all_are_dead_what_waits_fails_until_there_is_another() -> None:
    pool: ActorPool[Any] = ActorPool([Doubler.remote()])
    for n in range(4):
        pool.submit(lambda actor, x: actor.die_of.remote(x, 1), n)
    assert pool.get_next() == 0
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="SIGKILL"):
            pool.get_next()
    assert pool.has_next()
    pool.push(Doubler.remote())
    assert pool.get_next() == 3
    pool.submit(double, 7)
    assert pool.get_next_unordered() == 14


def test_another_actors_death_is_an_error_as_others(handles: list[Any]) -> None:
    other = Doubler.remote()
    scalepool.kill(other)
    pool: ActorPool[Any] = ActorPool(handles[:1])
    died = other.double.remote(1)
    for call in (lambda actor, _: actor.ask.remote(other), lambda actor, _: actor.double.remote(died)):
        pool.submit(call, None)
        with pytest.raises(ActorDiedError):
            pool.get_next()
        pool.submit(double, 1)
        assert pool.get_next() == 2


def test_one_that_begins_anew_stays() -> None:
    pool: ActorPool[Any] = ActorPool([Doubler.options(max_restarts=1).remote()])
    for n in range(4):
        pool.submit(lambda actor, x: actor.die_of.remote(x, 1), n)
    found: list[Any] = []
    while pool.has_next():
        try:
            found.append(pool.get_next())
        except scalepool.ActorUnavailableError:
            found.append("begins anew")
    assert found == [0, "begins anew", 2, 3]
