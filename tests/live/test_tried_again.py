"""Calls of actors, and streams, that are tried again when they raise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import scalepool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.live


class Trouble(Exception):
    """Something that passes."""


class _Flaky:
    """Fails as often as it is told; its counts are those of this object."""

    def __init__(self) -> None:
        self.calls = 0

    def _fail(self, times: int, error: type[BaseException]) -> int:
        self.calls += 1
        if self.calls <= times:
            raise error(f"call {self.calls}")
        return self.calls

    def plain(self, times: int) -> int:
        return self._fail(times, Trouble)

    @scalepool.method(retry_exceptions=True)
    def any(self, times: int) -> int:
        return self._fail(times, Trouble)

    @scalepool.method(retry_exceptions=[Trouble], max_task_retries=2)
    def some(self, times: int, error: type[BaseException] = Trouble) -> int:
        return self._fail(times, error)

    @scalepool.method(retry_exceptions=True, max_task_retries=2)
    def stream(self, times: int) -> Iterator[int]:
        yield 10
        yield 20
        yield self._fail(times, Trouble)

    @scalepool.method(retry_exceptions=True, num_returns="dynamic")
    def dynamic(self, times: int) -> Iterator[int]:
        yield 10
        yield self._fail(times, Trouble)

    @scalepool.method(retry_exceptions=True)
    def changes(self, items: list[int]) -> list[int]:
        items.append(1)
        self._fail(2, Trouble)
        return items

    @scalepool.method(retry_exceptions=BaseException, max_task_retries=-1)
    def leaves(self) -> None:
        self.calls += 1
        scalepool.exit_actor()

    @scalepool.method(retry_exceptions=True, max_task_retries=2)
    def dies_once_and_fails(self, path: str) -> int:
        with Path(path).open("a") as file:
            file.write("x")
        tries = Path(path).stat().st_size
        if tries == 1:
            os._exit(3)
        if tries < 100:
            raise Trouble(str(tries))
        return tries

    def count(self) -> int:
        return self.calls


class _AsyncFlaky(_Flaky):
    async def coroutine(self, times: int) -> int:
        return self._fail(times, Trouble)

    @scalepool.method(retry_exceptions=True, max_task_retries=2)
    async def stream(self, times: int) -> AsyncIterator[int]:  # type: ignore[override]
        yield 10
        yield 20
        yield self._fail(times, Trouble)


def _call_some(actor: Any, times: int) -> Any:
    return scalepool.get(actor.some.remote(times))


@scalepool.remote(retry_exceptions=[Trouble], max_retries=2)
def _flaky_stream(path: str, times: int) -> Iterator[int]:
    yield 1
    with Path(path).open("a") as file:
        file.write("x")
    if Path(path).stat().st_size <= times:
        raise Trouble(path)
    yield 2


@pytest.fixture(params=["plain", "threads", "coroutines"])
def actor(request: pytest.FixtureRequest) -> Any:
    if request.param == "coroutines":
        return scalepool.remote(_AsyncFlaky).remote()
    return scalepool.remote(max_concurrency=1 if request.param == "plain" else 3)(_Flaky).remote()


def test_without_being_asked_for_nothing_is_tried_again(actor: Any) -> None:
    with pytest.raises(Trouble, match="call 1"):
        scalepool.get(actor.plain.remote(1))
    assert scalepool.get(actor.count.remote()) == 1


def test_three_times_where_nothing_is_said(actor: Any) -> None:
    assert scalepool.get(actor.any.remote(3)) == 4
    assert scalepool.get(actor.count.remote()) == 4


def test_the_last_error_is_raised(actor: Any) -> None:
    with pytest.raises(Trouble, match="call 3"):
        scalepool.get(actor.some.remote(5))


def test_only_after_the_exceptions_that_were_named(actor: Any) -> None:
    with pytest.raises(KeyError, match="call 1"):
        scalepool.get(actor.some.remote(5, KeyError))


def test_a_call_may_say_it_itself(actor: Any) -> None:
    with pytest.raises(Trouble, match="call 2"):
        scalepool.get(actor.plain.options(retry_exceptions=[Trouble], max_task_retries=1).remote(9))
    with pytest.raises(Trouble, match="call 3"):
        scalepool.get(actor.any.options(max_task_retries=0).remote(9))
    with pytest.raises(Trouble, match="call 4"):
        scalepool.get(actor.some.options(retry_exceptions=False).remote(9))


def test_handles_in_other_processes_know_it_too(actor: Any) -> None:
    assert scalepool.get(scalepool.remote(_call_some).remote(actor, 2)) == 3


def test_each_try_gets_fresh_arguments(actor: Any) -> None:
    assert scalepool.get(actor.changes.remote([0])) == [0, 1]


def test_streams_of_actors_begin_anew_and_tell_nothing_twice(actor: Any) -> None:
    assert scalepool.get(list(actor.stream.remote(2))) == [10, 20, 3]
    failing = list(actor.stream.remote(99))
    assert scalepool.get(failing[:2]) == [10, 20]
    with pytest.raises(Trouble, match="call 6"):
        scalepool.get(failing[2])


def test_dynamic_returns_begin_anew(actor: Any) -> None:
    assert scalepool.get(list(scalepool.get(actor.dynamic.remote(2)))) == [10, 3]


def test_an_actor_that_wants_to_end_does(actor: Any) -> None:
    with pytest.raises(scalepool.ActorDiedError, match="exit_actor"):
        scalepool.get(actor.leaves.remote(), timeout=60)


def test_deaths_and_exceptions_count_together(tmp_path: Path) -> None:
    actor = scalepool.remote(max_restarts=5)(_Flaky).remote()
    with pytest.raises(Trouble, match="3"):
        scalepool.get(actor.dies_once_and_fails.remote(str(tmp_path / "tries")), timeout=60)
    assert (tmp_path / "tries").stat().st_size == 3


def test_coroutines_are_tried_again() -> None:
    actor = scalepool.remote(_AsyncFlaky).remote()
    assert scalepool.get(actor.coroutine.options(retry_exceptions=True).remote(3)) == 4


def test_streams_of_functions_begin_anew_and_tell_nothing_twice(tmp_path: Path) -> None:
    assert scalepool.get(list(_flaky_stream.remote(str(tmp_path / "a"), 2))) == [1, 2]
    first, second = _flaky_stream.remote(str(tmp_path / "b"), 3)
    assert scalepool.get(first) == 1
    with pytest.raises(Trouble):
        scalepool.get(second)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(TypeError, match="exception classes"):
        scalepool.method(retry_exceptions=["Trouble"])
    handle = scalepool.remote(_Flaky).remote()
    with pytest.raises(TypeError, match="exception classes"):
        handle.plain.options(retry_exceptions=[5])
