"""The pump against a fake station: who gets the role, and that no wake-up is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest

from scalepool._runtime.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakeStation:
    """A queue that ``work`` empties, and a bell that ``wait`` listens to. Notes who pumps, and overlaps."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self.outstanding = 0
        self.workers: set[int] = set()
        self.errors: list[Exception] = []
        self.overlaps = 0
        self.alarm: float | None = None
        self.alarms = 0
        self.rests = 0
        self.call_back: Callable[[Callable[[], None]], None] = lambda function: function()
        self._inside: int = 0
        self._bell = threading.Semaphore(0)

    def work(self, *, arrived: bool) -> None:
        me = threading.get_ident()
        if self._inside not in (0, me):
            self.overlaps += 1
        outer, self._inside = self._inside, me
        self.workers.add(me)
        try:
            while self.queue:
                self.call_back(self.queue.popleft())
            if self.alarm is not None and time.monotonic() >= self.alarm:
                self.alarm = None
                self.alarms += 1
        finally:
            self._inside = outer

    def pending(self) -> bool:
        return bool(self.queue)

    def wait(self, timeout_s: float | None) -> bool:
        self.workers.add(threading.get_ident())
        return self._bell.acquire(timeout=timeout_s)

    def wake(self) -> None:
        self._bell.release()

    def alarm_at(self) -> float | None:
        return self.alarm

    def rest(self) -> None:
        self.rests += 1

    def broken(self, error: Exception) -> None:
        self.errors.append(error)

    def busy(self) -> bool:
        return self.outstanding > 0


@pytest.fixture
def station() -> FakeStation:
    return FakeStation()


@pytest.fixture
def pump(station: FakeStation) -> Iterator[Pump]:
    pump = Pump(station, "test-helper")
    yield pump
    pump.close()
    assert not station.overlaps
    assert not [thread for thread in threading.enumerate() if thread.name == "test-helper"]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_who_waits_does_the_work(pump: Pump, station: FakeStation) -> None:
    seen: list[bool] = []
    station.queue.append(lambda: seen.append(pump.is_mine))

    assert pump.wait_for(lambda: bool(seen), None)
    assert seen == [True]
    assert not pump.is_mine
    assert station.workers == {threading.get_ident()}


def test_nothing_is_pumped_for_what_is_done_already(pump: Pump, station: FakeStation) -> None:
    assert pump.wait_for(lambda: True)
    assert not station.workers


def test_a_deadline_ends_the_wait(pump: Pump) -> None:
    assert not pump.wait_for(lambda: False, time.monotonic() + 0.02)
    assert not pump.wait_for(lambda: False, time.monotonic() - 1)


def test_an_alarm_makes_work_be_called_without_an_arrival(pump: Pump, station: FakeStation) -> None:
    rounds: list[int] = []
    station.alarm = time.monotonic() + 0.02
    real = station.work

    def work(*, arrived: bool) -> None:
        rounds.append(1)
        if station.alarm is not None and time.monotonic() >= station.alarm:
            station.alarm = None
        real(arrived=arrived)

    station.work = work  # type: ignore[method-assign]
    assert pump.wait_for(lambda: station.alarm is None, time.monotonic() + 30)
    assert rounds


def test_a_kick_from_another_thread_wakes_who_waits(pump: Pump, station: FakeStation) -> None:
    for _ in range(200):  # every order of the two is met sooner or later
        done = threading.Event()

        def other(done: threading.Event = done) -> None:
            station.queue.append(done.set)
            pump.kick(now=False)

        thread = threading.Thread(target=other)
        thread.start()
        assert pump.wait_for(done.is_set, time.monotonic() + 30)
        thread.join()


def test_a_kick_with_now_works_at_once_in_the_calling_thread(pump: Pump, station: FakeStation) -> None:
    done: list[int] = []
    station.queue.append(lambda: done.append(threading.get_ident()))

    pump.kick(now=True)

    assert done == [threading.get_ident()]


def test_the_helper_steps_in_when_nobody_waits(pump: Pump, station: FakeStation) -> None:
    done: list[int] = []
    station.queue.append(lambda: done.append(threading.get_ident()))

    pump.kick(now=False)

    until(lambda: done)
    assert done[0] != threading.get_ident()


def test_the_helper_sees_to_an_alarm_of_an_idle_station_and_rests(pump: Pump, station: FakeStation) -> None:
    station.alarm = time.monotonic() + 0.05
    pump.arm()
    until(lambda: station.alarms)
    until(lambda: station.rests)
    assert not pump.awake


