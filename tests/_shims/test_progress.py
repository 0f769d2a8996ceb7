from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from scalepool._shims.progress import ProgressMeter, Reporter, progress_sink


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_reports_come_at_most_ten_times_a_second_and_once_at_the_end() -> None:
    clock = Clock()
    meter = ProgressMeter(1000, clock)
    reports = []
    for number in range(1000):
        clock.now_s = number * 0.001
        reports.append(meter.advance(1, failed=number % 100 == 0))
    shown = [report for report in reports if report]

    assert 9 <= len(shown) <= 11
    assert meter.finish() == (1000, 1000, 10)
    assert meter.finish() is None


def test_an_unknown_total_is_known_at_the_end() -> None:
    meter = ProgressMeter(None, Clock())

    assert meter.advance(3) == (3, None, 0)
    assert meter.finish() == (3, 3, 0)


def test_a_callable_is_called_as_it_is() -> None:
    calls: list[Any] = []

    def show(*report: object) -> None:
        calls.append(report)

    assert progress_sink(show) is show
    Reporter(show, lambda delivery: delivery(True)).post((1, 2, 0))
    Reporter(show, lambda delivery: delivery(False)).post((2, 2, 0))
    assert calls == [(1, 2, 0)]


@pytest.mark.parametrize("nothing", [None, False])
def test_no_progress_is_the_default(nothing: Any) -> None:
    assert progress_sink(nothing) is None


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="progress must be"):
        progress_sink(3)  # type: ignore[arg-type]


def test_without_tqdm_a_line_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    sink = progress_sink(True)
    assert sink is not None
    sink(1, 2, 0)
    sink(2, 2, 1)

    assert capsys.readouterr().err == "\r1/2\r2/2, 1 failed\n"


def test_tqdm_shows_a_bar_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bar:
        made: list[Bar] = []  # noqa: RUF012

        def __init__(self, total: int | None) -> None:
            self.total, self.n, self.closed, self.postfix = total, 0, False, {}
            Bar.made.append(self)

        def update(self, count: int) -> None:
            self.n += count

        def set_postfix(self, refresh: bool, **values: int) -> None:
            self.postfix = values

        def close(self) -> None:
            self.closed = True

    module = type(builtins)("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    sink = progress_sink(True)
    assert sink is not None
    sink(3, 10, 0)
    sink(10, 10, 2)

    (bar,) = Bar.made
    assert (bar.n, bar.closed, bar.postfix) == (10, True, {"failed": 2})
