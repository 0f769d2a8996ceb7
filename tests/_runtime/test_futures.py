"""A task's future is a real ``concurrent.futures.Future``, also where its Condition is built late."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import pickle
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._runtime.futures import TaskFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FakeClient:
    """Ends futures when they are waited for."""

    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.attended = 0
        self.running: set[int] = set()
        self.cancellable = True

    def wait_for(self, done: Callable[[], bool], futures: Sequence[TaskFuture], deadline: float | None) -> bool:
        for future in futures:
            if id(future) not in self.answers:
                return False
            future.settle(self.answers[id(future)], None)
        return True

    def attend(self) -> None:
        self.attended += 1

    def is_running(self, future: TaskFuture) -> bool:
        return id(future) in self.running

    def cancel(self, futures: Sequence[TaskFuture], *, force: bool = False) -> None:
        for future in futures:
            if self.cancellable:
                future.settle_cancelled()


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def future(client: FakeClient) -> TaskFuture:
    return TaskFuture(client)  # type: ignore[arg-type]


def test_it_is_a_future_and_cheap(future: TaskFuture) -> None:
    assert isinstance(future, Future)
    assert "_condition" not in vars(future)
    assert future._lazy is None
    assert not future.done()


def test_result_waits_through_the_client(client: FakeClient, future: TaskFuture) -> None:
    client.answers[id(future)] = 5

    assert future.result(1) == 5
    assert future.exception() is None
    assert future._lazy is None


def test_a_wait_that_ends_too_early_is_a_timeout(future: TaskFuture) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(0)


def test_an_error_is_raised_as_it_is(future: TaskFuture) -> None:
    error = KeyError("x")
    future.settle(None, error)

    with pytest.raises(KeyError) as caught:
        future.result()
    assert caught.value is error
    assert future.exception() is error


def test_the_first_end_counts(future: TaskFuture) -> None:
    future.settle(1, None)
    future.settle(2, None)
    future.settle_cancelled()

    assert future.result() == 1
    assert not future.cancelled()
    with pytest.raises(InvalidStateError):
        future.set_result(3)
    with pytest.raises(InvalidStateError):
        future.set_exception(ValueError())


def test_cancel(future: TaskFuture) -> None:
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()


def test_cancel_of_what_runs_or_is_over_fails(client: FakeClient, future: TaskFuture) -> None:
    client.cancellable = False
    client.running.add(id(future))

    assert future.running()
    assert not future.cancel()
    future.settle(1, None)
    assert not future.cancel()
    assert not future.running()


@pytest.mark.parametrize("early", [True, False])
def test_callbacks_run_once_in_order(future: TaskFuture, early: bool) -> None:
    seen: list[Any] = []
    if not early:
        future.settle(1, None)
    future.add_done_callback(lambda f: seen.append(("a", f.result())))
    future.add_done_callback(lambda f: seen.append(("b", f.result())))
    future.settle(1, None)

    assert seen == [("a", 1), ("b", 1)]


def test_on_done_runs_once_and_its_error_is_logged(client: FakeClient, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[TaskFuture] = []

    def on_done(future: TaskFuture) -> None:
        seen.append(future)
        raise ValueError("mine")

    future = TaskFuture(client, None, on_done)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.settle(1, None)
        future.settle(2, None)

    assert seen == [future]
    assert "exception calling callback" in caplog.text
    assert future.result() == 1


def test_whoever_waits_outside_the_pump_has_it_attended(client: FakeClient, future: TaskFuture) -> None:
    future.add_done_callback(lambda f: None)
    assert client.attended == 1
    future.add_done_callback(lambda f: None)
    assert client.attended == 1


@pytest.mark.parametrize("ending", ["value", "error", "cancelled"])
def test_the_standard_functions_wait_for_it(client: FakeClient, ending: str) -> None:
    futures = [TaskFuture(client) for _ in range(3)]  # type: ignore[arg-type]

    def end() -> None:
        for future in futures:
            if ending == "cancelled":
                future.settle_cancelled()
            else:
                future.settle(1, ValueError() if ending == "error" else None)

    timer = threading.Timer(0.02, end)
    timer.start()
    done, not_done = concurrent.futures.wait(futures, 30)
    assert (done, not_done) == (set(futures), set())
    assert set(concurrent.futures.as_completed(futures, 30)) == set(futures)
    timer.join()


def test_asyncio_awaits_it(future: TaskFuture) -> None:
    async def main() -> Any:
        timer = threading.Timer(0.02, future.settle, (7, None))
        timer.start()
        return await asyncio.wait_for(asyncio.wrap_future(future), 30)

    assert asyncio.run(main()) == 7


def test_its_end_and_its_condition_may_come_at_the_same_moment(client: FakeClient) -> None:
    for _ in range(300):
        future = TaskFuture(client)  # type: ignore[arg-type]
        seen: list[Any] = []
        start = threading.Barrier(2)

        def end(future: TaskFuture = future, start: threading.Barrier = start) -> None:
            start.wait(30)
            future.settle(1, None)

        thread = threading.Thread(target=end)
        thread.start()
        start.wait(30)
        future.add_done_callback(seen.append)
        thread.join(30)
        assert seen == [future]


class EndsWhenLookedAt(TaskFuture):
    """Another thread ends it between two looks of its reader."""

    @property
    def _client(self) -> Any:  # type: ignore[override]
        self.settle(3, None)
        return None

    @_client.setter
    def _client(self, value: Any) -> None:
        pass


@pytest.mark.parametrize("look", ["result", "exception", "running", "cancel"])
def test_it_may_end_between_two_looks(look: str) -> None:
    expected = {"result": 3, "exception": None, "running": False, "cancel": False}
    assert getattr(EndsWhenLookedAt(), look)() == expected[look]


def test_it_does_not_pickle(future: TaskFuture) -> None:
    with pytest.raises(TypeError, match="future"):
        pickle.dumps(future)


def left_taken(future: TaskFuture) -> None:
    """As by `wait`, when the handler of a signal raises in it just then."""
    thread = threading.Thread(target=future._condition.acquire)
    thread.start()
    thread.join()


def test_whoever_settles_it_does_not_wait_for_a_lock_that_nobody_has(future: TaskFuture) -> None:
    seen: list[object] = []
    future.add_done_callback(lambda done: seen.append(done.result()))
    left_taken(future)
    future.settle(3, None)
    assert future.result() == 3
    assert seen == [3]


def test_whoever_settles_it_waits_for_those_who_are_in_the_standard_functions(future: TaskFuture) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(list):  # type: ignore[type-arg]
        def append(self, item: object) -> None:
            inside.set()
            assert go_on.wait(20)
            super().append(item)

    assert future._condition
    future._done_callbacks = Slow()
    seen: list[object] = []
    caller = threading.Thread(target=future.add_done_callback, args=(lambda done: seen.append(done.result()),))
    caller.start()
    assert inside.wait(20)
    settler = threading.Thread(target=future.settle, args=(3, None))
    settler.start()
    settler.join(0.3)
    assert not future.done()
    go_on.set()
    settler.join()
    caller.join()
    assert seen == [3]
