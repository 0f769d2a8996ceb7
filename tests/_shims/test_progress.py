from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from scalepool._shims.progress import ProgressMeter, Reporter, Tracker, progress_sink


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
    sink.close()  # type: ignore[attr-defined]

    assert capsys.readouterr().err == "\r1/2\r2/2, 1 failed\n"


class Bar:
    """What of tqdm is used."""

    made: list[Bar] = []  # noqa: RUF012

    def __init__(self, total: int | None = None) -> None:
        self.total, self.n, self.closed, self.postfix = total, 0, False, {}
        Bar.made.append(self)

    def update(self, count: int) -> None:
        self.n += count

    def set_postfix(self, refresh: bool, **values: int) -> None:
        self.postfix = values

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _no_bars() -> None:
    Bar.made.clear()


@pytest.mark.parametrize("progress", [True, "tqdm"])
def test_tqdm_shows_a_bar_when_it_is_there(monkeypatch: pytest.MonkeyPatch, progress: Any) -> None:
    module = type(builtins)("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    sink = progress_sink(progress)
    assert sink is not None
    sink(3, 10, 0)
    Reporter(sink, lambda delivery: delivery(True)).post_last((10, 10, 2))

    (bar,) = Bar.made
    assert (bar.n, bar.closed, bar.postfix) == (10, True, {"failed": 2})


def test_a_class_of_tqdms_makes_the_bar() -> None:
    sink = progress_sink(Bar)
    assert sink is not None
    sink(1, 2, 0)

    assert [(bar.n, bar.total) for bar in Bar.made] == [(1, 2)]


def test_a_bar_of_the_users_is_moved_on_and_left_open() -> None:
    bar = Bar(total=100)
    bar.update(40)
    sink = progress_sink(bar)
    assert sink is not None
    sink(10, None, 0)
    Reporter(sink, lambda delivery: delivery(True)).post_last((60, 60, 0))

    assert (bar.n, bar.total, bar.closed) == (100, 100, False)
    assert len(Bar.made) == 1


def test_asking_for_tqdm_where_there_is_none_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install 'scalepool\[progress\]'"):
        progress_sink("tqdm")


def test_a_bar_is_closed_also_where_user_code_is_not_wanted_any_more() -> None:
    sink = progress_sink(Bar)
    assert sink is not None
    sink(1, 2, 0)
    called: list[bool] = []
    Reporter(sink, lambda delivery: delivery(False)).post_last((2, 2, 0), lambda: called.append(True))

    (bar,) = Bar.made
    assert (bar.n, bar.closed, called) == (1, True, [True])


def test_a_tracker_ends_with_the_last_task() -> None:
    reports: list[Any] = []
    ended: list[bool] = []
    reporter = Reporter(lambda *report: reports.append(report), lambda delivery: delivery(True))
    tracker = Tracker(reporter, None, lambda: ended.append(True))
    for _ in range(3):
        tracker.begin()
    tracker.end(2)
    tracker.end(3, 1)
    tracker.no_more()
    assert not ended
    tracker.end(0)  # cancelled
    tracker.no_more()

    assert (reports[0], reports[-1], ended) == ((2, None, 0), (5, 5, 1), [True])
