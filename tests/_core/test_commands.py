"""Commands are values."""

from __future__ import annotations

from typing import Any

import pytest

from scalepool._core.commands import Drop, KillWorker, Note, Send, StartWorker
from scalepool._wire.messages import Exit

COMMANDS = [Send(1, Exit()), StartWorker(1, b""), KillWorker(1, force=True), Drop((1,)), Note("text")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_frozen_values(command: Any) -> None:
    assert command == command._replace()
    assert not hasattr(command, "__dict__")
    for name in command._fields:
        with pytest.raises(AttributeError):
            setattr(command, name, None)
