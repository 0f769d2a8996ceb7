from __future__ import annotations

import pickle

import pytest

from scalepool._shims.outcomes import MISSING, attach_partial_results, capture, check_on_error, is_failed, mark_failed
from scalepool.errors import RemoteTraceback


class Unfriendly(Exception):
    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.second = second


class Closed(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_missing_stays_one_object() -> None:
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert repr(MISSING) == "MISSING"


def test_a_failure_keeps_class_attributes_and_traceback() -> None:
    def fail() -> None:
        raise Unfriendly(1, 2)

    try:
        fail()
    except Unfriendly as error:
        failure = pickle.loads(pickle.dumps(capture(error)))

    revived = failure.revive(RemoteTraceback)
    assert type(revived) is Unfriendly
    assert revived.second == 2
    assert "in fail" in revived.__cause__.tb


def test_only_flagged_exceptions_count_as_failed() -> None:
    assert not is_failed(ValueError("a result"))
    assert not is_failed(1)
    assert is_failed(mark_failed(ValueError("a failure")))


def test_partial_results_are_attached_where_possible() -> None:
    error = ValueError()
    attach_partial_results(error, [1, MISSING])
    attach_partial_results(Closed(), [1])

    assert error.partial_results == [1, MISSING]  # type: ignore[attr-defined]


def test_on_error_is_one_of_three() -> None:
    assert check_on_error("return") == "return"
    with pytest.raises(ValueError, match="on_error must be"):
        check_on_error("ignore")  # type: ignore[arg-type]
