"""What becomes of a task whose worker is gone."""

from __future__ import annotations

import pytest

from scalepool._core.retry import Verdict, after_death, without_item
from scalepool._core.task import Terms
from scalepool._wire.messages import Status
from scalepool._wire.verdict import Loss


@pytest.mark.parametrize(
    ("started", "attempt", "max_retries", "expected"),
    [
        (False, 1, 0, Verdict.REQUEUE),
        (False, 9, 0, Verdict.REQUEUE),
        (True, 1, 0, Verdict.FAIL),
        (True, 1, 1, Verdict.RETRY),
        (True, 2, 1, Verdict.FAIL),
        (True, 2, 2, Verdict.RETRY),
        (True, 1, -1, Verdict.FAIL),
    ],
)
def test_after_death(started: bool, attempt: int, max_retries: int, expected: Verdict) -> None:
    assert after_death(started=started, attempt=attempt, max_retries=max_retries) is expected


def loss(item: int, status: Status = Status.WORKER_DIED) -> Loss:
    return Loss(item, status, b"why")


def test_an_item_is_tried_again_as_often_as_it_may_be_and_then_given_up() -> None:
    terms = Terms(max_retries=2)
    for _ in range(2):
        terms = without_item(terms, loss(4)) or pytest.fail("given up too early")
        assert terms.losses == ()
    terms = without_item(terms, loss(4)) or pytest.fail("the others can go on")
    assert terms.losses == (loss(4),)
    assert terms.tried == (4, 4)


def test_each_item_has_retries_of_its_own() -> None:
    terms = without_item(Terms(max_retries=1, tried=(4,)), loss(5))
    assert terms is not None
    assert terms.losses == ()


def test_an_item_that_took_too_long_is_not_tried_again() -> None:
    terms = without_item(Terms(max_retries=9), loss(1, Status.TIMED_OUT))
    assert terms is not None
    assert terms.losses == (loss(1, Status.TIMED_OUT),)


def test_a_task_that_ends_at_an_item_it_was_to_leave_out_cannot_go_on() -> None:
    assert without_item(Terms(losses=(loss(1),)), loss(1)) is None
