"""The client against a fake pump: what it sends, and how what comes back ends its futures."""

from __future__ import annotations

import pickle
import struct
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest

from scalepool._runtime.client import Client
from scalepool._runtime.group import ErrorTypes
from scalepool._store.files import SegmentLost
from scalepool._wire import messages as m
from scalepool._wire.messages import Status
from scalepool._wire.pickling.exceptions import encode_exception
from scalepool._wire.verdict import pack_verdict
from scalepool.config import Settings
from scalepool.errors import (
    InitializerError,
    ObjectLostError,
    SerializationError,
    SessionError,
    TaskCancelledError,
    WorkerDiedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakePump:
    """Runs ``on_wait`` once per wait, which may feed the client."""

    def __init__(self) -> None:
        self.kicks: list[bool] = []
        self.is_mine = False
        self.on_wait: Callable[[], None] = lambda: None
        self.armed = 0

    def kick(self, *, now: bool, burst: bool = False) -> None:
        self.kicks.append(now)

    def arm(self) -> None:
        self.armed += 1

    def forked(self) -> None:
        pass

    def wait_for(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        self.on_wait()
        return done()


class Driver:
    def __init__(self, **values: Any) -> None:
        self.client = Client(0, Settings(**values))
        self.pump = FakePump()
        self.client.pump = self.pump  # type: ignore[assignment]
        self.group = self.client.open_group(lambda group: m.OpenGroup(group, 0, 0, 2, 0, 0, b""), ErrorTypes())
        self.fn = self.client.exporter.export(len)

    def submit(self, *args: Any, on_done: Any = None) -> Any:
        return self.client.submit(self.group, self.fn, args, {}, on_done)

    def reply(self, futures: list[Any], status: Status = Status.VALUE, payload: bytes = pickle.dumps(5)) -> None:
        tasks = [future.task_id for future in futures]
        number = len(tasks)
        self.client.receive(m.Replies(tasks, [status] * number, [2_000_000] * number, [payload] * number))


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.client.close(SessionError("the test is over"))


def test_a_call_goes_out_and_its_result_ends_the_future(driver: Driver) -> None:
    future = driver.submit("hello")
    opened, submitted = driver.client.outgoing.drain()

    assert isinstance(opened, m.OpenGroup)
    assert isinstance(submitted, m.Submit)
    assert list(submitted.tasks) == [future.task_id]
    assert driver.client.busy
    driver.reply([future])
    assert future.result(0) == 5
    assert future.duration_s == 2.0
    assert future.name == "len"
    assert not driver.client.busy
    assert driver.group.unfinished == 0


def test_replies_end_futures_in_order_and_strangers_are_ignored(driver: Driver) -> None:
    seen: list[int] = []
    futures = [driver.submit(n, on_done=lambda future: seen.append(future.task_id)) for n in range(5)]
    driver.reply(futures[::-1])
    driver.reply(futures)

    assert seen == [future.task_id for future in futures[::-1]]
    assert driver.group.unfinished == 0


def test_an_argument_that_does_not_pickle_fails_its_own_future(driver: Driver) -> None:
    future = driver.submit(i for i in ())

    assert isinstance(future.exception(0), SerializationError)
    assert not driver.client.busy


@pytest.mark.parametrize("terminated", [False, True])
def test_a_cancelled_task(driver: Driver, terminated: bool) -> None:
    future = driver.submit(1)
    if terminated:
        driver.client.close_group(driver.group, m.CloseMode.TERMINATE)
    driver.reply([future], Status.CANCELLED, b"")

    if terminated:
        assert isinstance(future.exception(0), TaskCancelledError)
    else:
        with pytest.raises(CancelledError):
            future.result(0)


def test_an_error_comes_as_itself(driver: Driver) -> None:
    future = driver.submit(1)
    driver.reply([future], Status.ERROR, encode_exception(KeyError("x"), "the traceback"))

    error = future.exception(0)
    assert isinstance(error, KeyError)
    assert "the traceback" in str(error.__cause__)


def test_a_death_and_a_failed_initializer_have_the_groups_classes(driver: Driver) -> None:
    died, failed = driver.submit(1), driver.submit(2)
    facts = {"pid": 7, "exitcode": -9, "attempt": 1, "reason": "for a reason"}
    driver.reply([died], Status.WORKER_DIED, pack_verdict(facts))
    driver.reply([failed], Status.INITIALIZER_FAILED, encode_exception(ValueError("no"), "tb"))

    assert isinstance(died.exception(0), WorkerDiedError)
    assert died.exception(0).signal_name == "SIGKILL"
    assert isinstance(failed.exception(0), InitializerError)
    assert isinstance(failed.exception(0).__cause__, ValueError)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\x80\x05garbage", b"\x01short", b"\x02", b"zzz"])
def test_a_result_that_cannot_be_read_is_its_own_error(driver: Driver, payload: bytes) -> None:
    bad, good = driver.submit(1), driver.submit(2)
    driver.reply([bad], Status.VALUE, payload)
    driver.reply([good])

    assert bad.exception(0) is not None
    assert good.result(0) == 5


def test_submitting_waits_while_too_much_is_outstanding() -> None:
    driver = Driver(outstanding_limit_bytes=500)
    first = driver.submit(b"x" * 400)
    waits: list[int] = []

    def on_wait() -> None:
        waits.append(1)
        driver.reply([first])

    driver.pump.on_wait = on_wait
    driver.submit(b"x" * 400)

    assert waits == [1]
    driver.pump.is_mine = True  # in a callback it never waits
    driver.submit(b"x" * 4000)
    assert waits == [1]


def test_a_callback_that_raises_something_grave_loses_no_other_reply(driver: Driver) -> None:
    def grave(_: Any) -> None:
        raise SystemExit

    futures = [driver.submit(n, on_done=grave if n == 1 else None) for n in range(4)]
    with pytest.raises(SystemExit):
        driver.reply(futures)

    assert driver.client.pending
    driver.client.deliver()
    assert [future.result(0) for future in futures] == [5] * 4
    assert driver.group.unfinished == 0


def test_a_callback_that_waits_gets_what_came_with_its_own_reply(driver: Driver) -> None:
    seen: list[Any] = []
    driver.pump.on_wait = driver.client.deliver  # as work() does
    futures: list[Any] = []
    futures.append(driver.submit(1, on_done=lambda _: seen.append(futures[1].result(0))))
    futures.append(driver.submit(2))
    driver.reply(futures)

    assert seen == [5]


def test_cancel_asks_and_waits_for_the_answer(driver: Driver) -> None:
    first, second = driver.submit(1), driver.submit(2)
    driver.client.outgoing.drain()

    def answer() -> None:
        driver.reply([first], Status.CANCELLED, b"")
        driver.client.receive(m.CancelAnswer([second.task_id]))

    driver.pump.on_wait = answer
    driver.client.cancel([first, second])

    (message,) = driver.client.outgoing.drain()
    assert list(message.tasks) == [first.task_id, second.task_id]  # type: ignore[union-attr]
    assert first.cancelled()
    assert not second.done()


def test_wait_for_some_and_for_all(driver: Driver) -> None:
    futures = [driver.submit(n) for n in range(4)]
    driver.reply(futures[:2])

    assert driver.client.wait(futures, 0, 2)
    assert not driver.client.wait(futures, 0)
    driver.reply(futures[2:])
    assert driver.client.wait(futures)


def test_what_is_open_at_the_end_fails(driver: Driver) -> None:
    future = driver.submit(1)
    driver.client.close(SessionError("over"))

    assert isinstance(future.exception(0), SessionError)
    assert driver.group.gone
    with pytest.raises(SessionError):
        driver.submit(2)


def test_in_a_forked_child_everything_says_so(driver: Driver) -> None:
    future = driver.submit(1)
    driver.client.forked()

    for attempt in (lambda: driver.submit(2), future.result, future.exception):
        with pytest.raises(SessionError, match="fork"):
            attempt()
    assert not future.cancel()
    driver.client.close_group(driver.group, m.CloseMode.KILL)
    assert not any(isinstance(item, m.CloseGroup) for item in driver.client.outgoing.queue)


def test_other_messages_are_left_to_others(driver: Driver) -> None:
    assert not driver.client.receive(m.Exit())
    assert driver.client.receive(m.GroupClosed(driver.group.id))
    assert driver.group.gone
    assert driver.client.receive(m.GroupClosed(12345))


def interrupt() -> None:
    raise KeyboardInterrupt


class Interrupting:
    def __reduce__(self) -> Any:
        return interrupt, ()


def test_an_interrupt_while_a_result_is_loaded_goes_up_and_loses_no_future(driver: Driver) -> None:
    struck, other = driver.submit("a"), driver.submit("b")
    replies = m.Replies(
        [struck.task_id, other.task_id], [Status.VALUE] * 2, [0, 0], [pickle.dumps(Interrupting()), pickle.dumps(5)]
    )

    with pytest.raises(KeyboardInterrupt):
        driver.client.receive(replies)

    assert isinstance(struck.exception(0), KeyboardInterrupt)
    assert driver.client.pending
    driver.client.deliver()
    assert other.result(0) == 5


def large_result(object_id: int, size_bytes: int) -> bytes:
    """Pack a value as a worker does that put a buffer of it into the object."""
    table = struct.pack("<qqq", 0, 0, 5) + struct.pack("<qqq", object_id, 0, size_bytes)
    return b"\x01" + struct.pack("<II", 2, 0) + table + b"dummy"


@pytest.mark.parametrize("status", [Status.VALUE, Status.ERROR])
def test_a_large_result_that_nobody_waits_for_any_more_is_given_back(driver: Driver, status: Status) -> None:
    driver.client.outgoing.drain()
    places = [77, 1, 3, 1_000_000]
    driver.client.receive(m.Replies([5], [status], [1], [large_result(77, 1_000_000)], [1], places))

    (message,) = driver.client.outgoing.drain()
    assert message == m.Release([77])


def test_a_plain_result_that_nobody_waits_for_any_more_needs_no_answer(driver: Driver) -> None:
    driver.client.outgoing.drain()
    driver.client.receive(m.Replies([5, 6], [Status.VALUE, Status.CANCELLED], [1, 1], [pickle.dumps(1), b""]))

    assert not driver.client.outgoing.pending


def test_a_call_that_is_awaited_goes_out_with_the_wait(driver: Driver) -> None:
    driver.client.outgoing.drain()
    driver.pump.kicks.clear()
    future = driver.client.submit(driver.group, driver.fn, ("abc",), {}, None, is_awaited=True)
    assert driver.pump.kicks == []
    (message,) = driver.client.outgoing.drain()
    assert isinstance(message, m.Submit)
    assert list(message.tasks) == [future.task_id]


def test_one_that_is_not_awaited_is_sent_on_its_own_account(driver: Driver) -> None:
    driver.client.outgoing.drain()
    driver.pump.kicks.clear()
    driver.submit("abc")
    assert driver.pump.kicks


def test_a_result_that_cannot_be_read_any_more_is_lost(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*_: object) -> None:
        raise SegmentLost((3 << 40) + 1, "the file is damaged")

    future = driver.submit(1)
    monkeypatch.setattr(driver.client.packer, "unpack", unpack)
    driver.reply([future], payload=b"\0")
    with pytest.raises(ObjectLostError, match=r"the result of len is lost: what worker 3 had made.*is damaged") as lost:
        future.result(0)
    assert (lost.value.task, isinstance(lost.value.__cause__, SegmentLost)) == ("len", True)
