"""References of a process, against a fake pump: what is counted, what the hub is told, and in which order."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from _runtime.test_client import Driver
from scalepool._core.task import PLAIN
from scalepool._runtime.outgoing import KeptCall
from scalepool._runtime.puts import put
from scalepool._runtime.slots import Gathering
from scalepool._runtime.values import values_of
from scalepool._wire import messages as m
from scalepool._wire.messages import Message, Status
from scalepool.errors import ObjectLostError, SessionError, TaskCancelledError

if TYPE_CHECKING:
    from scalepool._runtime.refs import ObjectRef


class Holder(Driver):
    """A driver whose calls are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.values = values_of(self.client)
        self.said()

    def keep(self, *args: Any, returns: int = 1, **kwargs: Any) -> list[ObjectRef[Any]]:
        return self.values.submit(self.group, self.fn, (args, kwargs), KeptCall("f", returns, PLAIN, 0))

    def said(self) -> list[Message]:
        return self.client.outgoing.drain()

    def hears(self, *values: int, status: Status = Status.VALUE, payload: bytes = pickle.dumps(5)) -> None:
        count = len(values)
        self.client.receive(m.Replies(values, [status] * count, [0] * count, [payload] * count))


def kinds(messages: list[Message]) -> list[type]:
    return [type(message) for message in messages]


def test_a_call_says_how_many_values_it_makes_and_which_it_needs() -> None:
    driver = Holder()
    (first,) = driver.keep(1)
    a, b = driver.keep(first, [first], key=first, returns=2)
    (submit,) = driver.said()
    assert isinstance(submit, m.Submit)
    assert list(submit.tasks) == [first.id, a.id]
    assert (b.id, submit.returns) == (a.id + 1, [1, 2])
    assert (submit.need_counts, submit.needs) == ([0, 2], [first.id] * 2)
    assert (submit.reference_counts, submit.references) == ([0, 1], [first.id])


def test_the_last_reference_releases_the_value() -> None:
    driver = Holder()
    (ref,) = driver.keep(1)
    again = driver.values.adopt(ref.id, ref.id, "f")
    driver.said()
    value = ref.id
    del ref
    assert driver.said() == []
    del again
    assert driver.said() == [m.Release([value])]
    assert not driver.values.table
    assert driver.values.awaited == 0


def test_a_reference_that_came_is_held_and_the_news_comes_first() -> None:
    driver = Holder()
    own = put(driver.values, "mine")
    driver.said()
    value = own.id
    borrowed = driver.values.adopt(77, 77, "g")
    del own
    assert driver.said() == [m.Hold([77]), m.Release([value])]
    assert "elsewhere" in repr(borrowed)


def test_a_reference_that_came_and_went_is_released_for_good_measure() -> None:
    driver = Holder()
    driver.values.adopt(77, 77, "g")
    assert driver.said() == [m.Release([77])]


def test_a_borrowed_value_is_asked_for_once_and_only_when_wanted() -> None:
    driver = Holder()
    ref = driver.values.adopt(77, 77, "g")
    assert kinds(driver.said()) == [m.Hold]
    driver.values.slots([ref, ref])
    driver.values.slots([ref])
    assert driver.said() == [m.Want([77])]
    assert driver.client.busy
    driver.hears(77)
    assert not driver.client.busy
    assert driver.values.load(driver.values.table[77]) == 5


def test_what_has_been_put_is_there_at_once() -> None:
    driver = Holder()
    ref = put(driver.values, [1, 2])
    assert driver.values.load(driver.values.table[ref.id]) == [1, 2]
    (keep,) = driver.said()
    assert isinstance(keep, m.Keep)
    assert keep.value == ref.id


def test_each_load_is_an_object_of_its_own() -> None:
    driver = Holder()
    slot = driver.values.table[(ref := put(driver.values, [1])).id]
    assert driver.values.load(slot) == driver.values.load(slot) == [1]
    assert driver.values.load(slot) is not driver.values.load(slot)
    del ref


def test_an_answer_for_a_value_that_was_dropped_is_nobodys() -> None:
    driver = Holder()
    (ref,) = driver.keep(1)
    value = ref.id
    del ref
    driver.said()
    driver.hears(value)
    assert not driver.values.table


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [(Status.CANCELLED, TaskCancelledError, "f was cancelled"), (Status.LOST, ObjectLostError, "of f is gone")],
)
def test_what_is_not_there_raises(status: Status, error: type[Exception], text: str) -> None:
    driver = Holder()
    (ref,) = driver.keep(1)
    driver.hears(ref.id, status=status, payload=b"")
    with pytest.raises(error, match=text):
        driver.values.load(driver.values.table[ref.id])


def test_gathering_ends_with_the_last_or_with_the_first_failure() -> None:
    driver = Holder()
    refs = [driver.keep(n)[0] for n in range(3)]
    patient = Gathering(driver.values, driver.values.slots(refs), eager=False)
    hasty = Gathering(driver.values, driver.values.slots(refs))
    some = Gathering(driver.values, driver.values.slots(refs), 2, eager=False)
    driver.hears(refs[0].id)
    assert (patient(), hasty(), some()) == (False, False, False)
    driver.hears(refs[1].id, status=Status.CANCELLED, payload=b"")
    assert (patient(), hasty(), some()) == (False, True, True)
    driver.hears(refs[2].id)
    assert patient()


def test_watchers_that_gave_up_leave_nothing_behind() -> None:
    driver = Holder()
    (ref,) = driver.keep(1)
    for _ in range(3):
        assert not Gathering(driver.values, driver.values.slots([ref])).wait(0.0)
    assert driver.values.table[ref.id].watchers == []


def test_a_reference_of_another_session_is_refused() -> None:
    driver, other = Holder(), Holder()
    (ref,) = other.keep(1)
    with pytest.raises(SessionError, match="another session"):
        driver.keep(ref)
    with pytest.raises(SessionError, match="another session"):
        driver.values.slots([ref])