def test_the_helper_lets_go_of_the_role_for_who_waits(pump: Pump, station: FakeStation) -> None:
    station.outstanding = 1
    pump.arm()
    until(lambda: station.workers)
    done: list[int] = []

    station.queue.append(lambda: done.append(threading.get_ident()))
    assert pump.wait_for(lambda: bool(done), time.monotonic() + 30)
    # And it takes the role again afterwards.
    helper = next(thread for thread in threading.enumerate() if thread.name == "test-helper")
    station.workers.clear()
    station.queue.append(lambda: None)
    pump.kick(now=False)
    until(lambda: helper.ident in station.workers)
    station.outstanding = 0


def test_several_threads_wait_and_each_gets_its_own(pump: Pump, station: FakeStation) -> None:
    got: list[int] = []

    def wait_for_one(number: int) -> None:
        done = threading.Event()
        station.queue.append(done.set)
        pump.kick(now=False)
        if pump.wait_for(done.is_set, time.monotonic() + 30):
            got.append(number)

    threads = [threading.Thread(target=wait_for_one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(got) == list(range(20))


def test_a_wait_inside_a_callback_pumps_on(pump: Pump, station: FakeStation) -> None:
    order: list[str] = []

    def outer() -> None:
        station.queue.append(lambda: order.append("inner"))
        assert pump.wait_for(lambda: "inner" in order, time.monotonic() + 30)
        order.append("outer")

    station.call_back = pump.call_back
    station.queue.append(outer)
    assert pump.wait_for(lambda: "outer" in order, time.monotonic() + 30)
    assert order == ["inner", "outer"]
    assert not pump.is_mine


def test_who_waits_wakes_the_one_who_sleeps_for_what_was_queued_without_a_kick(
    pump: Pump, station: FakeStation
) -> None:
    done = threading.Event()
    sleeper = threading.Thread(target=lambda: pump.wait_for(done.is_set, time.monotonic() + 30), daemon=True)
    sleeper.start()
    while not pump._sleeping:
        time.sleep(0.001)
    station.queue.append(done.set)
    assert pump.wait_for(done.is_set, time.monotonic() + 20)
    sleeper.join(20)


def test_a_wait_in_the_midst_of_the_stations_work_is_refused(pump: Pump, station: FakeStation) -> None:
    errors: list[str] = []

    def finalizer() -> None:
        try:
            pump.wait_for(lambda: False)
        except RuntimeError as error:
            errors.append(str(error))
        assert pump.wait_for(lambda: True), "there is nothing to wait for"

    def callback() -> None:
        station.queue.append(finalizer)
        assert pump.wait_for(lambda: bool(errors), time.monotonic() + 30)

    station.queue.append(finalizer)
    assert pump.wait_for(lambda: bool(errors), time.monotonic() + 30)
    assert "should not wait" in errors.pop()
    station.queue.append(lambda: pump.call_back(callback))
    assert pump.wait_for(lambda: bool(errors), time.monotonic() + 30), "also from a callback in the work"


def test_an_error_of_the_station_comes_out_and_the_role_is_free_again(pump: Pump, station: FakeStation) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    station.queue.append(fail)
    with pytest.raises(ValueError, match="a bug"):
        pump.wait_for(lambda: False)
    assert [str(error) for error in station.errors] == ["a bug"]

    done: list[int] = []
    station.queue.append(lambda: done.append(1))
    assert pump.wait_for(lambda: bool(done), time.monotonic() + 30)


def test_close_ends_waits(station: FakeStation) -> None:
    pump = Pump(station, "test-helper")
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(pump.wait_for(lambda: False)))
    thread.start()
    until(lambda: station.workers)

    pump.close()
    thread.join(30)

    assert results == [False]
    assert not pump.wait_for(lambda: False)
    pump.kick(now=True)


def test_a_ticking_helper_never_waits_on_the_channel(station: FakeStation) -> None:
    def no_wait(timeout_s: float | None) -> bool:
        raise AssertionError

    station.wait = no_wait  # type: ignore[method-assign]
    pump = Pump(station, "test-tick", tick_s=0.001)
    station.outstanding = 1
    pump.arm()
    until(lambda: station.workers)
    assert threading.get_ident() not in station.workers
    station.outstanding = 0
    pump.close()
    assert not station.errors


def test_what_is_queued_while_a_ticking_helper_dozes_is_seen_to_at_once(station: FakeStation) -> None:
    pump = Pump(station, "test-tick", tick_s=0.001)
    assert pump.sleep.pace is not None
    pump.sleep.pace.next_s = lambda now, *, stirred: 0.001 if stirred else 3600.0  # type: ignore[method-assign]
    station.outstanding = 1
    pump.arm()
    until(lambda: pump.sleep._dozes)
    station.workers.clear()
    pump.kick(now=False)
    until(lambda: station.workers)
    station.outstanding = 0
    pump.close()
    assert not station.errors
