"""Events are values."""

from __future__ import annotations

from typing import Any

import pytest

from scalepool._core.events import LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._wire.messages import Unblock

EVENTS = [Received(1, Unblock()), WorkerStarted(1, 2), LaunchFailed(1, "why"), WorkerExited(1, None), Tick()]


@pytest.mark.parametrize("event", EVENTS)
def test_events_are_frozen_values(event: Any) -> None:
    assert event == event._replace()
    assert not hasattr(event, "__dict__")
    for name in event._fields:
        with pytest.raises(AttributeError):
            setattr(event, name, None)
