"""Events are values."""

from __future__ import annotations

import dataclasses

import pytest

from scalepool._core.events import LaunchFailed, Received, Tick, WorkerExited, WorkerStarted
from scalepool._wire.messages import Unblock

EVENTS = [Received(1, Unblock()), WorkerStarted(1, 2), LaunchFailed(1, "why"), WorkerExited(1, None), Tick()]


@pytest.mark.parametrize("event", EVENTS)
def test_events_are_frozen_values(event: object) -> None:
    assert event == dataclasses.replace(event)  # type: ignore[type-var]
    assert not hasattr(event, "__dict__")
    for field in dataclasses.fields(event):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
