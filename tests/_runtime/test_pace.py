from __future__ import annotations

from scalepool._runtime.pace import Pace


def test_looks_become_rare_while_all_is_quiet_and_frequent_when_something_stirs() -> None:
    pace = Pace(0.003)
    assert pace.next_s(100.0, stirred=True) == 0.003
    assert pace.next_s(100.05, stirred=False) == 0.003
    assert 0.004 < pace.next_s(100.1, stirred=False) < 0.006
    assert pace.next_s(110.0, stirred=False) == 0.03
    assert pace.next_s(110.1, stirred=True) == 0.003
    assert pace.next_s(110.11, stirred=False) == 0.003


def test_nothing_is_late_by_more_than_a_twentieth_of_the_quiet_before_it() -> None:
    pace = Pace(0.003)
    now = 0.0
    pace.next_s(now, stirred=True)
    for _ in range(1000):
        sleep_s = pace.next_s(now, stirred=False)
        assert sleep_s <= max(0.003, now / 19.99)
        now += sleep_s


def test_a_slow_tick_stays_as_it_was_asked_for() -> None:
    pace = Pace(1.0)
    assert pace.next_s(5.0, stirred=True) == pace.next_s(500.0, stirred=False) == 1.0
