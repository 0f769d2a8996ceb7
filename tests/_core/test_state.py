"""The hub's memory."""

from __future__ import annotations

from scalepool._core.state import HubState


def test_the_earliest_alarm_stands() -> None:
    state = HubState(30.0)
    assert state.alarm_at is None
    state.alarm(5.0)
    state.alarm(7.0)
    assert state.alarm_at == 5.0
    state.alarm(3.0)
    assert state.alarm_at == 3.0
