"""scalepool.progress over plain iterables, and what it says of wrong arguments; over references: tests/live."""

from __future__ import annotations

from typing import Any

import pytest

import scalepool


class Log(list[tuple[int, Any, int]]):
    closed = 0

    def __call__(self, *report: Any) -> None:
        self.append(report)  # type: ignore[arg-type]

    def close(self) -> None:
        self.closed += 1


def test_what_it_iterates_over_comes_as_it_is() -> None:
    log = Log()
    assert list(scalepool.progress([3, 1, 2], show=log)) == [3, 1, 2]
    assert log[-1] == (3, 3, 0)
    assert log.closed == 1


def test_an_iterator_has_no_length_unless_it_is_told() -> None:
    log = Log()
    assert list(scalepool.progress(iter("ab"), show=log)) == ["a", "b"]
    assert log[0][1] is None
    assert log[-1] == (2, 2, 0)
    told = Log()
    list(scalepool.progress(iter("ab"), total=5, show=told))
    assert told[-1] == (2, 5, 0)


@pytest.mark.parametrize("error", [KeyError, None])
def test_a_loop_left_early_shows_how_far_it_came(error: type[Exception] | None) -> None:
    log = Log()

    def source() -> Any:
        yield 1
        if error is not None:
            raise error
        yield 2

    looping = scalepool.progress(source(), total=9, show=log)
    next(looping)
    if error is not None:
        with pytest.raises(error):
            next(looping)
    else:
        looping.close()  # type: ignore[attr-defined]
    assert log[-1] == (1 if error else 0, 9, 0)
    assert log.closed == 1


def test_nothing_shown_nothing_changed() -> None:
    assert list(scalepool.progress((), show=None)) == []
    assert list(scalepool.progress({"a": 1}, show=None)) == ["a"]


def test_what_makes_no_sense() -> None:
    with pytest.raises(TypeError, match="progress must be True"):
        scalepool.progress([1], show=5)
    with pytest.raises(TypeError, match="not iterable"):
        scalepool.progress(5)  # type: ignore[type-var]
    for total in (-1, True, 1.5):
        with pytest.raises(ValueError, match="total must be"):
            scalepool.progress([1], total=total)  # type: ignore[arg-type]
