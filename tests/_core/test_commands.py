"""Commands are values."""

from __future__ import annotations

import dataclasses

import pytest

from scalepool._core.commands import Drop, KillWorker, Note, Send, StartWorker
from scalepool._wire.messages import Exit

COMMANDS = [Send(1, Exit()), StartWorker(1, b""), KillWorker(1, force=True), Drop((1,)), Note("text")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_frozen_values(command: object) -> None:
    assert command == dataclasses.replace(command)  # type: ignore[type-var]
    assert not hasattr(command, "__dict__")
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(command, field.name, None)
